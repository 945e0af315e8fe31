"""The explorer: what it is made of, the script, and the page in a real browser."""

import functools
import re
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from scripting.build import connectome_of, network_of, observation_of, parameters_of, simulated
from scripting.compose import DEMO, command_line, composed, data_settings

import fitting as ft
from fitting.data import centres_of
from fitting.evaluate import agreement
from fitting.optimize import Parameters
from fitting.predict import operating_point
from fitting.report import interactive
from fitting.response import unstable_roots

PAGE = Path(__file__).resolve().parents[2] / "experiments" / "explore.py"


@pytest.mark.slow
def test_the_operating_point_is_what_the_predictor_says():
    network = ft.Network(ft.hcp_aal2(regions=6), parameters={"drive": 0.6})
    response = ft.LinearResponse(network, ft.Observation(orthogonalize=False))
    at, values = operating_point(response, response.observation.frequencies), {"k": 1.0, "drive": 0.65}
    point, prediction = at(values), response.predict(values, spectrum=True)
    np.testing.assert_allclose(point.fc, prediction.fc, rtol=1e-10)
    np.testing.assert_allclose(point.power, prediction.spectra[0], rtol=1e-10)
    np.testing.assert_allclose(point.activity, response.activity(values).steady[:, 0], rtol=1e-12)
    for drive, grows in ((0.65, False), (0.8, True)):
        driven = values | {"drive": drive}
        assert bool(at(driven).growth > 0) is grows
        assert bool(unstable_roots(response.activity(driven))) is grows


def test_files_are_told_apart(tmp_path):
    connectome = ft.hcp_aal2(regions=4)
    labels = connectome["target"].values.tolist()
    rng = np.random.default_rng(0)
    matrix = rng.uniform(0, 0.5, (4, 4))
    matrix = (matrix + matrix.T) / 2
    np.savez(tmp_path / "fc.npz", fc=matrix, labels=labels)
    np.savez(tmp_path / "signals.npz", signals=rng.standard_normal((500, 4)), fs=100.0, labels=labels)
    (tmp_path / "words.csv").write_text("nothing to see\n")
    assert data_settings(None, None) == list(DEMO)
    assert data_settings(f"{tmp_path}/fc.npz", None) == ["data=fc_matrix", f"data.path={tmp_path}/fc.npz"]
    assert data_settings(f"{tmp_path}/signals.npz", "c.npz")[::2] == ["data=recording", "data.connectome=c.npz"]
    with pytest.raises(ft.InputError, match=r"words\.csv is neither a connectivity matrix .* nor a recording"):
        data_settings(f"{tmp_path}/words.csv", None)
    with pytest.raises(ft.InputError, match="there is no file or folder nowhere"):
        data_settings("nowhere.csv", None)


def test_the_command_line_is_quoted():
    line = command_line(["data.duration=60 s", "observation.band=[8,12]"])
    assert shlex.split(line)[2:] == ["data.duration=60 s", "observation.band=[8,12]"]


def test_a_written_page_needs_no_network(tmp_path):
    figure = interactive.matrix(np.full((2, 2), 0.1), ["PreCG.L", "PreCG.R"], "two regions")
    interactive.write_page("A <page>", {"One": ["a sentence", figure]}, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "A &lt;page&gt;" in text
    assert "two regions" in text
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="http', text)


@pytest.mark.parametrize("chosen", [None, 0.25])
def test_matrices_are_drawn_on_the_scale_that_is_asked_for(chosen):
    fc = np.array([[0, 0.1], [0.1, 0]])
    assert interactive.matrix(fc, ["A", "B"], "", chosen).data[0].zmax == (chosen or 0.1)


@pytest.mark.slow
def test_the_script_runs_and_writes_a_page(tmp_path):
    run = subprocess.run([sys.executable, PAGE], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    assert re.match(r"r = 0\.\d+, concordance", run.stdout)
    assert (tmp_path / "outputs" / "explore.html").stat().st_size > 1e6


@pytest.mark.slow
def test_the_script_says_what_is_wrong_with_a_file(tmp_path):
    (tmp_path / "words.csv").write_text("nothing to see\n")
    command = [sys.executable, PAGE, "--data", "words.csv"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert run.returncode != 0
    assert "error: words.csv is neither a connectivity matrix" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.fixture(scope="module")
def address(browser, tmp_path_factory):
    """Where the page is served."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "marimo", "run", str(PAGE), "--headless", "--no-token", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            time.sleep(0.2)
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def page(browser, address):
    """The page as it is opened, and what its console complains of."""
    page = browser.new_page(viewport={"width": 1280, "height": 4000})
    complaints = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    # marimo asks for MathJax, for formulas in figures; there are none, and there may be no network.
    page.route(re.compile("mathjax"), lambda route: route.fulfill(body="", content_type="text/javascript"))
    page.goto(address)
    page.get_by_role("button", name="fit from here").wait_for(timeout=120_000)
    page.complaints = complaints
    return page


def _command(page) -> list[str]:
    text = page.locator("pre", has_text="experiments/fit.py").first.inner_text()
    return shlex.split(text)[2:]


@functools.cache
def _recordings():
    """The recording that the page shows."""
    demo = composed(list(DEMO))
    network = network_of(demo, connectome_of(demo)).for_speeds(1.0, 40.0)
    return simulated(demo, network, observation_of(demo, network), 0.25).recordings


def _expected(settings: list[str]) -> str:
    """What the page must say of these settings, by the library."""
    jax.config.update("jax_enable_x64", False)
    try:
        config = composed(settings)
        connectome = connectome_of(config)
        network = network_of(config, connectome)
        parameters = Parameters(tuple(parameters_of(config)), network)
        network = network.for_speeds(*parameters.speeds)
        observation = observation_of(config, network)
        target = np.asarray(ft.Target.of_recordings(_recordings(), observation).fc, float)
        values = parameters.values(parameters.start())
        response = ft.LinearResponse(network, observation)
        if response.growth(response.activity(values), observation).max() >= 0:
            return "No score where linear response does not hold"
        return f"r = {agreement(np.asarray(response.predict(values).fc), target).r:.3f}"
    finally:
        jax.config.update("jax_enable_x64", True)


def _alike(said: str, expected: str) -> bool:
    """Whether two sentences are the same, or two correlations but for their last digit."""
    if said.startswith("r") and expected.startswith("r"):
        return abs(float(said[4:]) - float(expected[4:])) < 1.5e-3
    return said == expected


def _agrees(page, before: list[str], seconds: float = 60.0):
    """Wait until the page's command has changed, and until it says what the library says of that."""
    expected, said, until = {}, "nothing", time.monotonic() + seconds
    while time.monotonic() < until:
        settings = _command(page)
        if settings != before:
            # The next key may be on its way.
            said = page.locator("strong", has_text=re.compile("^(r = |No score)")).first.inner_text()
            name = tuple(settings)
            expected[name] = expected.get(name) or _expected(settings)
            if settings == _command(page) and _alike(said.split(",")[0], expected[name]):
                return
        time.sleep(0.1)
    raise AssertionError(f"the page says {said}, the library {expected}")


@pytest.mark.slow
@pytest.mark.parametrize("number", range(7), ids=["low", "high", "low-pass", "k", "speed", "sigma", "drive"])
def test_every_slider_moves_the_page_to_what_the_library_says(page, number, unchecked):
    before = _command(page)
    page.locator("[role=slider]").nth(number).focus()
    page.keyboard.press("ArrowRight")
    _agrees(page, before)


@pytest.mark.slow
def test_switch_and_lists_do_too(page, unchecked):
    before = _command(page)
    page.get_by_role("switch").first.click()
    _agrees(page, before)
    for label, choice in (("filter", "fir"), ("coupling", "additive"), ("coupling", "diffusive"), ("node", "hopf")):
        before = _command(page)
        page.get_by_label(label, exact=True).select_option(choice)
        _agrees(page, before)
    before = _command(page)
    page.get_by_label("node", exact=True).select_option("wilson_cowan_alpha")
    _agrees(page, before)


@pytest.mark.slow
def test_the_brain_takes_other_colours(page):
    page.get_by_label("colour").select_option("power in the band")
    page.locator(".gtitle", has_text="power in the band").wait_for(timeout=30_000)


@pytest.mark.slow
def test_a_click_on_the_matrix_chooses_two_regions(page):
    lists = page.locator("button", has_text=re.compile(r"^\w+\.[LR]$"))
    before = lists.nth(0).inner_text()
    box = page.locator(".js-plotly-plot .nsewdrag").first.bounding_box()
    page.mouse.click(box["x"] + 0.31 * box["width"], box["y"] + 0.71 * box["height"])
    for _ in range(100):
        if lists.nth(0).inner_text() != before:
            break
        time.sleep(0.1)
    chosen = [lists.nth(number).inner_text().strip() for number in range(2)]
    labels = list(ft.hcp_aal2()["target"].values)
    order = interactive.lobe_order(labels)
    assert labels.index(chosen[0]) == order[int(0.71 * 80)]
    assert labels.index(chosen[1]) == order[int(0.31 * 80)]


@pytest.mark.slow
def test_a_click_on_the_brain_chooses_a_region(page):
    region = page.locator("button", has_text=re.compile(r"^\w+\.[LR]$")).nth(0)
    brain = page.locator(".js-plotly-plot", has_text="from above")
    connectome = ft.hcp_aal2()
    labels = connectome["target"].values.tolist()
    above = interactive.brain_from_above(centres_of(connectome), np.arange(80), labels, "")
    for number in (79, 60):
        name = above.data[0].text[number]
        for _ in range(30):
            # A click is lost while the last one's brain is being drawn.
            box = brain.locator(".points path").nth(number).bounding_box()
            page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            time.sleep(1)
            if region.inner_text().strip() == name:
                break
        assert region.inner_text().strip() == name


@pytest.mark.slow
def test_buttons_simulate_and_fit(page):
    page.get_by_role("button", name="simulate 30 s").click()
    page.get_by_text("30 s of simulation: r =").wait_for(timeout=120_000)
    page.get_by_role("button", name="fit from here").click()
    page.get_by_text(re.compile(r"(converged|max_steps|stalled|at_bounds): loss")).wait_for(timeout=120_000)


@pytest.mark.slow
def test_the_page_fits_a_phone_and_the_console_is_silent(page):
    page.set_viewport_size({"width": 390, "height": 900})
    time.sleep(1)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.complaints == []

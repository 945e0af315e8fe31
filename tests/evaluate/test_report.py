"""Summaries of fits that went well and of one that diverged."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from fitting.data import connectome, recording
from fitting.errors import InputError
from fitting.evaluate import Ceiling, Evaluation, Identifiability, Profile, SeedScores, SurrogateTest
from fitting.network import Network
from fitting.objective import Target
from fitting.optimize import FitResult, Parameter, Parameters
from fitting.report import draw, headline, read_result, summarize, table, to_dataset, write_html
from fitting.report.page import CAPTIONS
from fitting.signal import Observation

LABELS = ["A.L", "A.R", "B.L"]


def results(score, finite):
    rng = np.random.default_rng(0)
    fc = np.array([[0, 0.1, 0.2], [0.1, 0, 0.3], [0.2, 0.3, 0]])
    parameters = Parameters(
        [Parameter("k", 1.0, 0.1, 5.0), Parameter("drive", 0.6, 0.4, 0.8, per_region=True)],
        Network(np.ones((3, 3)), np.full((3, 3), 50.0)),
    )
    values = {"k": np.array(1.0), "drive": np.full(3, 0.6)}
    history = {name: np.full(4, score) for name in ("loss", "fc_correlation", "spectrum", "gradient_norm", "seconds")}
    history |= {"finite": np.full(4, finite), "parameter_k": np.ones(4), "parameter_drive": np.full((4, 3), 0.6)}
    status = "max_steps" if finite else "diverged"
    result = FitResult(status, values, values, values, history, "best step", 0 if finite else 4, 1.0, 2.0)
    signals = score * rng.standard_normal((1000, 3))
    fresh = SeedScores(np.full(3, score), np.full(3, score), fc * score, signals, 10.0)
    evaluation = Evaluation(
        fresh,
        score,
        {"k": Identifiability(True, "seen", (0.9, 1.3), {"drive": 0.9})},
        {"k": Profile(np.array([0.5, 1.0, 2.0]), np.array([0.1, 0.5, 0.2]), np.array([9.0, 0.0, 5.0]), "1", None)},
        {"structural_weights": 0.2, "minus_length": 0.3},
        views={"beta 13-30 Hz": {"r": score, "sd": 0.1, "baselines": {"minus_length": 0.1}}},
        nulls={"zero_delays": 0.1},
        surrogates={"rewired": SurrogateTest(score, np.array([0.1, 0.2]), 1 / 3)},
        ceiling=Ceiling(0.81, 0.9, "halves agree"),
        notes=["A note."],
    )
    summary = summarize(result, parameters, evaluation, seed=0, true={"k": 1.2})
    brain = connectome(np.ones((3, 3)), np.full((3, 3), 50.0), LABELS, centres=rng.standard_normal((3, 3)))
    target = Target(jnp.asarray(fc))
    return summary, to_dataset(result, target, evaluation, brain, 100.0, parameters=parameters)


@pytest.mark.parametrize(("score", "finite"), [(0.5, True), (float("nan"), False)])
def test_everything_can_be_written(score, finite, tmp_path):
    from rich.console import Console

    summary, data = results(score, finite)
    text = json.dumps(summary, allow_nan=False)  # no NaN in the file
    assert json.loads(text)["parameters"]["drive"]["fitted"] == [0.6] * 3
    console = Console(record=True, width=120)
    console.print(table(summary))
    shown = console.export_text()
    assert "structural weights" in shown
    assert ("0.5" if finite else "diverged") in shown
    piece = recording(np.random.default_rng(1).standard_normal((3000, 3)), 200.0, LABELS)
    pictures = draw(summary, data, tmp_path, Observation(low_pass=1.0), [piece], region="B.L", reference="A.L")
    signals = {"traces", "spectra", "simulated_envelope", "raw_and_band", "orthogonalization", "smoothed_pair"}
    assert {p.stem for p in pictures} == set(CAPTIONS) - (set() if finite else signals)
    assert all(p.with_suffix(".pdf").stat().st_size > 1000 for p in pictures)
    write_html(summary, pictures, "python experiments/fit.py", "seed: 0", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == len(pictures)
    assert "http" not in page.replace("http-equiv", "")
    assert headline(summary) in page
    if not finite:
        assert "no score" in page


def test_the_headline_says_what_is_explained():
    summary, _ = results(0.6, True)
    # r = 0.6 of at most 0.9: (0.6 / 0.9)^2; fibre length (0.3 / 0.9)^2.
    words = headline(summary)
    assert "explains 44 % of the explainable variance" in words
    assert "fibre length alone explains 11 %" in words
    summary["ceiling"] = None
    assert "explains 36 % of the variance between pairs" in headline(summary)
    summary["fc_correlation"]["held_out"] = {"r": 0.5, "baselines": {"minus_length": 0.4, "rank_two": 0.7}}
    assert "explains 25 % of the variance between pairs of regions on pairs that it has not seen" in headline(summary)
    assert "two loadings per region, 49 %" in headline(summary)


def test_figures_refuse_regions_that_are_not_there(tmp_path):
    summary, data = results(0.5, True)
    with pytest.raises(InputError, match=r"no region is called 'C.L'; choose from A.L, A.R, B.L"):
        draw(summary, data, tmp_path, Observation(), region="C.L")


def test_a_result_is_read_as_it_was_written(tmp_path):
    summary, data = results(0.5, True)
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    data.to_netcdf(tmp_path / "result.nc", engine="h5netcdf")
    network = Network(np.ones((3, 3)), np.full((3, 3), 50.0))
    k, drive = Parameter("k", 1.0, 0.1, 5.0), Parameter("drive", 0.6, 0.4, 0.8, per_region=True)
    result, again = read_result(tmp_path, Parameters([k, drive], network))
    assert again == summary
    np.testing.assert_array_equal(result.fitted["drive"], np.full(3, 0.6))
    np.testing.assert_array_equal(result.history["finite"], np.full(4, True))
    with pytest.raises(InputError, match="has the parameters k, drive, not k"):
        read_result(tmp_path, Parameters([k], network))
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        read_result(tmp_path, Parameters([k, drive], network))
    (tmp_path / "summary.json").unlink()
    with pytest.raises(InputError, match=r"no finished fit: summary.json is missing"):
        read_result(tmp_path, Parameters([k, drive], network))


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def test_the_page_in_a_browser(tmp_path):
    """No error in the console, nothing asked of a network, every figure there, and nothing wider than a phone."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser is installed: {', '.join(BROWSERS)}")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    summary, data = results(0.5, True)
    pictures = draw(summary, data, tmp_path, Observation(low_pass=1.0))
    write_html(summary, pictures, "python experiments/fit.py", "seed: 0", tmp_path / "report.html")
    with playwright.sync_playwright() as play:
        running = play.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for width in (390, 1280):
            page = running.new_page(viewport={"width": width, "height": 800})
            messages, requests = [], []
            page.on("console", lambda message, messages=messages: messages.append(message.text))
            page.on("pageerror", lambda error, messages=messages: messages.append(str(error)))
            page.on("request", lambda request, requests=requests: requests.append(request.url))
            page.goto((tmp_path / "report.html").as_uri())
            assert messages == []
            assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
            sizes = page.eval_on_selector_all("img", "images => images.map(i => [i.naturalWidth, i.clientWidth])")
            assert len(sizes) == len(pictures)
            assert all(natural > 100 and 100 < shown <= width for natural, shown in sizes)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.inner_text(".headline") == headline(summary)
        running.close()

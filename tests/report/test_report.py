"""Tables, figures, the data file and the page, of fits that went well and of one that diverged."""

import html
import io
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from fitting.data import recording
from fitting.errors import InputError
from fitting.optimize import Parameter, Problem
from fitting.report import Summary, draw, headline, read_fit, signals, table, to_dataset, write_html
from fitting.report.page import CAPTIONS
from fitting.report.tables import parameter_rows, score_rows
from fitting.signal import Observation, envelope_fc

LABELS = ["A.L", "A.R", "B.L"]


def shown(summary) -> str:
    console = Console(record=True, width=160, file=io.StringIO())
    console.print(table(summary))
    return console.export_text()


@pytest.mark.slow
@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize(("score", "finite"), [(0.5, True), (float("nan"), False)])
def test_everything_can_be_written(score, finite, held_out, results, tmp_path):
    """Of the summary as it is, and as it is read from its file."""
    _, _, summary, data = results(score, finite, held_out)
    summary.write(tmp_path / "summary.json")
    again = Summary.read(tmp_path / "summary.json")
    for one in (summary, again):
        text = shown(one)
        assert "structural weights" in text
        assert ("Status: max_steps after 4 steps" if finite else "Status: diverged after 4 steps") in text
        assert ("0.500 ± 0.000" in text) == finite
    piece = recording(np.random.default_rng(1).standard_normal((3000, 3)), 200.0, LABELS)
    pictures = draw(again, data, tmp_path, Observation(low_pass=1.0), [piece], region="B.L", reference="A.L")
    signals = {"traces", "spectra", "simulated_envelope", "raw_and_band", "orthogonalization", "smoothed_pair"}
    assert {p.stem for p in pictures} == set(CAPTIONS) - (set() if finite else signals)
    assert all(p.with_suffix(".pdf").stat().st_size > 1000 for p in pictures)
    write_html(again, pictures, "python experiments/fit.py", "seed: 0", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == len(pictures)
    assert "://" not in page  # whatever its pictures hold, in base 64
    assert html.escape(headline(summary)) in page
    assert ("no score" in page) == (not finite)


def test_tables_have_every_score_beside_what_it_is_worth(results):
    rows = dict(row for section in score_rows(results(held_out=True).summary) for row in section)
    assert rows["fitted model, mean FC of 3 fresh seeds"].startswith("1.000 (")
    assert rows["the same without the noise of both sides"].startswith("1.111 (")
    assert rows["single seeds of 10 s"] == "0.500 ± 0.000"
    assert rows["the best that single seeds can reach"] == "0.900"
    assert rows["level: slope of the model on the target"] == "0.5"
    assert rows["mean FC of the model, of the target"] == "0.1, 0.2"
    assert rows["held out (30 % of the pairs): as fitted"] == "0.450 (leak 0.220)"
    assert rows["held out: mean FC of fresh seeds"] == "0.500"
    assert rows["baseline, held out: two loadings per region"] == "0.700 (leak 0.250)"
    assert rows["baseline: minus fibre length"] == "0.300"
    assert rows["beta 13-30 Hz: single seeds"] == "0.500 ± 0.000"
    assert rows["baseline, beta 13-30 Hz: minus fibre length"] == "0.100"
    assert rows["same parameters: zero delays"] == "0.100"
    # Only surrogates that were fitted have a p-value.
    assert rows["fitted like the real one: 3 rewired connectomes (p = 0.5)"].startswith("0.300 ±")
    lost = "same parameters: 3 distance preserving connectomes, 1 without a steady state"
    assert rows[lost].startswith("0.200 ±")
    bare = dict(row for section in score_rows(results(ceiling=None).summary) for row in section)
    assert "the same without the noise of the model" in bare
    assert not any("held out" in name for name in bare)


@pytest.mark.parametrize(
    ("interval", "identifiable", "answer"),
    [
        ([1.0, 2.9], True, "yes"),
        ([1.0, 3.1], True, "roughly"),
        ([-1.0, 3.0], True, "yes"),
        ([1.0, 9.0], False, "not identifiable"),
        (None, True, "yes"),
    ],
)
def test_a_wide_interval_makes_a_parameter_known_roughly(interval, identifiable, answer, results):
    summary = results().summary
    k = replace(summary.parameters["k"], interval=interval, identifiable=identifiable)
    (row,) = parameter_rows(replace(summary, parameters={"k": k}))[1:]
    assert row[-1] == answer


def test_figures_refuse_regions_that_are_not_there(results, tmp_path):
    _, _, summary, data = results()
    with pytest.raises(InputError, match=r"no region is called 'C.L'; choose from A.L, A.R, B.L"):
        draw(summary, data, tmp_path, Observation(), region="C.L")


def test_the_data_file_holds_what_figures_are_made_of(results):
    fit, evaluation, _, data = results()
    np.testing.assert_allclose(data["fitted_fc"], evaluation.fresh.matrices.mean(0))
    np.testing.assert_allclose(data["target_fc"], evaluation.fresh.target)
    np.testing.assert_array_equal(data["fresh_fc_correlation"], evaluation.fresh.fc_correlation)
    np.testing.assert_allclose(data["fitted_drive"], [0.5, 0.6, 0.7])
    np.testing.assert_array_equal(data["surrogate_rewired"], evaluation.surrogates["rewired"].surrogates)
    np.testing.assert_array_equal(data["deviance_k"], [9.0, 0.0, 5.0])
    np.testing.assert_array_equal(data["profile_k"], [0.5, 1.0, 2.0])
    np.testing.assert_array_equal(data["history_parameter_drive"], fit.history["parameter_drive"])
    assert (data.attrs["dropped_regions"], data.attrs["status"]) == ("C.L", "max_steps")
    assert data["time"].values[1] == pytest.approx(0.01)


def test_a_fit_is_read_as_it_was_written(results, tmp_path):
    fit, evaluation, summary, _ = results()
    fit = replace(fit, notes=("It ended at a bound.", "Three starts were raced."))
    data = to_dataset(fit, evaluation)
    summary.write(tmp_path / "summary.json")
    data.to_netcdf(tmp_path / "result.nc", engine="h5netcdf")
    problem = fit.problem
    result, again = read_fit(tmp_path, problem)
    assert again == summary
    assert result.notes == fit.notes
    # Earlier versions did not write the points, only their values.
    data.drop_vars([f"{what}_{name}" for what in ("point", "start") for name in ("k", "drive")]).to_netcdf(
        tmp_path / "result.nc", engine="h5netcdf"
    )
    earlier, _ = read_fit(tmp_path, problem)
    for name in ("k", "drive"):
        for values, of_earlier, expected in (
            (result.fitted, earlier.fitted, fit.fitted),
            (result.initial, earlier.initial, fit.initial),
        ):
            np.testing.assert_array_equal(values[name], expected[name])
            np.testing.assert_allclose(of_earlier[name], expected[name], rtol=1e-12)
    assert result.history.keys() == fit.history.keys()
    for name, values in fit.history.items():
        np.testing.assert_array_equal(result.history[name], values)
        assert result.history[name].dtype == values.dtype
    assert (result.status, result.chosen, result.bad_steps) == ("max_steps", "best step", 0)
    assert result.problem is result.declared is problem
    other = Problem(problem.predictor, [Parameter("k", 1.0, 0.1, 5.0)], problem.target)
    with pytest.raises(InputError, match="has the parameters k, drive, not k"):
        read_fit(tmp_path, other)
    (tmp_path / "result.nc").write_bytes(b"damaged")
    with pytest.raises(InputError, match=f"the fit in {tmp_path} cannot be read"):
        read_fit(tmp_path, problem)
    (tmp_path / "result.nc").unlink()
    with pytest.raises(InputError, match=r"no finished fit: result.nc is missing"):
        read_fit(tmp_path, problem)
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        read_fit(tmp_path, problem)
    (tmp_path / "summary.json").unlink()
    with pytest.raises(InputError, match=r"no finished fit: summary.json is missing"):
        read_fit(tmp_path, problem)


@pytest.mark.slow
def test_the_page_in_a_browser(browser, results, tmp_path):
    """No error in the console, nothing asked of a network, every figure there, and nothing wider than a phone."""
    _, _, summary, data = results(held_out=True)
    pictures = draw(summary, data, tmp_path, Observation(low_pass=1.0))
    write_html(summary, pictures, "python experiments/fit.py", "seed: 0", tmp_path / "report.html")
    for width in (390, 1280):
        page = browser.new_page(viewport={"width": width, "height": 800})
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


def test_a_pair_of_envelopes_is_that_of_the_connectivity(rng):
    """The correlation in its title is the entry of the matrix, whether or not the data are orthogonalised."""
    x, labels = rng.standard_normal((3000, 2)), ["A.L", "B.L"]
    x[:, 1] += x[:, 0]
    for orthogonalize in (True, False):
        observation = Observation(low_pass=1.0, orthogonalize=orthogonalize)
        title = signals.smoothed_pair(x, observation, labels, 0, 1, "recording").axes[1].get_title()
        fc = envelope_fc(
            jnp.asarray(x), 100.0, (8.0, 12.0), 1.0, orthogonalize=orthogonalize, symmetrize=False, trim=1.0
        )
        assert float(title.rpartition("= ")[2]) == pytest.approx(float(fc[1, 0]), abs=0.006)
        assert ("orthogonalised" in title) == orthogonalize

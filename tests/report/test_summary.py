"""A summary keeps what it is given, through JSON and back, and its first lines say what it comes down to."""

import dataclasses
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from problems import network_of, target_of

from fitting.errors import InputError
from fitting.evaluate import Ceiling, Evaluation, HeldOut, Identifiability, SeedScores
from fitting.optimize import Candidate, Fit, Parameter, Problem, RaceResult, Search, SearchResult
from fitting.predict import LinearResponse, Simulation
from fitting.report import Summary, headline, summarize, summarize_simulation
from fitting.report.summary import Corrected, FCCorrelation, FreshSeeds, HeldOutSummary, Level, MeanFC, Reliability
from fitting.signal import Observation


def without_nan(value):
    """Numbers that are not finite as JSON has them."""
    if isinstance(value, dict):
        return {name: without_nan(v) for name, v in value.items()}
    if isinstance(value, list):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


@pytest.mark.parametrize("held_out", [False, True])
def test_a_summary_is_read_as_it_was_written(held_out, results, tmp_path):
    """Equal, and of the same types all the way down."""
    summary = results(held_out=held_out).summary
    summary.write(tmp_path / "summary.json")
    again = Summary.read(tmp_path / "summary.json")
    assert again == summary
    assert type(again.fc_correlation.views["beta 13-30 Hz"]) is type(summary.fc_correlation.views["beta 13-30 Hz"])
    assert type(again.surrogates["rewired"]) is type(summary.surrogates["rewired"])
    assert type(again.fc_correlation.held_out) is (HeldOutSummary if held_out else type(None))
    assert headline(again) == headline(summary)


def test_what_is_not_finite_is_null(results, tmp_path):
    summary = results(float("nan"), False, held_out=True).summary
    summary.write(tmp_path / "summary.json")
    text = (tmp_path / "summary.json").read_text()
    assert "NaN" not in text
    again = Summary.read(tmp_path / "summary.json")
    assert dataclasses.asdict(again) == without_nan(dataclasses.asdict(summary))
    assert again.fc_correlation.mean_fc == MeanFC(None, None)
    assert again.surrogates["rewired"].score is None
    assert headline(again) == headline(summary) == "The fitted model has no score: its predictions are not finite."


def test_the_search_is_kept(results, tmp_path):
    fit = results().fit
    point = fit.candidates[0].point
    candidates = (Candidate(point, 0.4, 0.6), Candidate(point, float("nan"), float("nan")))
    losses = np.array([[0.5, 0.6], [0.4, np.nan]])
    fit = replace(fit, search=SearchResult(Search(), candidates, {}, 80, 2.5), race=RaceResult(0, losses))
    summary = summarize(fit, results().evaluation)
    assert summary.search.candidates[0].parameters == pytest.approx({"k": 1.1})
    assert (summary.search.candidates[0].loss, summary.search.race) == (0.4, [0.4, 0.6])
    assert (summary.search.evaluations, summary.search.winner) == (80, 0)
    summary.write(tmp_path / "summary.json")
    again = Summary.read(tmp_path / "summary.json")
    assert dataclasses.asdict(again) == without_nan(dataclasses.asdict(summary))
    assert again.search.candidates[1].loss is None


@pytest.mark.parametrize(
    ("noisy", "own", "baseline", "words"),
    [
        (False, 0.7, 0.1, ["Simulations do not confirm the fit: r 0.700 as fitted, without noise, and 0.500"]),
        (True, 0.7, 0.1, []),
        (False, 0.55, 0.6, ["Structural weights predicts the target better than the model (r 0.600)"]),
        (False, 0.55, 0.1, []),
    ],
)
def test_what_speaks_against_a_fit_is_said(results, noisy, own, baseline, words):
    """Pairs 0.1, 0.2 and 0.3 of the target are 0.2, 0.1 and 0.3 in the model: r is 0.5."""
    fit, evaluation, *_ = results()
    fresh = replace(evaluation.fresh, matrices=np.array([[[0, 0.2, 0.1], [0.2, 0, 0.3], [0.1, 0.3, 0]]] * 3))
    evaluation = replace(evaluation, fresh=fresh, nulls={"as_fitted": own}, baselines={"structural_weights": baseline})
    if not noisy:
        quiet = LinearResponse(fit.problem.network, fit.problem.observation)
        fit = replace(fit, problem=replace(fit.problem, predictor=quiet))
    said = [note for note in summarize(fit, evaluation).notes if note not in evaluation.notes]
    assert [sentence[: len(word)] for sentence, word in zip(said, words, strict=True)] == words


def test_names_and_numbers_of_the_file(results, tmp_path):
    """What other programs read: every score by its name, against arithmetic on what was given."""
    _, evaluation, summary, _ = results(held_out=True)
    summary.write(tmp_path / "summary.json")
    written = json.loads((tmp_path / "summary.json").read_text())
    scores = written["fc_correlation"]
    assert set(scores["mean_fc"]) == {"r", "interval"}
    assert set(scores["corrected"]) == {"r", "share", "interval"}
    assert set(scores["reliability"]) == {"model", "data"}
    assert set(scores["level"]) == {"slope", "model", "target", "concordance"}
    assert scores["mean_fc"]["r"] == pytest.approx(1)
    assert scores["mean_fc"]["interval"] == pytest.approx(evaluation.fresh.interval())
    # Seeds that are alike have no noise; the target has some.
    assert scores["reliability"] == {"model": pytest.approx(1), "data": 0.81}
    assert scores["corrected"]["r"] == pytest.approx(1 / 0.9)
    assert scores["corrected"]["share"] == pytest.approx(1 / 0.81)
    assert scores["level"]["slope"] == pytest.approx(0.5)
    assert (scores["level"]["model"], scores["level"]["target"]) == (pytest.approx(0.1), pytest.approx(0.2))
    fresh = {"mean": 0.5, "sd": 0.0, "n": 3, "seconds": 10.0, "attainable": pytest.approx(0.9)}
    assert scores["fresh_seeds"] == fresh
    assert scores["held_out"]["leak"] == 0.22
    assert scores["held_out"]["leaks"] == {"minus_length": 0.01, "rank_two": 0.25}
    assert (scores["held_out"]["r"], scores["held_out"]["own"]) == (0.5, 0.45)
    assert scores["held_out"]["sd"] == pytest.approx(np.std([0.4, 0.6], ddof=1))
    assert scores["held_out"]["split"] == "30 % of the pairs"
    assert (scores["initial"], scores["training"]) == (pytest.approx(1), 0.5)
    assert written["parameters"]["drive"]["fitted"] == pytest.approx([0.5, 0.6, 0.7])
    k = written["parameters"]["k"]
    assert (k["initial"], k["fitted"], k["true"]) == (pytest.approx(1), pytest.approx(1.1), 1.2)
    assert (k["interval"], k["identifiable"], k["correlations"]) == ([0.9, 1.3], True, {"drive": 0.9})
    assert written["parameters"]["drive"]["identifiable"] is None
    rewired, preserving = (written["surrogates"][kind] for kind in ("rewired", "distance_preserving"))
    assert (rewired["p"], rewired["refitted"], rewired["n"]) == (0.5, True, 3)
    assert (preserving["p"], preserving["without_score"], preserving["mean"]) == (None, 1, pytest.approx(0.2))
    assert (written["seed"], written["status"], written["steps"]) == (3, "max_steps", 4)
    assert written["notes"] == ["A note."]


@pytest.mark.parametrize("text", ["{", "{}", "[]", "3", '{"status": 3, "parameters": []}'])
def test_a_damaged_summary_is_refused(text, tmp_path):
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(InputError, match=r"summary.json cannot be read"):
        Summary.read(tmp_path / "summary.json")


def test_a_simulation_has_a_summary(results, tmp_path):
    fresh = replace(results().evaluation.fresh, seconds=float("inf"))
    summary = summarize_simulation(fresh, {"minus_length": 0.3}, 5.0)
    assert (summary.status, summary.parameters, summary.wall_seconds) == ("simulated", {}, 5.0)
    # Of a prediction without noise: no length that it would be like.
    assert summary.fc_correlation.fresh_seeds.seconds is None
    summary.write(tmp_path / "summary.json")
    assert Summary.read(tmp_path / "summary.json") == summary
    lost = replace(fresh, matrices=fresh.matrices * np.nan, fc_correlation=fresh.fc_correlation * np.nan)
    assert summarize_simulation(lost, {"minus_length": 0.3}, 5.0).status == "diverged"


def saying(summary, **parts):
    """The headline of a summary with other parts."""
    return headline(replace(summary, fc_correlation=replace(summary.fc_correlation, **parts)))


@pytest.fixture
def plain(results):
    """A summary whose numbers are easy: r 0.6, corrected 0.9, of a target of reliability 0.81."""
    scores = FCCorrelation(
        FreshSeeds(0.55, 0.02, 10, 60.0),
        MeanFC(0.6, [0.5, 0.7]),
        Corrected(0.9, 0.81),
        Reliability(0.7, 0.81),
        Level(1.0, 0.1, 0.12, 0.6),
    )
    return replace(results().summary, fc_correlation=scores, baselines={"structural_weights": 0.2, "minus_length": 0.3})


def test_the_headline_says_what_is_explained(plain):
    words = headline(plain)
    assert words == (
        "The fitted model's mean FC of 10 seeds correlates with the target's by 0.600 (0.500 to 0.700): without noise "
        "the model explains 81 % of the variance that can be explained; fibre length alone explains 11 %."
    )
    # 0.3^2 / 0.81, and 0.72^2 / 0.81.
    better = replace(plain, baselines=plain.baselines | {"rank_two": 0.72})
    assert "the best predictor without a model, two loadings per region, 64 %." in headline(better)
    worse = saying(plain, corrected=Corrected(-0.3, -0.09), mean_fc=MeanFC(-0.2, None))
    assert "by -0.200: without noise the model explains 0 % of" in worse
    assert "The fitted model's FC correlates" in saying(plain, fresh_seeds=FreshSeeds(0.55, None, 1, 60.0))


def test_the_headline_claims_no_more_than_is_known_of_the_target(plain):
    """What can be explained is known where the target's reliability is; elsewhere its noise is in the share."""
    assert "81 % of the variance that can be explained" in headline(plain)
    unknown = saying(plain, reliability=Reliability(0.7, None))
    assert "that can be explained" not in unknown
    assert "81 % of the target's variance, its noise included" in unknown
    assert "fibre length alone explains 9 %" in unknown
    assert "without noise" not in saying(plain, corrected=Corrected(None, None))


@pytest.mark.parametrize(
    ("model", "wrong"), [(0.12, False), (0.23, False), (0.061, False), (0.25, True), (0.059, True), (-0.12, True)]
)
def test_the_headline_says_that_the_level_is_wrong(model, wrong, plain):
    """From a factor of two on; the target's is 0.12."""
    words = saying(plain, level=Level(1.0, model, 0.12, 0.345))
    assert ("The level is wrong" in words) == wrong
    sentence = f"the model's mean FC is {model:.3g}, the target's 0.12 (r does not see that; concordance 0.34"
    assert (sentence in words) == wrong


def test_the_headline_says_what_held_out_pairs_are_worth(plain):
    assert "held-out" not in headline(plain)
    held_out = HeldOutSummary("30 % of the pairs", 0.5, 0.1, 0.45, 0.22, {"rank_two": 0.7}, {"a": 0.1, "b": 0.31})
    words = saying(plain, held_out=held_out)
    assert "On held-out pairs (30 % of the pairs) the model's r is 0.500" in words
    assert "where the same fit to independent signals reaches 0.220." in words
    assert "These pairs share the noise of the recording that was fitted." in words
    assert "0.310" not in words
    words = saying(plain, held_out=replace(held_out, leak=None))
    assert "r is 0.500, where predictors fitted to independent signals reach up to 0.310." in words
    words = saying(plain, held_out=replace(held_out, leak=None, leaks={}))
    assert "r is 0.500. These pairs share the noise" in words


def test_a_perfect_model_explains_all_that_can_be_explained(rng):
    """Noise on both sides, and no error: about 100 %, whatever the noise. 12 draws: standard error about 1 %."""
    regions = 40
    simulation = Simulation(network_of(np.ones((regions, regions)), np.full((regions, regions), 50.0)), Observation())

    def symmetric(sd=1.0):
        upper = np.triu(sd * rng.standard_normal((regions, regions)), 1)
        return upper + upper.T

    k = Parameter("k", 1.0, 0.1, 5.0)
    fit = Fit.begin(Problem(simulation, [k], target_of(np.ones((regions, regions)))))
    for noise, data in ((0.5, 0.9), (1.5, 0.6)):
        shares, plain, blind = [], [], []
        for _ in range(12):
            truth = symmetric()
            # A target whose second measurement would correlate by so much with it.
            target = truth + symmetric(np.sqrt(1 / data - 1)) + 0.2
            matrices = np.stack([truth + symmetric(noise) + 0.2 for _ in range(10)])
            fresh = SeedScores(target, matrices, np.zeros(10), np.zeros(10), np.zeros((0, regions)), 60.0)
            evaluation = Evaluation(fresh, baselines={"minus_length": 0.1}, ceiling=Ceiling(data, data**0.5, ""))
            words = headline(summarize(fit, evaluation))
            shares.append(int(re.search(r"explains (\d+) % \(.*%.*\) of the variance that can be explained", words)[1]))
            plain.append(100 * fresh.agreement().r ** 2)
            unknown = headline(summarize(fit, replace(evaluation, ceiling=None)))
            blind.append(int(re.search(r"explains (\d+) % \(.*%.*\) of the target's variance", unknown)[1]))
        assert np.mean(shares) == pytest.approx(100, abs=4)
        assert np.mean(plain) == pytest.approx(100 * data / (1 + noise**2 / 10), abs=4)
        # The target's noise included, no model explains more than its reliability.
        assert np.mean(blind) == pytest.approx(100 * data, abs=4)


def test_held_out_scores_of_one_seed_have_no_spread(results):
    held_out = HeldOut(0.5, np.array([0.5]), 0.45, {"minus_length": 0.4}, None, {})
    summary = results(held_out=False).summary
    _, evaluation, _, _ = results()
    found = summarize(results().fit, replace(evaluation, held_out=held_out)).fc_correlation
    assert (found.held_out.sd, found.held_out.leak) == (None, None)
    assert summary.fc_correlation.held_out is None


def test_what_a_change_of_one_parameter_still_improves_has_not_converged(results):
    converged = replace(results().fit, status="converged")
    known = Identifiability(True, "seen", (0.9, 1.3))
    for better, status in ((None, "converged"), (1.4, "max_steps")):
        evaluation = replace(results().evaluation, identified={"k": replace(known, better=better)})
        summary = summarize(converged, evaluation, seed=0)
        assert summary.status == status
        words = "Not converged: a change of k 1.1 to 1.4 lowers the loss beyond noise. Take more steps."
        assert (words in summary.notes) == (better is not None)

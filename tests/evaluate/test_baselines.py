"""Baselines, ceilings, nulls and surrogates against independent computations, and what they promise."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import xarray as xr

from fitting import InputError
from fitting.data import connectome, divide, fc_target, hcp_aal2, match, read_fc, recording
from fitting.evaluate import (
    EvaluationSettings,
    View,
    delay_nulls,
    evaluate,
    fresh_seeds,
    held_out_baselines,
    orthogonalization_views,
    p_value,
    refit_synthetic,
    spatial_autoregression,
    split_half_ceiling,
    structural_baselines,
    subject_ceiling,
    surrogate_connectomes,
    surrogate_test,
)
from fitting.network import Network, simulated_recording
from fitting.objective import Objective, Target
from fitting.optimize import FitResult, Parameter, Parameters, Problem, ResponseProblem
from fitting.signal import Observation, fc_correlation

LABELS = ["PreCG.L", "PreCG.R", "SFG.L", "SFG.R", "INS.L", "INS.R"]


@pytest.fixture
def problem(directed):
    network = Network(*directed, drive=0.65, speed_bounds=(1.0, 20.0))
    rng = np.random.default_rng(0)
    fc = rng.uniform(size=(6, 6))
    parameters = Parameters([Parameter("k", 1.2, 0.1, 10.0, scale="log")], network)
    observation = Observation(band=(8.0, 12.0), low_pass=None, orthogonalize=False, transient=0.5, trim=0.5)
    return Problem(
        network, parameters, Target(jnp.asarray(fc + fc.T)), observation, Objective(spectrum=0.0), 5000.0, 0.5
    )


VALUES = {"k": 1.2, "signal_speed": 4.0, "sigma": 0.01}


def test_the_table_of_the_meg_matrix_to_the_third_digit(meg_fc_path):
    c = hcp_aal2()
    fc = match(c["target"].values.tolist(), read_fc(meg_fc_path))[0].values
    found = structural_baselines(c, fc)
    assert found["structural_weights"] == pytest.approx(0.241, abs=5e-4)
    assert found["log_structural_weights"] == pytest.approx(0.340, abs=5e-4)
    assert found["minus_length"] == pytest.approx(0.382, abs=5e-4)
    held_out = held_out_baselines(c, fc, Target(jnp.asarray(fc)).split(0.7, 0).pairs)
    assert held_out["region_effects"] == pytest.approx(0.518, abs=5e-4)
    assert held_out["rank_one"] == pytest.approx(0.622, abs=5e-4)
    assert held_out["region_effects_and_geometry"] == pytest.approx(0.679, abs=5e-4)


def test_spatial_autoregression_is_the_covariance_of_a_linear_network(rng):
    """From samples of x = rho W x + e: 400 000 of them, so that correlations have errors of 0.002."""
    weights = rng.uniform(size=(6, 6))
    np.fill_diagonal(weights, 0)
    c = connectome(weights, np.full((6, 6), 40.0) * (weights > 0), LABELS)
    truth = weights / np.abs(np.linalg.eigvals(weights)).max()
    mixing = np.linalg.inv(np.eye(6) - 0.63 * truth)
    samples = mixing @ rng.standard_normal((6, 400_000))
    fc = np.corrcoef(samples)
    rho, predicted = spatial_autoregression(c, fc)
    assert rho == pytest.approx(0.63, abs=0.03)
    np.testing.assert_allclose(predicted, fc, atol=0.02)
    assert structural_baselines(c, fc)["spatial_autoregression"] > 0.99


def test_low_rank_predictors_find_what_was_put_in(rng):
    """Exact for matrices of their own kind, on pairs that were not seen; one rank too few is not enough."""
    c = hcp_aal2()
    seen = np.triu(rng.random((80, 80)) < 0.7, 1)
    seen = seen | seen.T
    a, b = rng.uniform(0.5, 1.5, 80), rng.uniform(-1, 1, 80)
    found = held_out_baselines(c, np.outer(a, a), seen)
    assert found["rank_one"] == pytest.approx(1, abs=1e-9)
    found = held_out_baselines(c, 0.7 + np.outer(a, a), seen)
    assert found["rank_one_and_constant"] == pytest.approx(1, abs=1e-9)
    assert found["rank_one"] < 0.999
    found = held_out_baselines(c, 0.7 + np.outer(a, a) + np.outer(b, b), seen)
    assert found["rank_two"] == pytest.approx(1, abs=1e-6)
    assert found["rank_one_and_constant"] < 0.9


def test_another_recording_is_predicted_from_the_one_that_was_fitted(rng):
    """Region effects fitted to one matrix, scored on all pairs of another: by least squares of the textbook."""
    c = hcp_aal2()
    first, second = (rng.standard_normal((80, 80)) for _ in range(2))
    first, second = first + first.T, second + second.T + 0.5 * (first + first.T)
    every = ~np.eye(80, dtype=bool)
    found = held_out_baselines(c, first, every, second)["region_effects"]
    upper = np.triu_indices(80, 1)
    design = np.zeros((len(upper[0]), 80))
    for row, pair in enumerate(zip(*upper, strict=True)):
        design[row, list(pair)] = 1
    effects = np.linalg.solve(design.T @ design, design.T @ first[upper])
    assert found == pytest.approx(np.corrcoef(design @ effects, second[upper])[0, 1], abs=1e-9)
    with pytest.raises(InputError, match="to score is"):
        held_out_baselines(c, first, every, np.eye(3))


def test_the_split_half_ceiling_is_what_connectivity_without_noise_scores(rng):
    """Long recordings of known connectivity: the score of the truth is the ceiling, within what 8 draws tell."""
    mixing = rng.standard_normal((12, 12)) * 0.35 + np.eye(12)
    labels = [f"{name}.{side}" for name in ("PreCG", "SFG", "INS", "CUN", "LING", "PCUN") for side in "LR"]
    observation = Observation(orthogonalize=False, low_pass=None)
    draws = [recording(rng.standard_normal((4000, 12)) @ mixing, 100.0, labels) for _ in range(9)]
    fcs = [np.asarray(observation.fc(jnp.asarray(r.values), 100.0)) for r in draws]
    truth = np.asarray(observation.fc(jnp.asarray(rng.standard_normal((200_000, 12)) @ mixing), 100.0))
    scores = [float(fc_correlation(jnp.asarray(truth), jnp.asarray(fc))) for fc in fcs]
    ceilings = [split_half_ceiling([r], observation).ceiling for r in draws]
    error = np.hypot(np.std(scores, ddof=1), np.std(ceilings, ddof=1)) / 3
    assert np.mean(scores) < 0.99  # or there would be nothing to see
    assert abs(np.mean(scores) - np.mean(ceilings)) < 3 * error
    # And a second recording correlates with the first as the reliability says.
    pairs = [float(fc_correlation(jnp.asarray(a), jnp.asarray(b))) for a, b in itertools.pairwise(fcs)]
    reliabilities = [split_half_ceiling([r], observation).reliability for r in draws]
    spread = np.hypot(np.std(pairs, ddof=1), np.std(reliabilities, ddof=1)) / 3
    assert abs(np.mean(pairs) - np.mean(reliabilities)) < 3 * spread


def test_no_ceiling_without_halves(rng):
    short = recording(rng.standard_normal((350, 6)), 100.0, LABELS)
    assert split_half_ceiling([short], Observation(orthogonalize=False)) is None


def test_subject_ceilings_against_plain_loops(rng):
    fcs = {}
    for subject in "abcd":
        m = rng.uniform(size=(6, 6))
        fcs[subject] = fc_target((m + m.T) * (1 - np.eye(6)) / 2, LABELS)
    upper = np.triu_indices(6, 1)
    values = np.array([fc.values[upper] for fc in fcs.values()])
    lower = [np.corrcoef(values[i], np.delete(values, i, 0).mean(0))[0, 1] for i in range(4)]
    higher = [np.corrcoef(values[i], values.mean(0))[0, 1] for i in range(4)]
    assert subject_ceiling(fcs) == (pytest.approx(np.mean(lower)), pytest.approx(np.mean(higher)))
    with pytest.raises(InputError, match="at least two"):
        subject_ceiling({"a": fcs["a"]})


@pytest.mark.parametrize("kind", ["rewired", "distance_preserving"])
def test_surrogates_of_a_complete_connectome_keep_what_they_promise(kind):
    """Degrees and weights exactly; by length classes, the weights of every class."""
    c = hcp_aal2()
    weights, lengths = c.weights.values, c.lengths.values
    upper = np.triu_indices(80, 1)
    classes = np.array_split(np.argsort(lengths[upper], kind="stable"), 10)
    made = surrogate_connectomes(c, kind, 3, seed=1)
    for surrogate in made:
        new = surrogate.weights.values
        np.testing.assert_array_equal((new > 0).sum(0), (weights > 0).sum(0))
        np.testing.assert_array_equal(new, new.T)
        np.testing.assert_array_equal(np.sort(new[upper]), np.sort(weights[upper]))
        same = [np.array_equal(np.sort(new[upper][k]), np.sort(weights[upper][k])) for k in classes]
        assert all(same) if kind == "distance_preserving" else not any(same)
        # A tenth of the pairs share a class: little of the real connectome is left beyond what lengths tell.
        within = [np.corrcoef(new[upper][k], weights[upper][k])[0, 1] for k in classes]
        assert abs(np.mean(within)) < 3 / np.sqrt(len(upper[0]))
    assert not np.array_equal(made[0].weights, made[1].weights)


def test_surrogates_of_a_directed_complete_connectome(rng):
    weights = rng.uniform(0.1, 1, (6, 6)) * (1 - np.eye(6))
    lengths = rng.uniform(10, 99, (6, 6)) * (1 - np.eye(6))
    (surrogate,) = surrogate_connectomes(connectome(weights, lengths, LABELS), "rewired", 1, seed=0)
    new = surrogate.weights.values
    assert not np.allclose(new, new.T)
    np.testing.assert_array_equal(np.sort(new.ravel()), np.sort(weights.ravel()))
    assert (np.diag(new) == 0).all()


def test_surrogates_of_a_sparse_connectome(rng):
    """Connections move: degrees and weights exactly, lengths within a tenth of their spread (distance preserving)."""
    pytest.importorskip("netneurotools", reason="the extra surrogates is not installed")
    places = rng.uniform(0, 100, (40, 3))
    lengths = np.linalg.norm(places[:, None] - places[None], axis=2)
    present = np.triu(rng.random((40, 40)) < 0.4 * np.exp(-lengths / 60), 1)
    weights = np.where(present, rng.uniform(0.1, 1, (40, 40)), 0)
    labels = [f"R{i:02d}.L" for i in range(40)]
    c = connectome(weights + weights.T, lengths, labels)
    old = c.weights.values
    for kind in ("rewired", "distance_preserving"):
        (surrogate,) = surrogate_connectomes(c, kind, 1, seed=0)
        new = surrogate.weights.values
        np.testing.assert_array_equal((new > 0).sum(0), (old > 0).sum(0))
        np.testing.assert_allclose(np.sort(new[new > 0]), np.sort(old[old > 0]))
        assert ((new > 0) != (old > 0)).mean() > 0.05
        if kind == "distance_preserving":
            moved = scipy.stats.ks_2samp(lengths[new > 0], lengths[old > 0]).statistic
            assert moved < 0.1
    with pytest.raises(InputError, match="lengths of all pairs"):
        surrogate_connectomes(c.assign(lengths=c.lengths * (c.weights > 0)), "rewired", 1, seed=0)


def test_p_values_are_uniform_under_the_null(rng):
    """The real connectome being one of its surrogates: 400 tests with 19 surrogates, chi-square over the 20 values."""
    c = hcp_aal2().isel(target=slice(20), source=slice(20))
    upper = np.triu_indices(20, 1)
    ps = []
    for trial in range(400):
        real, *others = surrogate_connectomes(c, "distance_preserving", 20, seed=trial)
        target = rng.standard_normal(len(upper[0]))
        scores = [np.corrcoef(s.weights.values[upper], target)[0, 1] for s in (real, *others)]
        ps.append(p_value(scores[0], scores[1:]))
    counts = np.bincount(np.rint(np.array(ps) * 20).astype(int), minlength=21)[1:]
    assert counts.sum() == 400
    assert scipy.stats.chisquare(counts).pvalue > 0.001
    # A surrogate that has no score counts against the real one.
    assert p_value(0.5, [np.nan, 0.1, 0.2]) == 0.5


@pytest.mark.parametrize("kind", ["rewired", "lost"])
def test_unknown_surrogates_are_refused(kind):
    with pytest.raises(InputError, match=r"unknown kind|at least one"):
        surrogate_connectomes(hcp_aal2(), kind, 0 if kind == "rewired" else 1, seed=0)


def test_surrogate_scores_are_those_of_networks_of_their_own(problem, directed):
    """One program for all connectomes gives what each gives alone; the model is scored on all pairs."""
    weights, lengths = directed
    c = connectome(weights, np.where(weights > 0, lengths, 0.0), LABELS)
    other = c.assign(weights=(c.weights.dims, weights[::-1, ::-1].copy()))
    other = other.assign(lengths=(c.lengths.dims, np.where(weights[::-1, ::-1] > 0, lengths[::-1, ::-1], 0.0)))
    for solved in (problem, response_of(problem)):
        key = jax.random.key(3)
        found = surrogate_test(solved, VALUES, [other], key)
        alone = []
        for one in (c, other):
            network = Network(one.weights.values, one.lengths.values, drive=0.65, speed_bounds=(1.0, 20.0))
            alone.append(float(dataclasses.replace(solved, network=network).evaluate(VALUES, key)[0].fc_correlation))
        np.testing.assert_allclose([found.score, *found.surrogates], alone, rtol=1e-6)
        assert found.p == (0.5 if found.score > found.surrogates[0] else 1.0)


def response_of(problem):
    return ResponseProblem(
        problem.network, problem.parameters, problem.target, problem.observation, problem.objective, problem.dt
    )


def test_delay_nulls_are_networks_with_those_delays(problem):
    for solved in (problem, response_of(problem)):
        key = jax.random.key(1)
        found = delay_nulls(solved, VALUES, key, seeds=1)
        connected = problem.network.weights != 0
        for name, length in (("zero_delays", 0.0), ("one_delay", problem.network.lengths[connected].mean())):
            network = Network(
                problem.network.weights, np.where(connected, length, 0.0), drive=0.65, speed_bounds=(1.0, 20.0)
            )
            other = dataclasses.replace(solved, network=network)
            score = other.evaluate(VALUES, jax.random.split(key, 1)[0])[0].fc_correlation
            assert found[name] == pytest.approx(float(score), rel=1e-6)
        assert len(set(found.values())) == 2


def test_views_score_the_same_simulations_otherwise(problem):
    """The problem's own view gives its own scores, another band those of a problem with that band."""
    other = dataclasses.replace(problem.observation, band=(15.0, 25.0))
    views = {"same": View(problem.observation, problem.target.fc), "beta": View(other, problem.target.fc)}
    views |= orthogonalization_views(problem)
    found = fresh_seeds(problem, VALUES, jax.random.key(0), 2, views=views)
    np.testing.assert_allclose(found.views["same"], found.fc_correlation, rtol=1e-9)
    beta = fresh_seeds(dataclasses.replace(problem, observation=other), VALUES, jax.random.key(0), 2)
    np.testing.assert_allclose(found.views["beta"], beta.fc_correlation, rtol=1e-9)
    orthogonal = dataclasses.replace(problem.observation, orthogonalize_simulation=True)
    own = fresh_seeds(dataclasses.replace(problem, observation=orthogonal), VALUES, jax.random.key(0), 2)
    np.testing.assert_allclose(found.views["simulation orthogonalised"], own.fc_correlation, rtol=1e-9)


def test_a_target_split_by_regions(rng):
    fc = rng.uniform(size=(10, 10))
    target = Target(jnp.asarray(fc + fc.T)).split(0.6, 0, "regions")
    degree = target.pairs.sum(0)
    assert sorted(degree) == [0] * 4 + [5] * 6
    # Every pair is on one side; those within the kept regions are seen.
    assert (target.pairs ^ target.held_out ^ np.eye(10, dtype=bool)).all()
    with pytest.raises(InputError, match="by pairs or by regions"):
        target.split(0.5, 0, "lobes")
    with pytest.raises(InputError, match="3 are needed"):
        target.split(0.1, 0, "regions")


def test_recordings_are_divided_by_runs_and_subjects(rng):
    every = [
        recording(rng.standard_normal((500, 6)), 100.0, LABELS).assign_attrs(subject=subject, run=run)
        for subject in ("01", "02", "03")
        for run in ("1", "2")
    ]
    seen, unseen = divide(every, 0.3, "subjects", seed=0)
    assert len({r.attrs["subject"] for r in unseen}) == 1
    assert {r.attrs["subject"] for r in seen}.isdisjoint({r.attrs["subject"] for r in unseen})
    assert len(seen) == 4
    seen, unseen = divide(every, 0.34, "runs", seed=0)
    assert (len(seen), len(unseen)) == (4, 2)
    with pytest.raises(InputError, match="needs at least two; the data have 1"):
        divide(every[:1], 0.5, "runs")
    with pytest.raises(InputError, match="time, runs or subjects"):
        divide(every, 0.5, "halves")


def test_time_is_divided_at_one_moment(rng):
    (one,) = (recording(rng.standard_normal((1000, 6)), 100.0, LABELS),)
    (first,), (last,) = divide([one], 0.25, "time")
    xr.testing.assert_identical(xr.concat([first, last], "time"), one)


def test_the_fitted_model_is_fitted_again(problem):
    """A refit that measures the connectivity it is given: synthetic targets are those of the fitted parameters."""
    seen = []

    def refit(synthetic):
        seen.append(synthetic)
        return {"k": 1.1 + len(seen) / 10}

    found = refit_synthetic(problem, VALUES, LABELS, refit, jax.random.key(0), 2, seconds=60.0)
    np.testing.assert_allclose(found["k"], [1.2, 1.3])
    first, second = (np.asarray(one.target.fc) for one in seen)
    assert not np.array_equal(first, second)
    assert seen[0].target.seconds == 60
    one = jax.random.split(jax.random.key(0), 2)[1]
    made = simulated_recording(problem.network, VALUES, LABELS, duration=60_000.0, dt=0.5, key=one, fs=100.0)
    np.testing.assert_allclose(second, problem.observation.fc(jnp.asarray(made.values), 100.0), rtol=1e-9)


def test_everything_in_one_call(problem, directed, rng):
    """Two subjects, a band of its own, a recovery: every part is there, and zeros leave parts out."""
    weights, lengths = directed
    c = connectome(weights, np.where(weights > 0, lengths, 0.0), LABELS)
    mixing = np.eye(6) + rng.uniform(size=(6, 6))
    recordings = [
        recording(rng.standard_normal((6000, 6)) @ mixing, 100.0, LABELS).assign_attrs(subject=subject)
        for subject in ("01", "02")
    ]
    target = problem.objective.target(recordings, problem.observation)
    solved = dataclasses.replace(problem, target=target.split(0.7, 0))
    values = {name: jnp.asarray(value) for name, value in VALUES.items()}
    result = FitResult("converged", values, values, solved.parameters.start(), {}, "best step", 0, 0.0, 1.0)
    done = []
    settings = EvaluationSettings(2, 1, null_seeds=1, surrogates=0, identifiability_seeds=2, recoveries=1)
    found = evaluate(
        solved,
        result,
        c,
        settings,
        key=jax.random.key(0),
        recordings=recordings,
        views={"beta": View(dataclasses.replace(problem.observation, band=(13.0, 30.0)), target.fc + 0.1)},
        refit=lambda synthetic: {"k": 2.0},
        on_progress=lambda stage, part, total: done.append(stage),
    )
    assert found.found_again["k"].tolist() == [2.0]
    assert found.group_ceiling[0] < found.group_ceiling[1] <= 1
    assert 0 < found.ceiling.ceiling < 1
    assert set(found.held_out) == {"r", "sd", "baselines"}
    assert set(found.views["beta"]) == {"r", "sd", "baselines"}
    assert set(found.nulls) == {"zero_delays", "one_delay"}
    assert set(found.identified) == {"k"}
    assert {"fresh noise", "initial parameters", "identifiability", "delays", "recovery"} <= set(done)
    bare = EvaluationSettings(1, 0, identifiability_seeds=0, null_seeds=0, surrogates=0)
    found = evaluate(problem, result, c, bare, key=jax.random.key(0))
    assert np.isnan(found.initial)
    assert (found.nulls, found.identified, found.surrogates, found.ceiling) == ({}, {}, {}, None)
    with pytest.raises(InputError, match="recoveries fit again"):
        evaluate(problem, result, c, dataclasses.replace(bare, recoveries=1), key=jax.random.key(0))
    with pytest.raises(InputError, match="must not be zero or negative"):
        EvaluationSettings(fresh_seeds=0)

"""Scores over noise seeds: what they are scores of, and what is left of them without noise."""

from dataclasses import dataclass, fields, replace

import jax
import numpy as np
import pytest
from problems import network_of, target_of

from fitting.evaluate import SeedScores, View, agreement, fresh_seeds, orthogonalization_views, region_interval
from fitting.evaluate.scores import scorer
from fitting.objective import Objective
from fitting.optimize import Parameter, Problem
from fitting.predict import LinearResponse, Simulation
from fitting.signal import Observation

VALUES = {"k": 1.2, "signal_speed": 4.0, "sigma": 0.01}


@pytest.fixture(scope="module")
def problem(directed):
    """Six regions and a target of chance, predicted by simulation."""
    network = network_of(*directed, drive=0.65)
    fc = np.random.default_rng(0).uniform(size=(6, 6))
    observation = Observation(band=(8.0, 12.0), low_pass=None, orthogonalize=False, transient=0.5, trim=0.5)
    simulation = Simulation(network, observation, duration=5000.0, dt=0.5)
    return Problem(
        simulation, [Parameter("k", 1.2, 0.1, 10.0, scale="log")], target_of(fc + fc.T), Objective(spectrum=0.0)
    )


def observed_as(problem, observation):
    return replace(problem, predictor=replace(problem.predictor, observation=observation))


@pytest.mark.slow
def test_views_score_the_same_simulations_otherwise(problem):
    """The problem's own view gives its own scores, another band those of a problem with that band."""
    other = replace(problem.observation, band=(15.0, 25.0))
    views = {"same": View(problem.observation, problem.target.fc), "beta": View(other, problem.target.fc)}
    views |= orthogonalization_views(problem)
    found = fresh_seeds(problem, VALUES, jax.random.key(0), 2, views=views)
    np.testing.assert_allclose(found.views["same"], found.fc_correlation, rtol=1e-9)
    beta = fresh_seeds(observed_as(problem, other), VALUES, jax.random.key(0), 2)
    np.testing.assert_allclose(found.views["beta"], beta.fc_correlation, rtol=1e-9)
    orthogonal = replace(problem.observation, orthogonalize_simulation=True)
    own = fresh_seeds(observed_as(problem, orthogonal), VALUES, jax.random.key(0), 2)
    np.testing.assert_allclose(found.views["simulation orthogonalised"], own.fc_correlation, rtol=1e-9)


def test_every_seed_is_a_prediction_of_its_own_scored_on_all_pairs(problem):
    """Scores, losses and matrices are those of the problem with all pairs; held-out scores those of the others."""
    split, key, told = replace(problem, target=problem.target.split(0.5, 0)), jax.random.key(4), []
    found = fresh_seeds(split, VALUES, key, 3, stage="here", progress=told.append)
    held_out = np.triu(split.target.held_out, 1)
    predict = jax.jit(problem.predict)
    for seed, one in enumerate(jax.random.split(key, 3)):
        prediction = predict(VALUES, one)
        terms = problem.terms(prediction)
        fc, target = np.asarray(prediction.fc), np.asarray(problem.target.fc)
        np.testing.assert_allclose(found.matrices[seed], fc, rtol=1e-9)
        assert found.fc_correlation[seed] == pytest.approx(float(terms.fc_correlation), rel=1e-9)
        assert found.loss[seed] == pytest.approx(float(terms.loss), rel=1e-9)
        assert found.held_out[seed] == pytest.approx(np.corrcoef(fc[held_out], target[held_out])[0, 1], rel=1e-9)
    np.testing.assert_array_equal(found.target, problem.target.fc)
    assert found.seconds == 4.5  # without the transient
    assert found.signals.shape == (450, 6)
    assert [(p.stage, p.done, p.total) for p in told] == [("here", 1, 3), ("here", 2, 3), ("here", 3, 3)]
    assert not np.array_equal(found.matrices[0], found.matrices[1])
    assert fresh_seeds(problem, VALUES, key, 1).held_out is None


def test_one_program_scores_any_values(problem):
    """The network is traced once, whatever values and however many seeds are asked for."""
    traced = []

    @dataclass(frozen=True, eq=False)
    class Counted(Simulation):
        def activity(self, values, key):
            traced.append(values)
            return super().activity(values, key)

    settings = {f.name: getattr(problem.predictor, f.name) for f in fields(problem.predictor)}
    scores_of = scorer(replace(problem, predictor=Counted(**settings)))
    scores_of(VALUES, jax.random.key(0), 2, "first")
    before = len(traced)
    assert before > 0
    other, key = VALUES | {"k": 2.0}, jax.random.key(1)
    scores = scores_of(other, key, 3, "second")
    assert len(traced) == before
    np.testing.assert_allclose(scores.matrices, fresh_seeds(problem, other, key, 3).matrices, rtol=1e-9)


def test_a_prediction_without_noise_has_no_traces_and_is_its_own_replicate(problem):
    response = LinearResponse(problem.network, problem.observation, dt=0.5)
    found = fresh_seeds(replace(problem, predictor=response), VALUES, jax.random.key(0), 2)
    assert found.signals.shape == (0, 6)
    np.testing.assert_array_equal(found.matrices[0], found.matrices[1])
    assert found.reliability == pytest.approx(1)
    assert found.seconds == np.inf


def symmetric(matrix):
    return np.triu(matrix, 1) + np.triu(matrix, 1).T


def scores_of(rng, regions, seeds, noise, target_reliability, gain=0.6):
    """Scores of a perfect model: the truth, times a gain, with noise in every seed; the target has noise as well.

    The target's reliability is the correlation that a second measurement of it would have with it.
    """
    truth = symmetric(rng.standard_normal((regions, regions)))
    added = np.sqrt(1 / target_reliability - 1)
    target = truth + added * symmetric(rng.standard_normal(truth.shape)) + 0.3
    matrices = np.stack(
        [gain * (truth + noise * symmetric(rng.standard_normal(truth.shape))) + 0.1 for _ in range(seeds)]
    )
    nothing = np.zeros(seeds)
    return SeedScores(target, matrices, nothing, nothing, np.zeros((0, regions)), 10.0)


@pytest.mark.parametrize("noise", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("data", [1.0, 0.8, 0.5])
def test_noise_of_both_sides_is_taken_out(noise, data, rng):
    """A perfect model has a corrected correlation of 1 within 0.03, and a reliability of 1 / (1 + noise^2).

    Means of 20 draws of 10 seeds and 40 regions (780 pairs). The correlation itself is far lower.
    """
    draws = [scores_of(rng, 40, 10, noise, data) for _ in range(20)]
    corrected = [d.corrected(data) for d in draws]
    assert np.mean(corrected) == pytest.approx(1, abs=0.03)
    assert np.mean([d.reliability for d in draws]) == pytest.approx(1 / (1 + noise**2), abs=0.03)
    mean_of_ten = 1 / (1 + noise**2 / 10)
    plain = [d.agreement().r for d in draws]
    assert np.mean(plain) == pytest.approx(np.sqrt(mean_of_ten * data), abs=0.03)
    # The target's noise left out: what the model could reach at best.
    assert np.mean([d.corrected(1.0) for d in draws]) == pytest.approx(np.sqrt(data), abs=0.03)


def test_a_wrong_model_does_not_become_right(rng):
    """A model that is half the truth and half something else: corrected by its noise, not by its error."""
    found = []
    for _ in range(20):
        right = scores_of(rng, 40, 10, 1.0, 0.8)
        other = 0.6 * symmetric(rng.standard_normal((40, 40)))
        found.append(replace(right, matrices=right.matrices + other).corrected(0.8))
    assert np.mean(found) == pytest.approx(np.sqrt(0.5), abs=0.03)


def test_one_seed_tells_nothing_of_its_noise(rng):
    one = scores_of(rng, 20, 1, 0.5, 1.0)
    assert np.isnan(one.reliability)
    assert np.isnan(one.sd)
    assert one.corrected(1.0) == pytest.approx(one.agreement().r)


def test_agreement_and_interval_are_those_of_the_mean(rng):
    scores = scores_of(rng, 12, 3, 0.5, 0.9)
    pairs = symmetric(rng.random((12, 12))) > 0.5
    mean = sum(scores.matrices) / 3
    np.testing.assert_allclose(scores.fc, mean)
    for chosen in (None, pairs):
        np.testing.assert_allclose(scores.agreement(chosen), agreement(mean, scores.target, chosen))
        np.testing.assert_allclose(scores.interval(chosen), region_interval(mean, scores.target, chosen))
    assert scores.interval() != scores.interval(pairs)

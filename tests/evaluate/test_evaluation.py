"""Everything that is asked of a fit, in one call."""

import re
from dataclasses import dataclass, fields, replace

import jax
import numpy as np
import pytest
from problems import Powers, labels_of, network_of, target_of

from fitting import InputError
from fitting.data import recording
from fitting.evaluate import (
    EvaluationSettings,
    View,
    evaluate,
    fresh_seeds,
    held_out_baselines,
    structural_baselines,
)
from fitting.objective import Objective, Target
from fitting.optimize import Candidate, Fit, Parameter, Problem, stage_key
from fitting.predict import LinearResponse, Simulation
from fitting.signal import Observation

NOTHING = EvaluationSettings(1, 0, identifiability_seeds=0, profile_points=0, null_seeds=0, surrogates=0, leaks=0)


@pytest.fixture(scope="module")
def problem(directed):
    """Six regions and a target of chance, predicted by simulation."""
    network = network_of(*directed, drive=0.65, parameters={"signal_speed": 4.0, "sigma": 0.01})
    fc = np.random.default_rng(0).uniform(size=(6, 6))
    observation = Observation(band=(8.0, 12.0), low_pass=None, orthogonalize=False, transient=0.5, trim=0.5)
    simulation = Simulation(network, observation, duration=5000.0, dt=0.5)
    return Problem(
        simulation, [Parameter("k", 1.2, 0.1, 10.0, scale="log")], target_of(fc + fc.T), Objective(spectrum=0.0)
    )


@pytest.fixture(scope="module")
def recordings():
    """Of two subjects, a minute each."""
    rng = np.random.default_rng(20240811)
    mixing = np.eye(6) + rng.uniform(size=(6, 6))
    return [
        recording(rng.standard_normal((6000, 6)) @ mixing, 100.0, labels_of(6)).assign_attrs(subject=subject)
        for subject in ("01", "02")
    ]


@pytest.mark.parametrize("fitted", [3.9, 6.1])
def test_simulations_that_verify_have_room_for_the_speeds_of_the_fit_alone(problem, fitted):
    """Blocks are as long as the faster of the fitted and the initial speed allows; scores are those of any room."""
    seen = []

    @dataclass(frozen=True, eq=False)
    class Watched(Simulation):
        def activity(self, values, key):
            seen.append(self.network.bounds.speed)
            return super().activity(values, key)

    speed = Parameter("signal_speed", 5.0, 1.0, 30.0, unit="m/s")
    fit = Fit.begin(replace(problem, parameters=[*problem.parameters, speed]))
    point = fit.start | {"signal_speed": speed.unbounded(fitted)}
    fit = replace(fit, candidates=(Candidate(point),))
    settings = {f.name: getattr(problem.predictor, f.name) for f in fields(problem.predictor)}
    key, asked = jax.random.key(0), replace(NOTHING, initial_seeds=1)
    found = evaluate(fit, asked, key=key, predictor=Watched(**settings))
    (low, high) = seen[0]
    assert set(seen) == {(low, high)}
    assert min(fitted, 5.0) / 1.42 < low <= min(fitted, 5.0)
    assert max(fitted, 5.0) <= high < 1.42 * max(fitted, 5.0)
    everywhere = fresh_seeds(fit.problem, fit.fitted, stage_key(key, "fresh"), 1)
    assert fit.problem.network.bounds.speed == (1.0, 30.0)
    np.testing.assert_allclose(found.fresh.matrices, everywhere.matrices, rtol=1e-9)


@pytest.mark.slow
def test_everything_in_one_call(problem, recordings):
    """Two subjects, a band of its own, a recovery, a leak: every part is there."""
    target = Target.of_recordings(recordings, problem.observation)
    split = target.split(0.7, 0)
    fit = Fit.begin(replace(problem, target=split))
    told, seen = [], []

    def refit(other):
        seen.append(other)
        return other.parameters.point({"k": 2.0})

    settings = EvaluationSettings(
        2, 1, null_seeds=1, surrogates=0, identifiability_seeds=2, recoveries=1, leaks=2, leak_fits=1
    )
    beta = View(replace(problem.observation, band=(13.0, 30.0)), target.fc + 0.1)
    found = evaluate(
        fit,
        settings,
        key=jax.random.key(0),
        recordings=recordings,
        views={"beta": beta, "own": View(problem.observation, split.fc)},
        refit=refit,
        progress=told.append,
    )
    np.testing.assert_allclose(found.found_again["k"], [2.0])
    assert found.group_ceiling[0] < found.group_ceiling[1] <= 1
    assert 0 < found.ceiling.ceiling < 1
    assert len(seen) == 2
    # Held out: the mean FC of the seeds, and baselines, on the very pairs that were not fitted.
    held_out, pairs = found.held_out, np.triu(split.held_out, 1)
    connectome = problem.network.connectome
    expected = np.corrcoef(found.fresh.matrices.mean(0)[pairs], np.asarray(target.fc)[pairs])[0, 1]
    assert held_out.r == pytest.approx(expected, rel=1e-9)
    np.testing.assert_array_equal(held_out.seeds, found.fresh.held_out)
    assert held_out.baselines == held_out_baselines(connectome, target.fc, split.pairs)
    assert held_out.leaks.keys() == held_out.baselines.keys()
    assert -1 < held_out.own < 1
    assert -1 < held_out.leak < 1
    assert set(found.views) == {"beta", "own"}
    np.testing.assert_array_equal(found.views["beta"].seeds, found.fresh.views["beta"])
    np.testing.assert_allclose(found.views["own"].seeds, found.fresh.fc_correlation, rtol=1e-9)
    # Baselines that were fitted to the target, and scored on all pairs of the view; the target's own say nothing new.
    assert found.views["beta"].baselines == held_out_baselines(connectome, target.fc, split.pairs, beta.fc)
    assert found.views["own"].baselines == {}
    assert found.baselines == structural_baselines(connectome, target.fc)
    assert set(found.nulls) == {"as_fitted", "zero_delays", "one_delay"}
    assert set(found.identified) == {"k"}
    assert found.initial.fc_correlation.shape == (1,)
    assert found.notes == []
    stages = {"fresh noise", "initial parameters", "identifiability", "delays", "recovery", "leak", "leak of the fit"}
    assert stages <= {p.stage for p in told}
    assert str(found).startswith(f"r of the mean FC over 2 seeds {found.fresh.agreement().r:.3f} (")


def test_zeros_leave_parts_out(problem):
    found = evaluate(Fit.begin(problem), NOTHING, key=jax.random.key(0))
    assert found.initial is None
    assert found.held_out is None
    assert (found.nulls, found.identified, found.profiles, found.surrogates) == ({}, {}, {}, {})
    assert (found.ceiling, found.group_ceiling, found.found_again) == (None, None, {})
    assert found.notes == [
        "The noise of the target is unknown: a matrix alone does not tell, the length of its recording would."
    ]
    assert found.fresh.matrices.shape == (1, 6, 6)


@pytest.mark.parametrize(("scale", "words"), [(0.1, r"more than about 0.[789]\d"), (1e-3, "nothing else in it")])
def test_a_matrix_of_known_length_says_how_noisy_it_may_be(problem, scale, words):
    target = replace(problem.target, fc=scale * problem.target.fc, seconds=120.0)
    found = evaluate(Fit.begin(replace(problem, target=target)), NOTHING, key=jax.random.key(0))
    (note,) = found.notes
    assert re.fullmatch(
        rf"By chance alone, .* signals of 120 s, .* has \d+% of the target's variance: .*{words}\.", note
    )


def test_halves_that_are_too_short_are_said_to_be(problem, recordings):
    short = [one.isel(time=slice(300)) for one in recordings]
    found = evaluate(Fit.begin(problem), NOTHING, key=jax.random.key(0), recordings=short)
    assert found.ceiling is None
    (note,) = found.notes
    assert "halves of the recording are too short" in note


def test_a_target_of_unknown_length_has_no_leak(problem):
    """Independent signals must be as long as the recording, so there are none where that is unknown."""
    fit = Fit.begin(replace(problem, target=problem.target.split(0.7, 0)))
    found = evaluate(fit, replace(NOTHING, leaks=2), key=jax.random.key(0)).held_out
    assert (found.leak, found.leaks) == (None, {})


@pytest.mark.slow
def test_a_fit_by_linear_response_is_verified_by_simulation(problem, directed):
    """Seeds are of the simulation, with the network of the fit; profiles and nulls of what was fitted."""
    response = LinearResponse(problem.network, problem.observation, dt=0.5)
    fit = Fit.begin(replace(problem, predictor=response))
    other = replace(problem.predictor, network=network_of(*directed))
    settings = replace(NOTHING, fresh_seeds=2, null_seeds=3)
    found = evaluate(fit, settings, key=jax.random.key(0), predictor=other)
    assert not np.array_equal(found.fresh.matrices[0], found.fresh.matrices[1])
    assert found.fresh.seconds == 4.5
    simulated = evaluate(Fit.begin(problem), replace(settings, null_seeds=0), key=jax.random.key(0))
    np.testing.assert_array_equal(found.fresh.matrices, simulated.fresh.matrices)
    fitted = jax.jit(response.predict)(fit.fitted).fc
    upper = np.triu_indices(6, 1)
    own = np.corrcoef(np.asarray(fitted)[upper], np.asarray(problem.target.fc)[upper])[0, 1]
    assert found.nulls["as_fitted"] == pytest.approx(own, rel=1e-6)
    # Without profiles, what the curvature tells.
    assert "Fisher information" in found.identified["k"].reason
    assert any(note.startswith("Linear response: the slowest mode decays") for note in found.notes)


@pytest.mark.parametrize("part", ["recoveries", "refitted_surrogates", "leak_fits"])
def test_what_is_fitted_again_needs_to_know_how(problem, part):
    with pytest.raises(InputError, match="need the argument refit"):
        evaluate(Fit.begin(problem), replace(NOTHING, **{part: 1}), key=jax.random.key(0))


def test_surrogates_are_scored_or_fitted(problem):
    """Complete connectomes of both kinds: without a refit no p-value, with one there is."""
    rng = np.random.default_rng(1)
    weights, lengths = rng.uniform(0.1, 1, (6, 6)), rng.uniform(10, 99, (6, 6))
    predictor = Powers(network_of(weights + weights.T, lengths + lengths.T), problem.observation)
    fit, key = Fit.begin(replace(problem, predictor=predictor)), jax.random.key(0)
    scored = evaluate(fit, replace(NOTHING, null_seeds=1, surrogates=3), key=key).surrogates
    settings = replace(NOTHING, refitted_surrogates=2)
    refitted = evaluate(fit, settings, key=key, refit=lambda other: other.parameters.point({"k": 1.2})).surrogates
    assert set(scored) == set(refitted) == {"rewired", "distance_preserving"}
    for kind, test in refitted.items():
        assert (scored[kind].surrogates.shape, scored[kind].p) == ((3,), None)
        assert test.surrogates.shape == (2,)
        assert test.p == (1 + sum(test.surrogates >= test.score)) / 3
        # What is fitted again by doing nothing scores as what is not fitted.
        assert test.score == pytest.approx(scored[kind].score, rel=1e-6)


def test_surrogates_that_are_the_real_connectome_are_said_to_be(problem):
    """Weights that follow lengths stay where they are."""
    lengths = np.random.default_rng(1).uniform(10, 99, (6, 6))
    lengths = lengths + lengths.T
    fit = Fit.begin(replace(problem, predictor=Powers(network_of(np.exp(-lengths / 90), lengths), problem.observation)))
    notes = evaluate(fit, replace(NOTHING, null_seeds=1, surrogates=3), key=jax.random.key(0)).notes
    near = [note for note in notes if "nearly the real one (weights correlate by 0.9" in note]
    assert [note.split(" are ")[0] for note in near] == ["Distance preserving connectomes"]


def test_surrogates_that_cannot_be_made_are_said_to_be_missing(problem, directed):
    predictor = Powers(network_of(*directed), problem.observation)
    fit = Fit.begin(replace(problem, predictor=predictor))
    found = evaluate(fit, replace(NOTHING, null_seeds=1, surrogates=3), key=jax.random.key(0))
    assert found.surrogates == {}
    assert sum("connectomes: surrogates of a connectome with missing connections" in note for note in found.notes) == 2


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="fresh_seeds must not be zero or negative"):
        EvaluationSettings(fresh_seeds=0)
    with pytest.raises(InputError, match="surrogates must not be negative; got -1"):
        EvaluationSettings(surrogates=-1)

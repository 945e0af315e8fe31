"""Starts that cannot work are moved or refused, and ends that cannot be trusted say so."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import Powers, network_of, problem_of_formula, target_of

from fitting import InputError
from fitting.objective import Objective
from fitting.optimize import Descent, Fit, Parameter, Problem, Search, StableStart
from fitting.predict import LinearResponse
from fitting.signal import Observation


@dataclass(frozen=True, eq=False)
class Growing(Powers):
    """A predictor with two growing modes above a drive of 0.73."""

    def unstable(self, values):
        return 2 * int(values["drive"] > 0.73)


#: The double, and what it stands for: six regions whose nodes oscillate by themselves above about that drive.
PREDICTORS = pytest.mark.parametrize("predictor", [Growing, pytest.param(LinearResponse, marks=pytest.mark.slow)])


def problem(predictor, directed, drive, lower=0.2, k=3.0):
    """With a start of this drive."""
    network = network_of(*directed, speed_bounds=(1.0, 20.0))
    parameters = [Parameter("k", k, 0.01, 30.0, scale="log"), Parameter("drive", drive, lower, 1.6)]
    fc = np.exp(-network.lengths / 60)
    observation = Observation(orthogonalize=False)
    return Problem(predictor(network, observation), parameters, target_of(fc + fc.T), Objective(spectrum=0.0))


@PREDICTORS
def test_a_stable_start_stays_where_it_is(predictor, directed):
    fit = Fit.begin(problem(predictor, directed, 0.5))
    assert StableStart().run(fit, jax.random.key(0)) is fit


@PREDICTORS
def test_an_unstable_start_is_moved_until_it_is_stable(predictor, directed):
    unstable = problem(predictor, directed, 0.9)
    assert unstable.predictor.unstable({"k": 3.0, "drive": 0.9}) > 0
    fit = StableStart().run(Fit.begin(unstable), jax.random.key(0))
    assert unstable.predictor.unstable(fit.fitted) == 0
    assert float(fit.fitted["drive"]) < 0.9
    # Not further than needed: one step less is unstable.
    less = {name: value + StableStart().step for name, value in fit.point.items()}
    assert unstable.predictor.unstable(unstable.parameters.values(less)) > 0
    assert "was unstable and was moved: k to" in fit.notes[0]
    assert fit.initial["drive"] == fit.fitted["drive"]


@PREDICTORS
def test_bounds_that_cannot_work_are_refused(predictor, directed):
    with pytest.raises(
        InputError, match=r"the start is unstable .* lower the values or the lower bounds of k and drive"
    ):
        StableStart().run(Fit.begin(problem(predictor, directed, 0.95, lower=0.9)), jax.random.key(0))


@PREDICTORS
def test_silence_is_refused(predictor):
    """Without coupling there is no connectivity at all."""
    network = network_of(np.zeros((6, 6)), np.zeros((6, 6)), drive=0.5)
    silent = Problem(
        predictor(network, Observation(orthogonalize=False)),
        [Parameter("k", 1.0, 0.1, 5.0), Parameter("drive", 0.5, 0.2, 0.8)],
        target_of(np.random.default_rng(0).uniform(size=(6, 6))),
        Objective(spectrum=0.0),
    )
    with pytest.raises(InputError, match="there is nothing to follow at the start: connectivity is 0 for all pairs"):
        StableStart().run(Fit.begin(silent), jax.random.key(0))


NETWORK = network_of(np.ones((3, 3)), np.full((3, 3), 50.0))


def test_a_descent_that_ends_at_a_bound_says_so():
    falling = problem_of_formula(NETWORK, [Parameter("k", 4.0, 0.1, 5.0)], lambda v, key: -v["k"], noisy=False)
    fit = Descent(optax.sgd(5.0), steps=200, patience=150).run(Fit.begin(falling), jax.random.key(0))
    assert fit.status == "at_bounds"
    assert any("k at its upper bound" in note for note in fit.notes)


def test_a_search_stays_within_the_bounds_it_can_leave():
    """A loss without noise that falls all the way: the population must not run off to where nothing changes."""
    parameters = [Parameter("k", 1.0, 0.1, 5.0), Parameter("drive", 0.5, 0.0, 1.0)]
    falling = problem_of_formula(NETWORK, parameters, lambda v, key: -v["k"] - v["drive"], noisy=False)
    fit = Search(generations=20, keep_start=True).run(Fit.begin(falling), jax.random.key(0))
    points = np.array([[float(x) for x in candidate.point.values()] for candidate in fit.candidates])
    assert np.abs(points).max() <= 4.0
    assert float(fit.fitted["k"]) > 4.5
    assert jnp.isclose(fit.candidates[-1].point["k"], fit.start["k"])

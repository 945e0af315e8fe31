"""Identifiability and profiles of the loss, on losses whose answer is known."""

import sys
from dataclasses import replace

import jax
import numpy as np
import pytest
from problems import network_of, problem_of_formula

from fitting import InputError
from fitting.evaluate import EvaluationSettings, LossProfile, identifiability, profile_loss
from fitting.evaluate.evaluation import intervals
from fitting.evaluate.identifiability import Surroundings, better_value, measure_surroundings
from fitting.evaluate.uncertainty import quantile
from fitting.optimize import Fit, Parameter

#: Of Student's t, 97.5 %, by degrees of freedom, from a printed table.
T_975 = {2: 4.303, 7: 2.365, 29: 2.045, 39: 2.023}

#: Slope of a bounded value between 0 and 2 in the middle of the bounds.
MIDDLE = 0.5


def quadratic(directed, hessian, noise, unit=1.0):
    """A problem of k and sigma between 0 and 2: a paraboloid in the unconstrained space that noise tilts."""
    both = [Parameter("k", 1.0, 0.0, 2.0), Parameter("sigma", 1.0, 0.0, 2.0)]

    def loss(values, key):
        x, y = (p.unbounded(values[p.name]) for p in both)
        tilt = noise * jax.random.normal(key, (2,))
        curved = hessian[0][0] / 2 * x**2 + hessian[0][1] * x * y + hessian[1][1] / 2 * y**2
        return unit * (curved + tilt[0] * x + tilt[1] * y)

    return problem_of_formula(network_of(*directed), both, loss)


#: Curvature 4 in k, none in sigma; and one in which both trade off.
BOWL = ((4.0, 0.0), (0.0, 0.0))
VALLEY = ((4.0, 3.2), (3.2, 4.0))


def sandwich(key, seeds, hessian, noise):
    """Standard deviation of k, unconstrained, from the very tilts of the noise seeds."""
    tilts = [noise * jax.random.normal(jax.random.split(k, 1)[0], (2,)) for k in jax.random.split(key, seeds)]
    # The recording's noise counts as much as the simulation's, which is as long.
    covariance = 2 * np.cov(np.transpose(tilts))
    inverse = np.linalg.inv(hessian)
    return float(np.sqrt((inverse @ covariance @ inverse)[0, 0]))


def test_identifiability_knows_what_the_loss_can_see(directed):
    problem = quadratic(directed, BOWL, 0.1)
    found = identifiability(problem, problem.parameters.start(), jax.random.key(0), seeds=30)
    assert found["k"].identifiable
    assert not found["sigma"].identifiable
    assert "not more than its spread" in found["sigma"].reason
    # sd of the best point is 0.1 / 4 unconstrained; the sigmoid's slope at its middle is 1/2.
    low, high = found["k"].interval
    # The recording's noise counts as much as the simulation's here: sqrt(2) wider.
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(2) * 0.1 / 4 * MIDDLE, rel=0.4)


def test_intervals_know_that_parameters_trade_off(directed):
    """Curvature 4 in both with a cross term: the interval is that of the inverse Hessian, not of its diagonal."""
    problem = quadratic(directed, VALLEY, 0.1)
    found = identifiability(problem, problem.parameters.start(), jax.random.key(0), seeds=40)
    low, high = found["k"].interval
    inverse = np.linalg.inv(VALLEY)
    sd = np.sqrt(2 * 0.1**2 * (inverse @ inverse)[0, 0])
    assert high - low == pytest.approx(2 * 1.96 * sd * MIDDLE, rel=0.3)
    expected = (inverse @ inverse)[0, 1] / (inverse @ inverse)[0, 0]
    assert found["k"].correlations["sigma"] == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("seeds", [3, 8, 30])
def test_few_seeds_make_intervals_wider(seeds, directed):
    """By Student's t over 1.96: an error that three seeds tell of is not known well."""
    problem, key = quadratic(directed, BOWL, 0.01), jax.random.key(1)
    low, high = identifiability(problem, problem.parameters.start(), key, seeds=seeds)["k"].interval
    # The tilts' own standard deviation over the curvature, and the recording's noise.
    tilts = [0.01 * jax.random.normal(jax.random.split(k, 1)[0], (2,))[0] for k in jax.random.split(key, seeds)]
    normal = 2 * 1.96 * np.sqrt(2) * np.std(tilts, ddof=1) / 4 * MIDDLE
    assert (high - low) / normal == pytest.approx(T_975[seeds - 1] / 1.96, rel=0.01)


def test_quantiles_are_those_of_the_table():
    for freedom, value in T_975.items():
        assert quantile(freedom) == pytest.approx(value, abs=5e-4)
    assert quantile(10**6) == pytest.approx(1.95996, abs=1e-4)
    assert np.isnan(quantile(0))


@pytest.mark.parametrize(("off", "side"), [(0.0, 0), (0.5, -1), (-0.5, 1)])
def test_a_change_that_lowers_the_loss_beyond_noise_is_named(off, side, directed):
    problem = quadratic(directed, BOWL, 0.1)
    point = problem.parameters.start() | {"k": np.asarray(off)}
    better = identifiability(problem, point, jax.random.key(0))
    assert better["sigma"].better is None
    expected = None if side == 0 else pytest.approx(float(problem.parameters["k"].bounded(off + side * 0.25)))
    assert better["k"].better == expected


def test_noise_alone_seldom_names_a_better_value(rng):
    """Where both losses scatter alike around that in the middle: in 5 % of all cases, of 2000 ± 3 standard errors."""
    p = Parameter("k", 1.0, 0.0, 2.0)
    named = []
    for _ in range(2000):
        above, below = rng.standard_normal((2, 2, 8))
        rises = np.einsum("is,ij->ijs", (above + below) / 2, np.eye(2))
        around = Surroundings((above - below) / (2 * 0.25), rises / (0.5 * 0.25**2), 0.25)
        named.append(any(better_value(p, 0.0, around, i) is not None for i in range(2)))
    assert np.mean(named) == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / 2000))


def test_one_seed_has_no_scatter(directed):
    problem = quadratic(directed, BOWL, 0.1)
    found = identifiability(problem, problem.parameters.start(), jax.random.key(0), seeds=1)["k"]
    assert (found.identifiable, found.interval) == (False, None)
    assert "has no scatter" in found.reason


def test_identifiability_admits_when_noise_wins(directed):
    problem = quadratic(directed, BOWL, 30.0)
    found = identifiability(problem, problem.parameters.start(), jax.random.key(0), seeds=30)
    assert not found["k"].identifiable
    assert "most of what the bounds allow" in found["k"].reason


def test_a_profile_of_the_loss_is_that_of_a_likelihood(directed):
    """Where the loss is a paraboloid, the deviance is (x / sd)^2 with the sandwich's sd, whatever the loss's unit."""
    key = jax.random.key(0)
    # Losses along the profile are of two simulations, and the recording is as long as one.
    sd = sandwich(jax.random.split(key)[0], 40, VALLEY, 0.1) * np.sqrt((1 / 2 + 1) / 2)
    found = []
    for unit in (1.0, 7.0):
        problem = quadratic(directed, VALLEY, 0.1, unit)
        settings = LossProfile(points=8, seeds=40, step=0.25)
        profile = profile_loss(problem, problem.parameters.start(), "k", key, settings)
        # Quadratic around its own lowest value: second differences are those of (x / sd)^2.
        x = 2 * np.arctanh(profile.values - 1)  # the unconstrained value: bounds are 0 and 2
        curvature = np.polyfit(x, profile.deviance, 2)[0]
        assert curvature == pytest.approx(1 / sd**2, rel=0.02)
        low, high = profile.identifiability.interval
        assert high - low == pytest.approx(2 * np.tanh(1.96 * sd / 2), rel=0.05)
        found.append(profile.deviance)
    np.testing.assert_allclose(*found, rtol=1e-3, atol=1e-3)


def test_a_profile_of_the_loss_refuses_what_it_cannot_follow(directed):
    problem = quadratic(directed, BOWL, 0.1)
    with pytest.raises(InputError, match="no free parameter of all regions is called 'c'"):
        profile_loss(problem, problem.parameters.start(), "c", jax.random.key(0))
    with pytest.raises(InputError, match="2 seeds"):
        LossProfile(seeds=1)


def test_seeds_of_a_fit_do_not_narrow_what_one_recording_tells(directed):
    """A loss that is a mean over seeds scatters less from key to key; the recording's noise is what it is."""
    problem, key = quadratic(directed, BOWL, 0.1), jax.random.key(0)
    one, four = (
        measure_surroundings(replace(problem, seeds=seeds), problem.parameters.start(), key, 16, 0.25).noise(problem, 8)
        for seeds in (1, 4)
    )
    np.testing.assert_array_equal(one, four)


def test_a_loss_without_a_minimum_has_no_profile_and_the_rest_is_evaluated(directed):
    problem = quadratic(directed, ((-4.0, 0.0), (0.0, -4.0)), 0.1)
    settings = EvaluationSettings(identifiability_seeds=0, loss_profile_points=4)
    identified, profiles, notes = intervals(Fit.begin(problem), settings, jax.random.key(0))
    assert profiles == {}
    assert all("no minimum" in identified[name].reason for name in ("k", "sigma"))
    assert [note.partition(":")[0] for note in notes] == [f"There is no profile of {name}" for name in ("k", "sigma")]


def test_profiles_that_there_are_are_kept_and_the_others_said(directed, monkeypatch):
    """Noise decides whether a flat loss has a minimum, and every parameter has noise of its own."""
    problem = quadratic(directed, BOWL, 0.1)

    def profile_or_none(problem, point, name, *rest):
        if name == "sigma":
            raise InputError("the loss has no minimum")
        return profile_loss(problem, point, name, *rest)

    monkeypatch.setattr(sys.modules[intervals.__module__], "profile_loss", profile_or_none)
    settings = EvaluationSettings(identifiability_seeds=2, loss_profile_points=4)
    identified, profiles, notes = intervals(Fit.begin(problem), settings, jax.random.key(0))
    assert set(profiles) == {"k"}
    assert set(identified) == {"k", "sigma"}
    assert notes == ["There is no profile of sigma: the loss has no minimum."]

"""Newton's step at the end of a noisy fit, on losses whose minimum is known."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import network_of, problem_of_formula

from fitting import InputError
from fitting.evaluate import identifiability
from fitting.optimize import Fit, Newton, Parameter, solve
from fitting.optimize.newton import REACH
from fitting.optimize.storage import Store

BOTH = [Parameter("k", 1.0, 0.0, 2.0), Parameter("sigma", 1.0, 0.0, 2.0)]

HESSIAN = np.array([[4.0, 3.0], [3.0, 4.0]])


def paraboloid(directed, minimum, hessian=HESSIAN, noise=0.05):
    """A problem whose loss is a paraboloid in the unconstrained space, which noise tilts."""

    def loss(values, key):
        x = jnp.array([p.unbounded(values[p.name]) for p in BOTH]) - jnp.array(minimum)
        tilt = noise * jax.random.normal(key, (2,))
        return x @ jnp.array(hessian) @ x / 2 + tilt @ x

    return problem_of_formula(network_of(*directed), BOTH, loss)


def point_of(fit):
    return np.array([float(fit.point[p.name]) for p in BOTH])


def test_one_step_reaches_the_minimum_and_measures_its_curvature(directed):
    fit = Newton().run(Fit.begin(paraboloid(directed, (0.3, -0.2), noise=0.0)), jax.random.key(0))
    np.testing.assert_allclose(point_of(fit), (0.3, -0.2), atol=1e-7)
    np.testing.assert_allclose(fit.around.hessian, HESSIAN, atol=1e-7)
    assert fit.status == "converged"
    assert fit.chosen == "newton"


def test_the_step_averages_noise_seeds_as_the_sandwich_has_it(directed):
    noise, problem = 0.2, paraboloid(directed, (0.1, 0.1), noise=0.2)
    ends = [point_of(Newton(seeds=8).run(Fit.begin(problem), jax.random.key(i))) for i in range(60)]
    inverse = np.linalg.inv(HESSIAN)
    expected = np.sqrt(np.diag(inverse @ inverse) * noise**2 / 8)
    # Standard deviations of 60 are known to 9 %.
    np.testing.assert_allclose(np.std(ends, axis=0, ddof=1), expected, rtol=0.35)
    np.testing.assert_allclose(np.mean(ends, axis=0), (0.1, 0.1), atol=4 * expected.max() / np.sqrt(60))


def test_intervals_of_the_measurement_cover(directed):
    problem = paraboloid(directed, (0.1, 0.1), noise=0.2)
    held = 0
    for i in range(60):
        fit = Newton(seeds=8).run(Fit.begin(problem), jax.random.key(i))
        # The formula's target has no noise, and the interval counts that of a recording as long as one simulation.
        low, high = identifiability(problem, fit.point, jax.random.key(1), around=fit.around)["k"].interval
        wide = np.array([BOTH[0].unbounded(low), BOTH[0].unbounded(high)])
        half = (wide[1] - wide[0]) / 2 * np.sqrt((1 / 8) / (1 / 8 + 1))
        held += abs(float(fit.point["k"]) - 0.1) < half
    # Binomial, p = 0.95: fewer than 52 of 60 in one of 100 studies.
    assert 52 <= held <= 60


def test_directions_that_noise_hides_are_left_alone(directed):
    flat = np.array([[4.0, 0.0], [0.0, 0.0]])
    fit = Newton().run(Fit.begin(paraboloid(directed, (0.3, 0.0), flat, noise=0.05)), jax.random.key(2))
    assert abs(point_of(fit)[0] - 0.3) < 0.05
    assert abs(point_of(fit)[1]) < 1e-6


def test_a_slope_without_curvature_is_followed(directed):
    flat = np.array([[4.0, 0.0], [0.0, 0.0]])
    problem = paraboloid(directed, (0.0, 0.0), flat, noise=0.0)
    tilted = replace(
        problem, predictor=replace(problem.predictor, function=lambda values, key: -BOTH[1].unbounded(values["sigma"]))
    )
    fit = Newton(rounds=2).run(Fit.begin(tilted), jax.random.key(0))
    np.testing.assert_allclose(point_of(fit), (0.0, 2 * REACH * 0.1), atol=1e-7)
    assert fit.status == "max_steps"
    judged = identifiability(tilted, fit.point, jax.random.key(1), around=fit.around)
    assert all(answer.interval is None for answer in judged.values())
    assert "not at a minimum" in judged["sigma"].reason


def test_far_from_the_minimum_the_step_is_cut_short(directed):
    problem = paraboloid(directed, (3.0, 0.0), noise=0.0)
    short = Newton(rounds=1).run(Fit.begin(problem), jax.random.key(0))
    assert np.abs(point_of(short)).max() == pytest.approx(REACH * 0.1)
    assert short.status == "max_steps"
    assert np.abs(point_of(Newton(rounds=9).run(Fit.begin(problem), jax.random.key(0))) - (3.0, 0.0)).max() < 1e-6


def test_gradients_that_are_not_finite_leave_the_fit_where_it_is(directed):
    problem = problem_of_formula(network_of(*directed), BOTH, lambda values, key: values["k"] * jnp.nan)
    fit = Newton().run(Fit.begin(problem), jax.random.key(0))
    assert fit.around is None
    assert "not finite" in fit.notes[-1]
    np.testing.assert_array_equal(point_of(fit), 0.0)


def test_a_measurement_is_resumed_bit_for_bit(directed, tmp_path):
    problem = paraboloid(directed, (0.9, 0.1))
    whole = Newton(rounds=3).run(Fit.begin(problem), jax.random.key(0))

    class Killed(Exception):
        pass

    def kill(progress):
        if progress.done > 20:
            raise Killed

    with pytest.raises(Killed):
        Newton(rounds=3).run(Fit.begin(problem), jax.random.key(0), kill, Store(tmp_path))
    store = Store(tmp_path, resume=True)
    again = Newton(rounds=3).run(Fit.begin(problem), jax.random.key(0), store=store)
    np.testing.assert_array_equal(point_of(again), point_of(whole))
    other = paraboloid(directed, (0.9, 0.1), noise=0.1)
    with pytest.raises(InputError, match="another fit"):
        Newton(rounds=3).run(Fit.begin(other), jax.random.key(0), store=store)


def test_solve_takes_the_stage_and_settings_are_checked(directed):
    fit = solve(paraboloid(directed, (0.2, 0.2)), [Newton()], key=jax.random.key(0))
    assert np.abs(point_of(fit) - 0.2).max() < 0.1
    with pytest.raises(InputError, match="at least 4"):
        Newton(seeds=3)

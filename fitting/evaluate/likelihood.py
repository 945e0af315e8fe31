"""What a connectivity matrix can tell about parameters, by a predictor without noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from fitting.errors import InputError
from fitting.evaluate.uncertainty import (
    DEVIANCE_95,
    Identifiability,
    Minimum,
    Profile,
    below,
    bounded,
    minimum,
    verdict,
)
from fitting.optimize import Problem
from fitting.programs import compiled
from fitting.progress import Progress, Reporter, silent
from fitting.signal import upper_pairs


class NotFiniteError(InputError):
    """A point at which the prediction is not finite, so that nothing can be said around it."""


class Scatter(NamedTuple):
    """Standard deviations of an estimate in the unconstrained space, see :func:`estimate_scatter`."""

    independent: float
    dyadic: float

    @property
    def cautious(self) -> float:
        """The larger of the two."""
        return max(self.independent, self.dyadic)


def estimate_scatter(problem: Problem, point: Mapping[str, Any]) -> dict[str, Scatter]:
    r"""Scatter of the estimates of the global parameters, all others being unknown too.

    The target's pairs are taken as :math:`a + b\,FC(\theta)` plus errors as large as the fit leaves them, with a
    and b unknown, as a correlation is the score. With J the derivatives of the pairs by all free
    parameters, less what a and b explain, an error e moves the estimate by
    :math:`(b^2 J^T J)^{-1} b J^T e`. Were errors independent, that is the inverse of the Fisher
    information. Errors of pairs that share a region are not: the dyadic scatter adds the products of their residuals
    (Fafchamps and Gubert, Journal of Development Economics 83, 2007, 326-350, equation 2.7).

    Parameters
    ----------
    problem : Problem
    point : mapping
        Unconstrained fitted point.

    Returns
    -------
    dict of Scatter
        One entry per free parameter that is not per region; infinite where nothing changes with it.
    """
    return _scatter(problem, _linear_fit(problem, point))


def _scatter(problem: Problem, fit: _LinearFit) -> dict[str, Scatter]:
    left, size, right = np.linalg.svd(fit.jacobian, full_matrices=False)
    # Directions that nothing changes along are not estimated at all.
    known = size > size.max(initial=0.0) * 1e-6
    variance = (fit.residual**2).sum() / max(1, len(fit.residual) - 2 - len(fit.jacobian.T))
    scatter = {}
    for p in problem.parameters.shared:
        direction = right[:, fit.column[p.name]]
        # Directions that the pairs are too few to span are unknown as well.
        if 1 - (direction[known] ** 2).sum() > 1e-6:
            scatter[p.name] = Scatter(np.inf, np.inf)
            continue
        influence = left[:, known] @ (direction[known] / size[known])
        independent = variance * (influence**2).sum()
        dyadic = _dyadic_variance(influence * fit.residual, fit.rows, fit.columns)
        scatter[p.name] = Scatter(float(np.sqrt(independent)), float(np.sqrt(dyadic)))
    return scatter


class _LinearFit(NamedTuple):
    """Pairs of the target, near a point, as a linear function of the free parameters."""

    jacobian: np.ndarray  # (pair, parameter), less what an offset and a scale explain
    residual: np.ndarray  # (pair,)
    rows: np.ndarray
    columns: np.ndarray
    column: dict[str, int]  # of the jacobian, for parameters that all regions share


def _linear_fit(problem: Problem, point: Mapping[str, Any]) -> _LinearFit:
    rows, columns = upper_pairs(problem.network.regions, problem.target.pairs)
    flat, restore = ravel_pytree({name: jnp.asarray(value) for name, value in point.items()})

    def pairs_of(x):
        return problem.predict(problem.parameters.values(restore(x)), None).fc[rows, columns]

    @compiled
    def model_and_jacobian(x):
        model, along = jax.linearize(pairs_of, x)
        return model, jax.lax.map(along, jnp.eye(len(x), dtype=x.dtype)).T

    model, jacobian = (np.asarray(x, float) for x in model_and_jacobian(flat))
    if not (np.isfinite(model).all() and np.isfinite(jacobian).all()):
        raise NotFiniteError("the prediction at this point is not finite, so that nothing can be said around it")
    y = np.asarray(problem.target.fc, float)[rows, columns]
    nuisance = np.stack([np.ones_like(model), model], axis=1)
    explained, *_ = np.linalg.lstsq(nuisance, y, rcond=None)
    seen = explained[1] * (jacobian - nuisance @ np.linalg.lstsq(nuisance, jacobian, rcond=None)[0])
    position = restore(jnp.arange(len(flat), dtype=flat.dtype))
    column = {p.name: int(position[p.name]) for p in problem.parameters.shared}
    return _LinearFit(seen, y - nuisance @ explained, rows, columns, column)


def _dyadic_variance(moved, rows, columns) -> float:
    """Sum of the products of what pairs have moved, over all pairs of pairs that share a region."""
    by_region = np.bincount(rows, moved, columns.max() + 1) + np.bincount(columns, moved)
    # Every pair shares two regions with itself and is to count once.
    return max(float((by_region**2).sum() - (moved**2).sum()), 0.0)


def fisher_information(problem: Problem, point: Mapping[str, Any]) -> dict[str, Identifiability]:
    """Whether a predictor without noise lets a target identify the global parameters, all others being unknown too.

    From the curvature at the fitted point alone; :func:`profile_likelihood` follows a parameter to its bounds.

    Parameters
    ----------
    problem : Problem
    point : mapping
        Unconstrained fitted point.

    Returns
    -------
    dict of Identifiability
        By parameter; the interval is 1.96 of the cautious scatter of :func:`estimate_scatter` to either side.
    """
    if not problem.parameters.shared:
        return {}
    pairs = len(upper_pairs(problem.network.regions, problem.target.pairs)[0])
    return _local(problem, point, estimate_scatter(problem, point), pairs)


def _local(problem: Problem, point, scatter: Mapping[str, Scatter], pairs: int) -> dict[str, Identifiability]:
    answers = {}
    for p in problem.parameters.shared:
        x, sd = float(point[p.name]), scatter[p.name].cautious
        interval = bounded(p, x - 1.96 * sd, x + 1.96 * sd)
        others = ", ".join(other.name for other in problem.parameters.free if other.name != p.name) or "nothing"
        words = f"Fisher information over {pairs} pairs, with {others} unknown too, allows"
        answers[p.name] = verdict(p, interval, words)
    return answers


def profile_likelihood(
    problem: Problem,
    point: Mapping[str, Any],
    names: Sequence[str] | None = None,
    points: int = 9,
    steps: int = 30,
    progress: Reporter = silent,
) -> dict[str, Profile]:
    r"""Follow the likelihood of each global parameter from the fitted point to its bounds.

    At each value the other free parameters are fitted anew, from the fit at the value before, moved to where the
    linearised model makes up for the step. For pairs that are
    :math:`a + b\,FC` plus Gaussian errors, a, b and the errors' size being unknown, twice the logarithm of the
    likelihood is :math:`-n \ln(1 - r^2)`, with r the correlation over n pairs. Pairs that share a region have errors in
    common, so n is too many: the deviance is scaled by the independent over the dyadic variance of
    :func:`estimate_scatter`, as Chandler and Bate (Biometrika 94, 2007, 167-183) scale that of
    other likelihoods that take for independent what is not.

    Fits that stop short of the best make a profile steeper than it is. Intervals therefore are never narrower than
    those of :func:`fisher_information`, which need no fits.

    Parameters
    ----------
    problem : Problem
    point : mapping
        Unconstrained fitted point.
    names : sequence of str, optional
        Parameters to follow; all free ones that are not per region unless given.
    points : int
        Values of each parameter, besides the fitted one.
    steps : int
        Steps of L-BFGS at each of them.
    progress : callable, optional

    Returns
    -------
    dict of Profile

    Raises
    ------
    InputError
        If a name is not that of a free parameter of all regions.
    """
    scalars = {p.name: p for p in problem.parameters.shared}
    names = list(scalars) if names is None else list(names)
    if unknown := sorted(set(names) - set(scalars)):
        raise InputError(
            f"no free parameter of all regions is called {unknown[0]!r}; choose from {', '.join(scalars) or 'none'}"
        )
    if points < 3 or steps < 1:
        raise InputError(f"a profile needs at least 3 points and 1 step; got {points} and {steps}")
    if not names:
        return {}
    point = {name: jnp.asarray(value) for name, value in point.items()}
    pairs = len(upper_pairs(problem.network.regions, problem.target.pairs)[0])
    linear = _linear_fit(problem, point)
    scatter = _scatter(problem, linear)
    local = _local(problem, point, scatter, pairs)
    done, profiles = 0, {}
    for name in names:
        x = float(point[name])
        refit = _Refit(problem, point, name, steps)
        along = _compensation(linear.jacobian, linear.column[name])
        start = refit.at(x, [refit.start])
        fits = {x: start.fc_correlation}
        grid = np.linspace(-4.0, 4.0, points)
        # From the fitted value outwards, one side after the other.
        for side in (grid[grid < x][::-1], grid[grid >= x]):
            others, before = start.point, x
            for value in side:
                best = refit.at(value, [others, others + (value - before) * along])
                others, before, fits[value] = best.point, value, best.fc_correlation
                done += 1
                progress(Progress("profile likelihood", done, len(names) * points))
        profiles[name] = _profile(scalars[name], fits, pairs, scatter[name], local[name])
    return profiles


def _profile(p, fits: Mapping[float, float], pairs: int, scatter: Scatter, local: Identifiability) -> Profile:
    """The deviance of the best correlations along a parameter, and the interval that follows."""
    at = np.array(sorted(fits))
    r = np.array([fits[value] for value in at])
    shared = (scatter.independent / scatter.cautious) ** 2 if np.isfinite(scatter.cautious) else 1.0
    with np.errstate(invalid="ignore"):
        likelihood = -pairs * shared * np.log1p(-(np.clip(r, 0.0, 1 - 1e-12) ** 2))
    deviance = np.nanmax(likelihood) - likelihood
    low, high = bounded(p, *below(at, deviance, DEVIANCE_95))
    around = local.interval or (low, high)
    words = f"profile likelihood and Fisher information over {pairs} pairs, all else fitted anew, allow"
    answer = verdict(p, (min(low, around[0]), max(high, around[1])), words)
    return Profile(np.array(bounded(p, *at)), r, deviance, p.unit, answer)


def _compensation(jacobian, column: int):
    """Change of the other parameters that makes up, as well as a small one can, for a unit step of one parameter."""
    others = np.delete(jacobian, column, axis=1)
    gram = others.T @ others
    ridge = 1e-3 * np.trace(gram) / max(1, len(gram))
    # Others that change nothing at all stay where they are.
    return -np.linalg.lstsq(gram + ridge * np.eye(len(gram)), others.T @ jacobian[:, column])[0]


class _Refit:
    """Fit all free parameters but one."""

    def __init__(self, problem: Problem, point, name: str, steps: int):
        others = {key: value for key, value in point.items() if key != name}
        self.start, restore = ravel_pytree(others)
        self.options = {"maxiter": steps, "maxcor": 30}

        def loss(x, value):
            total, terms = problem.value(restore(x) | {name: value}, jax.random.key(0))
            return total, terms.fc_correlation

        self.gradient = compiled(jax.value_and_grad(loss, has_aux=True))

    def at(self, value: float, starts) -> Minimum:
        """The best fit of the others, from the better of the starts."""
        return minimum(
            lambda x: self.gradient(jnp.asarray(x, self.start.dtype), value), starts, "L-BFGS-B", self.options
        )

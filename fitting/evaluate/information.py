"""What a connectivity matrix can tell about parameters, by linear response."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jax.flatten_util import ravel_pytree
from jaxtyping import Float

from fitting.errors import InputError
from fitting.evaluate.identifiability import Identifiability, _unit
from fitting.optimize import ResponseProblem
from fitting.signal import upper_pairs

#: 95 % quantile of chi-square with one degree of freedom: a higher deviance is outside the interval.
DEVIANCE_95 = 3.841


class Scatter(NamedTuple):
    """Standard deviations of an estimate in the unconstrained space, see :func:`estimate_scatter`."""

    independent: float
    dyadic: float

    @property
    def cautious(self) -> float:
        """The larger of the two."""
        return max(self.independent, self.dyadic)


def estimate_scatter(problem: ResponseProblem, point: Mapping[str, Any]) -> dict[str, Scatter]:
    r"""Scatter of the estimates of the global parameters, all others being unknown too.

    The target's pairs are taken as :math:`a + b\,FC(\theta)` plus errors as large as the fit leaves them, with a
    and b unknown, as a correlation is the score. With J the derivatives of the pairs by all free
    parameters, less what a and b explain, an error e moves the estimate by
    :math:`(b^2 J^T J)^{-1} b J^T e`. Were errors independent, that is the inverse of the Fisher
    information. Errors of pairs that share a region are not: the dyadic scatter adds the products of their residuals
    (Fafchamps and Gubert, Journal of Development Economics 83, 2007, 326-350, equation 2.7).

    Parameters
    ----------
    problem : ResponseProblem
    point : mapping
        Unconstrained fitted point.

    Returns
    -------
    dict of Scatter
        One entry per free parameter that is not per region; infinite where nothing changes with it.
    """
    return _scatter(problem, _linear_fit(problem, point))


def _scatter(problem: ResponseProblem, fit: _LinearFit) -> dict[str, Scatter]:
    left, size, right = np.linalg.svd(fit.jacobian, full_matrices=False)
    # Directions that nothing changes along are not estimated at all.
    known = size > size.max(initial=0.0) * 1e-6
    variance = (fit.residual**2).sum() / max(1, len(fit.residual) - 2 - len(fit.jacobian.T))
    found = {}
    for p in problem.parameters.free:
        if p.per_region:
            continue
        direction = right[:, fit.column[p.name]]
        # Directions that the pairs are too few to span are unknown as well.
        if 1 - (direction[known] ** 2).sum() > 1e-6:
            found[p.name] = Scatter(np.inf, np.inf)
            continue
        influence = left[:, known] @ (direction[known] / size[known])
        independent = variance * (influence**2).sum()
        dyadic = _dyadic_variance(influence * fit.residual, fit.rows, fit.columns)
        found[p.name] = Scatter(float(np.sqrt(independent)), float(np.sqrt(dyadic)))
    return found


class _LinearFit(NamedTuple):
    """Pairs of the target, near a point, as a linear function of the free parameters."""

    jacobian: np.ndarray  # (pair, parameter), less what an offset and a scale explain
    residual: np.ndarray  # (pair,)
    rows: np.ndarray
    columns: np.ndarray
    column: dict[str, int]  # of the jacobian, for parameters that all regions share


def _linear_fit(problem: ResponseProblem, point: Mapping[str, Any]) -> _LinearFit:
    rows, columns = upper_pairs(problem.network.regions, problem.target.pairs)
    flat, restore = ravel_pytree({name: jnp.asarray(value) for name, value in point.items()})

    def pairs_of(x):
        return problem.respond(problem.parameters.values(restore(x)))[0][rows, columns]

    @jax.jit
    def model_and_jacobian(x):
        model, along = jax.linearize(pairs_of, x)
        return model, jax.lax.map(along, jnp.eye(len(x), dtype=x.dtype)).T

    model, jacobian = (np.asarray(x, float) for x in model_and_jacobian(flat))
    y = np.asarray(problem.target.fc, float)[rows, columns]
    nuisance = np.stack([np.ones_like(model), model], axis=1)
    explained, *_ = np.linalg.lstsq(nuisance, y, rcond=None)
    seen = explained[1] * (jacobian - nuisance @ np.linalg.lstsq(nuisance, jacobian, rcond=None)[0])
    position = restore(jnp.arange(len(flat), dtype=flat.dtype))
    column = {p.name: int(position[p.name]) for p in problem.parameters.free if not p.per_region}
    return _LinearFit(seen, y - nuisance @ explained, rows, columns, column)


def _dyadic_variance(moved, rows, columns) -> float:
    """Sum of the products of what pairs have moved, over all pairs of pairs that share a region."""
    by_region = np.bincount(rows, moved, columns.max() + 1) + np.bincount(columns, moved)
    # Every pair shares two regions with itself and is to count once.
    return max(float((by_region**2).sum() - (moved**2).sum()), 0.0)


def response_information(problem: ResponseProblem, point: Mapping[str, Any]) -> dict[str, Identifiability]:
    """Whether linear response lets a target identify the global parameters, all others being unknown too.

    From the curvature at the fitted point alone; :func:`profile_likelihood` follows a parameter to its bounds.

    Parameters
    ----------
    problem : ResponseProblem
    point : mapping
        Unconstrained fitted point.

    Returns
    -------
    dict of Identifiability
        By parameter; the interval is 1.96 of the cautious scatter of :func:`estimate_scatter` to either side.
    """
    if all(p.per_region for p in problem.parameters.free):
        return {}
    pairs = len(upper_pairs(problem.network.regions, problem.target.pairs)[0])
    return _local(problem, point, estimate_scatter(problem, point), pairs)


def _local(problem: ResponseProblem, point, scatter: Mapping[str, Scatter], pairs: int) -> dict[str, Identifiability]:
    found = {}
    for p in problem.parameters.free:
        if p.per_region:
            continue
        x, sd = float(point[p.name]), scatter[p.name].cautious
        low, high = (float(p.bounded(jnp.asarray(np.clip(x + d, -12, 12)))) for d in (-1.96 * sd, 1.96 * sd))
        others = ", ".join(other.name for other in problem.parameters.free if other is not p) or "nothing"
        words = f"Fisher information over {pairs} pairs, with {others} unknown too, allows"
        found[p.name] = verdict(p, (low, high), words)
    return found


def verdict(p, interval, words: str) -> Identifiability:
    """Identifiable is what an interval leaves at most 80 % of its bounds for."""
    low, high = interval
    lowest, highest = (float(p.bounded(jnp.asarray(d))) for d in (-6.0, 6.0))
    reason = f"{words} {low:.3g} to {high:.3g} {_unit(p)}".rstrip()
    return Identifiability(high - low < 0.8 * (highest - lowest), reason, (low, high))


class Profile(NamedTuple):
    """The likelihood along one parameter, all others fitted anew at every value of it.

    Attributes
    ----------
    values : array (point,)
        Of the parameter, in its unit, from one bound to the other.
    fc_correlation : array (point,)
        Of the best fit with that value.
    deviance : array (point,)
        Twice the logarithm of the likelihood ratio to the best value.
    unit : str
    identifiability : Identifiability
        Its interval is where the deviance is below 3.84: 95 %.
    """

    values: Float[np.ndarray, " point"]
    fc_correlation: Float[np.ndarray, " point"]
    deviance: Float[np.ndarray, " point"]
    unit: str
    identifiability: Identifiability


def profile_likelihood(
    problem: ResponseProblem,
    point: Mapping[str, Any],
    names: Sequence[str] | None = None,
    points: int = 9,
    steps: int = 30,
    on_fit: Callable[[int, int], None] | None = None,
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
    those of :func:`response_information`, which need no fits.

    Parameters
    ----------
    problem : ResponseProblem
    point : mapping
        Unconstrained fitted point.
    names : sequence of str, optional
        Parameters to follow; all free ones that are not per region unless given.
    points : int
        Values of each parameter, besides the fitted one.
    steps : int
        Steps of L-BFGS at each of them.
    on_fit : callable, optional
        Called with the number of fits done and in all.

    Returns
    -------
    dict of Profile

    Raises
    ------
    InputError
        If a name is not that of a free parameter of all regions.
    """
    scalars = {p.name: p for p in problem.parameters.free if not p.per_region}
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
    done, total = 0, len(names) * points
    found = {}
    for name in names:
        x = float(point[name])
        grid = np.linspace(-4.0, 4.0, points)
        refit = _Refit(problem, point, name, steps)
        along = _compensation(linear.jacobian, linear.column[name])
        start, correlation = refit.at(x, refit.start)
        fits = {x: correlation}
        # From the fitted value outwards, one side after the other.
        for side in (grid[grid < x][::-1], grid[grid >= x]):
            others, before = start, x
            for value in side:
                others, fits[value] = refit.at(value, others, (value - before) * along)
                before = value
                done += 1
                if on_fit:
                    on_fit(done, total)
        at = np.array(sorted(fits))
        r = np.array([fits[value] for value in at])
        p = scalars[name]
        spread = scatter[name]
        shared = (spread.independent / spread.cautious) ** 2 if np.isfinite(spread.cautious) else 1.0
        with np.errstate(invalid="ignore"):
            likelihood = -pairs * shared * np.log1p(-(np.clip(r, 0.0, 1 - 1e-12) ** 2))
        deviance = np.nanmax(likelihood) - likelihood
        values = np.array([float(p.bounded(jnp.asarray(value))) for value in at])
        low, high = (float(p.bounded(jnp.asarray(end))) for end in below(at, deviance, DEVIANCE_95))
        around = local[name].interval
        assert around is not None
        low, high = min(low, around[0]), max(high, around[1])
        words = f"profile likelihood and Fisher information over {pairs} pairs, all else fitted anew, allow"
        found[name] = Profile(values, r, deviance, p.unit, verdict(p, (low, high), words))
    return found


def _compensation(jacobian, column: int):
    """Change of the other parameters that makes up, as well as a small one can, for a unit step of one parameter."""
    others = np.delete(jacobian, column, axis=1)
    gram = others.T @ others
    ridge = 1e-3 * np.trace(gram) / max(1, len(gram))
    return -np.linalg.solve(gram + ridge * np.eye(len(gram)), others.T @ jacobian[:, column])


class _Refit:
    """Fit all free parameters but one."""

    def __init__(self, problem: ResponseProblem, point, name: str, steps: int):
        others = {key: value for key, value in point.items() if key != name}
        self.start, restore = ravel_pytree(others)
        self.steps = steps

        def loss(x, value):
            total, terms = problem.loss(restore(x) | {name: value})
            return total, terms.fc_correlation

        self.loss = jax.jit(jax.value_and_grad(loss, has_aux=True))

    def at(self, value: float, start, step=0.0):
        """The other parameters and the correlation of the best fit, from ``start`` or ``step`` away from it."""
        lowest, best = np.inf, (np.asarray(start), float("nan"))

        def evaluate(x):
            nonlocal lowest, best
            (total, correlation), gradient = self.loss(jnp.asarray(x, self.start.dtype), value)
            total, gradient = float(total), np.asarray(gradient, float)
            if not (np.isfinite(total) and np.isfinite(gradient).all()):
                # Far above all losses: the line search turns back.
                return 1e3, np.zeros_like(gradient)
            if total < lowest:
                lowest, best = total, (np.array(x), float(correlation))
            return total, gradient

        start = np.asarray(start, float)
        first, stepped = evaluate(start)[0], evaluate(start + step)[0] if np.any(step) else np.inf
        if len(start):
            options = {"maxiter": self.steps, "maxcor": 30}
            begin = start if first <= stepped else start + step
            scipy.optimize.minimize(evaluate, begin, jac=True, method="L-BFGS-B", options=options)
        return best


def below(x, y, level: float) -> tuple[float, float]:
    """Ends of the stretch around the lowest y where y stays below a level; the ends of x where it never rises."""
    lowest = int(np.nanargmin(y))

    def end(indices, outermost):
        for near, far in itertools.pairwise(indices):
            if not y[far] <= level:
                # No fit at all is as unlikely as can be.
                share = (level - y[near]) / (y[far] - y[near]) if np.isfinite(y[far]) else 0.0
                return float(x[near] + share * (x[far] - x[near]))
        return outermost

    return end(range(lowest, -1, -1), -12.0), end(range(lowest, len(x)), 12.0)

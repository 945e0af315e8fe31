"""What can be said of a parameter: an interval, whether it is identifiable, and a profile along it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.optimize
import scipy.stats
from jaxtyping import Float

from fitting.optimize import Parameter

#: 95 % quantile of chi-square with one degree of freedom: a higher deviance is outside the interval.
DEVIANCE_95 = 3.841

#: Unconstrained values that stand for the bounds of a parameter.
ENDS = (-6.0, 6.0)


@dataclass(frozen=True)
class Identifiability:
    """What the loss says about one parameter.

    Attributes
    ----------
    identifiable : bool
    reason : str
        Why, with the numbers.
    interval : (float, float) or None
        Approximate 95 % interval, in the parameter's unit; None where it cannot be had.
    correlations : dict
        Of the estimate with those of other parameters, where known: near 1 or -1, only a combination of them is seen.
    better : float or None
        A value nearby whose loss is lower beyond noise: the fit has not converged.
    """

    identifiable: bool
    reason: str
    interval: tuple[float, ...] | None
    correlations: dict[str, float] = field(default_factory=dict)
    better: float | None = None


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


def bounded(p: Parameter, *points: float) -> tuple[float, ...]:
    """Values that unconstrained numbers stand for."""
    return tuple(float(p.bounded(jnp.asarray(np.clip(point, -12.0, 12.0)))) for point in points)


def with_unit(p: Parameter, *values: float) -> str:
    """Values from one to the other, and their unit."""
    return f"{' to '.join(f'{value:.3g}' for value in values)} {'' if p.unit == '1' else p.unit}".rstrip()


def says_something(p: Parameter, interval: tuple[float, ...]) -> bool:
    """Whether an interval leaves at least a fifth of what the bounds allow."""
    lowest, highest = bounded(p, *ENDS)
    return interval[1] - interval[0] < 0.8 * (highest - lowest)


def verdict(p: Parameter, interval: tuple[float, ...], words: str) -> Identifiability:
    """A parameter is identifiable if its interval leaves out a fifth of what the bounds allow."""
    return Identifiability(says_something(p, interval), f"{words} {with_unit(p, *interval)}", interval)


def quantile(freedom: int, sides: int = 2) -> float:
    """Standard errors that noise exceeds in 5 % of all cases, on any of several sides.

    Of Student's t, for an error known from so many numbers; two sides are those of a 95 % interval.
    """
    return float(scipy.stats.t.ppf(1 - 0.05 / sides, freedom)) if freedom > 0 else float("nan")


def below(x, y, level: float) -> tuple[float, float]:
    """Ends of the stretch around the lowest y where y stays below a level; far outside where it never rises.

    Between two points the root of y is taken for a straight line, which is exact for a deviance that is a parabola.
    """
    lowest, root = int(np.nanargmin(y)), np.sqrt(np.maximum(y, 0.0))

    def end(indices, outermost):
        for near, far in itertools.pairwise(indices):
            if not y[far] <= level:
                # No fit at all is as unlikely as can be.
                share = (np.sqrt(level) - root[near]) / (root[far] - root[near]) if np.isfinite(y[far]) else 0.0
                return float(x[near] + share * (x[far] - x[near]))
        return outermost

    return end(range(lowest, -1, -1), -12.0), end(range(lowest, len(x)), 12.0)


class Minimum(NamedTuple):
    """The lowest loss that a minimiser came by, the correlation there, and where that was."""

    loss: float
    fc_correlation: float
    point: np.ndarray


def minimum(value_and_grad: Callable, starts, method: str, options: dict[str, Any]) -> Minimum:
    """Minimise from the better of several starts, around everything that is not finite.

    Parameters
    ----------
    value_and_grad : callable
        Of a vector: ``((loss, correlation), gradient)``.
    starts : sequence of arrays
    method, options
        See :func:`scipy.optimize.minimize`.

    Returns
    -------
    Minimum
    """
    best = Minimum(np.inf, float("nan"), np.asarray(starts[0], float))

    def evaluate(x):
        nonlocal best
        (loss, correlation), gradient = value_and_grad(x)
        loss, gradient = float(loss), np.asarray(gradient, float)
        if not (np.isfinite(loss) and np.isfinite(gradient).all()):
            # Far above all losses: the line search turns back.
            return 1e3, np.zeros_like(gradient)
        if loss < best.loss:
            best = Minimum(loss, float(correlation), np.array(x))
        return loss, gradient

    starts = [np.asarray(start, float) for start in starts]
    first = min(starts, key=lambda start: evaluate(start)[0])
    if len(first):
        scipy.optimize.minimize(evaluate, first, jac=True, method=method, options=options)
    return best

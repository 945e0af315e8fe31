"""Can the loss see a parameter at all, and how finely? Measured around the fitted point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fitting.optimize import Problem


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
    """

    identifiable: bool
    reason: str
    interval: tuple[float, float] | None


def identifiability(
    problem: Problem,
    point: Mapping[str, Any],
    key,
    seeds: int = 4,
    step: float = 0.25,
    on_evaluation: Callable[[int, int], None] | None = None,
) -> dict[str, Identifiability]:
    """Measure, for each global free parameter, how the loss changes around the fitted point.

    Parameters
    ----------
    problem : Problem
    point : mapping
        Unconstrained fitted point.
    key : PRNG key
    seeds : int
        Noise seeds; every displacement is evaluated with the same ones, so that differences are
        paired.
    step : float
        Displacement in the unconstrained space for slopes and curvatures (0.25 moves a parameter in
        the middle of its bounds by 6 % of their width).
    on_evaluation : callable, optional
        Called with the number of evaluations done and in all.

    Returns
    -------
    dict of Identifiability
        By parameter; parameters per region are left out.

    Notes
    -----
    Across noise seeds the loss has a slope ``s_k`` at the fitted point and a mean curvature ``c``.
    The scatter of the fitted value is about ``sd(s) / c`` for one simulation as long as the target:
    the sandwich formula of M-estimators (White, Econometrica 50, 1982) without correlations between
    parameters; the target's own sampling noise enters with its length relative to a simulation's.
    A parameter is called identifiable if the curvature is positive beyond twice its standard error
    over seeds and the interval lies within the bounds' width. Otherwise the reason says which of
    the two failed.
    """
    parameters = problem.parameters
    scalars = [p for p in parameters.free if not p.per_region]
    keys = jax.random.split(key, seeds)
    evaluate = jax.jit(lambda point, key: problem.loss(point, key)[0])
    point = {name: jnp.asarray(value) for name, value in point.items()}
    total = seeds * (1 + 2 * len(scalars))
    done = 0

    def losses(at):
        nonlocal done
        values = []
        for k in keys:
            values.append(float(evaluate(at, k)))
            done += 1
            if on_evaluation:
                on_evaluation(done, total)
        return np.array(values)

    middle = losses(point)
    simulated = problem.duration / 1000 - problem.observation.transient
    # Target noise scales with its length; the fit averages its own noise over many steps.
    share = simulated / problem.target.seconds if np.isfinite(problem.target.seconds) else 1.0
    result = {}
    for p in scalars:
        x = point[p.name]
        above = losses(point | {p.name: x + step})
        below = losses(point | {p.name: x - step})
        result[p.name] = _judge(p, float(x), step, below, middle, above, share)
    return result


def _judge(p, x: float, step: float, below, middle, above, share: float) -> Identifiability:
    values = [float(p.bounded(jnp.asarray(x + d))) for d in (-step, step)]
    if not np.isfinite(np.concatenate([below, middle, above])).all():
        return Identifiability(False, "the loss is not finite around the fitted value", None)
    curvatures = (above - 2 * middle + below) / step**2
    slopes = (above - below) / (2 * step)
    seeds = len(middle)
    curvature, error = curvatures.mean(), curvatures.std(ddof=1) / np.sqrt(seeds)
    between = f"between {values[0]:.3g} and {values[1]:.3g} {_unit(p)}"
    change = (above + below).mean() / 2 - middle.mean()
    if not curvature > 2 * error or curvature <= 0:
        return Identifiability(
            False,
            f"{between} the loss changes by {change:.1e}, not more than its spread over {seeds} noise seeds",
            None,
        )
    sd = slopes.std(ddof=1) * np.sqrt(share) / curvature
    width = 1.96 * sd
    low, high = (float(p.bounded(jnp.asarray(x + d))) for d in (-width, width))
    room = float(p.bounded(jnp.asarray(6.0))) - float(p.bounded(jnp.asarray(-6.0)))
    if high - low > 0.8 * room:
        return Identifiability(
            False,
            f"noise moves the best value over {low:.3g} to {high:.3g} {_unit(p)}, most of what the bounds allow",
            (low, high),
        )
    return Identifiability(True, f"{between} the loss rises by {change:.1e} on average over {seeds} seeds", (low, high))


def _unit(p) -> str:
    return "" if p.unit == "1" else p.unit

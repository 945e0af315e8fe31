"""Can the loss see a parameter at all, and how finely? Measured around the fitted point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fitting.devices import over_devices, rounds_over_devices
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
    correlations : dict
        Of the estimate with those of other parameters, where known: near 1 or -1, only a combination of them is seen.
    """

    identifiable: bool
    reason: str
    interval: tuple[float, float] | None
    correlations: dict[str, float] = field(default_factory=dict)


def identifiability(
    problem: Problem,
    point: Mapping[str, Any],
    key,
    seeds: int = 4,
    step: float = 0.25,
    averaged: int = 1,
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
    averaged : int
        Independent simulations that the fitted point averages over. Steps of an optimiser are not
        independent, so one, the cautious choice, is the default.
    on_evaluation : callable, optional
        Called with the number of evaluations done and in all.

    Returns
    -------
    dict of Identifiability
        By parameter; parameters per region are left out.

    Notes
    -----
    From losses on a cross of displaced points, each noise seed gives a slope ``s`` and a matrix of
    curvatures; ``H`` is the mean curvature and ``C`` the covariance of the slopes over seeds. The
    fitted point scatters with covariance ``H^-1 C H^-1 (1 / averaged + T / T_target)``: the
    sandwich formula of M-estimators (White, Econometrica 50, 1982, 1-25), with one part for the
    noise of the simulations that were averaged and one for the recording's own, as long as
    ``T_target`` where a simulation has ``T``. A parameter is called identifiable if its curvature
    is positive beyond twice its standard error over seeds, and the interval leaves out part of what
    the bounds allow. Otherwise the reason says which of the two failed.
    """
    scalars = [p for p in problem.parameters.free if not p.per_region]
    around = measure_surroundings(problem, point, key, seeds, step, on_evaluation)
    covariance = _sandwich(around.hessian, around.noise(problem, averaged))
    scatter = None if covariance is None else np.sqrt(np.diag(covariance))
    curvatures = np.diagonal(around.curvatures).T
    found = {}
    for i, p in enumerate(scalars):
        judged = _judge(p, float(point[p.name]), step, around.rises[i], curvatures[i], scatter, i)
        correlations = {}
        if scatter is not None and np.isfinite(scatter[i]):
            for j, other in enumerate(scalars):
                if j != i and np.isfinite(scatter[j]) and scatter[i] * scatter[j] > 0:
                    correlations[other.name] = float(covariance[i, j] / (scatter[i] * scatter[j]))
        found[p.name] = replace(judged, correlations=correlations)
    return found


class Surroundings(NamedTuple):
    """The loss around a point: every noise seed's slopes, curvatures and rises, by global free parameter."""

    slopes: np.ndarray  # (parameter, seed)
    curvatures: np.ndarray  # (parameter, parameter, seed)
    rises: np.ndarray  # (parameter, seed): mean of the losses on both sides, less that in the middle

    @property
    def hessian(self):
        """Mean curvature."""
        return self.curvatures.mean(-1)

    def noise(self, problem: Problem, averaged: int = 1):
        """Covariance of the slopes, by the noise of ``averaged`` simulations and that of the recording."""
        simulated = problem.duration / 1000 - problem.observation.transient
        # A target of unknown length is taken to be as noisy as one simulation.
        share = 1 / averaged + (simulated / problem.target.seconds if np.isfinite(problem.target.seconds) else 1.0)
        if self.slopes.shape[1] < 2:
            return np.full((len(self.slopes), len(self.slopes)), np.nan)
        return np.atleast_2d(np.cov(self.slopes)) * share


def measure_surroundings(
    problem: Problem,
    point: Mapping[str, Any],
    key,
    seeds: int,
    step: float,
    on_evaluation: Callable[[int, int], None] | None = None,
) -> Surroundings:
    """Losses on a cross of displaced points, every displacement with the same noise seeds."""
    names = [p.name for p in problem.parameters.free if not p.per_region]
    count = len(names)
    unit = step * np.eye(count)
    pairs = [(i, j) for i in range(count) for j in range(i)]
    moves = np.array([np.zeros(count), *unit, *-unit, *(s * (unit[i] + unit[j]) for s in (1, -1) for i, j in pairs)])
    point = {name: jnp.asarray(value) for name, value in point.items()}

    def evaluate(displaced, point):
        move, key = displaced
        return problem.loss(point | {name: point[name] + move[i] for i, name in enumerate(names)}, key)[0]

    batch = problem.side_by_side()
    every = over_devices(evaluate, batch)
    keys = jnp.tile(jax.random.split(key, seeds), len(moves))
    moved = np.repeat(moves, seeds, axis=0).astype(jnp.result_type(float))
    found: list[float] = []
    for some in rounds_over_devices(len(moved), batch):
        found.extend(every((moved[some], keys[some]), point))
        if on_evaluation:
            on_evaluation(len(found), len(moved))
    losses = np.array(found, float).reshape(len(moves), seeds)
    middle, above, below, corners = np.split(losses, np.cumsum([1, count, count]))
    curvature = np.empty((count, count, seeds))
    for i in range(count):
        curvature[i, i] = (above[i] - 2 * middle[0] + below[i]) / step**2
    for (i, j), corner in zip(pairs, corners[: len(pairs)] + corners[len(pairs) :], strict=True):
        edges = above[i] + below[i] + above[j] + below[j]
        curvature[i, j] = curvature[j, i] = (corner - edges + 2 * middle[0]) / (2 * step**2)
    return Surroundings((above - below) / (2 * step), curvature, (above + below) / 2 - middle)


def _sandwich(hessian, covariance):
    """Covariance of the best point, infinite variance where nothing is seen; None where losses are not finite."""
    if not (np.isfinite(hessian).all() and np.isfinite(covariance).all()):
        return None
    visible = np.flatnonzero(np.diag(hessian) > 0)
    values, vectors = np.linalg.eigh(hessian[np.ix_(visible, visible)])
    if len(visible) == 0 or values.min() <= 1e-3 * values.max():
        # Noise made the measured curvature flat or upside down in some direction: leave out the
        # correlations between parameters, which is what that direction is made of.
        values, vectors = np.diag(hessian)[visible], np.eye(len(visible))
    inverse = (vectors / values) @ vectors.T
    found = np.diag(np.full(len(hessian), np.inf))
    found[np.ix_(visible, visible)] = inverse @ covariance[np.ix_(visible, visible)] @ inverse
    return found


def _judge(p, x: float, step: float, rise, curvatures, scatter, index: int) -> Identifiability:
    values = [float(p.bounded(jnp.asarray(x + d))) for d in (-step, step)]
    if scatter is None:
        return Identifiability(False, "the loss around the fitted value is not finite, or has no scatter", None)
    seeds = len(curvatures)
    curvature, error = curvatures.mean(), curvatures.std(ddof=1) / np.sqrt(seeds)
    between = f"between {values[0]:.3g} and {values[1]:.3g} {_unit(p)}".rstrip()
    if not curvature > 2 * error or curvature <= 0:
        return Identifiability(
            False,
            f"{between} the loss changes by {rise.mean():.1e}, not more than its spread over {seeds} noise seeds",
            None,
        )
    width = 1.96 * scatter[index]
    low, high = (float(p.bounded(jnp.asarray(x + d))) for d in (-width, width))
    lowest, highest = (float(p.bounded(jnp.asarray(d))) for d in (-6.0, 6.0))
    if high - low > 0.8 * (highest - lowest):
        return Identifiability(
            False,
            f"noise moves the best value over {low:.3g} to {high:.3g} {_unit(p)}".rstrip()
            + ", most of what the bounds allow",
            (low, high),
        )
    return Identifiability(
        True, f"{between} the loss rises by {rise.mean():.1e} on average over {seeds} seeds", (low, high)
    )


def _unit(p) -> str:
    return "" if p.unit == "1" else p.unit

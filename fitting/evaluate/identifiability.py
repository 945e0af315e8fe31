"""Can a noisy loss see a parameter at all, and how finely? Measured around the fitted point, on noise seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fitting.devices import rounds_over_devices
from fitting.errors import InputError
from fitting.evaluate.uncertainty import (
    DEVIANCE_95,
    Identifiability,
    Profile,
    below,
    bounded,
    minimum,
    quantile,
    says_something,
    verdict,
    with_unit,
)
from fitting.optimize import Problem, Surroundings
from fitting.optimize.expansion import cross, differences
from fitting.optimize.problem import repeated
from fitting.programs import compiled
from fitting.progress import Progress, Reporter, silent

#: Standard deviation, in the unconstrained space, of what may lie anywhere between its bounds.
ANYWHERE = 4.0


def identifiability(
    problem: Problem,
    point: Mapping[str, Any],
    key,
    seeds: int = 8,
    step: float = 0.25,
    averaged: int = 1,
    progress: Reporter = silent,
    around: Surroundings | None = None,
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
    progress : callable, optional
    around : Surroundings, optional
        What :class:`fitting.optimize.Refine` has measured, whose step averages over as many simulations as it has
        seeds; measured here unless given.

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
    the bounds allow. Otherwise the reason says which of the two failed. As ``C`` is known from few seeds, intervals
    are as wide as Student's t has it.
    """
    scalars = problem.parameters.shared
    if around is not None:
        averaged, measured = around.slopes.shape[1], True
    else:
        around, measured = measure_surroundings(problem, point, key, seeds, step, progress), False
    covariance = _sandwich(around, around.noise(problem, averaged))
    scatter = None if covariance is None else np.sqrt(np.diag(covariance)).tolist()
    curvatures = np.diagonal(around.curvatures).T
    judged = {}
    for i, p in enumerate(scalars):
        answer = _judge(p, float(point[p.name]), around.step, around.rises[i], curvatures[i], scatter and scatter[i])
        correlations = {}
        if scatter is not None and np.isfinite(scatter[i]):
            for j, other in enumerate(scalars):
                if j != i and np.isfinite(scatter[j]) and scatter[i] * scatter[j] > 0:
                    correlations[other.name] = float(covariance[i, j] / (scatter[i] * scatter[j]))
        better = better_value(p, float(point[p.name]), around, i)
        judged[p.name] = replace(answer, correlations=correlations, better=better)
    falling = [name for name, answer in judged.items() if answer.better is not None]
    if measured and falling:
        # The steps have not arrived: around no minimum an interval says nothing, and estimates hang together.
        words = f"the fit is not at a minimum: the loss still falls along {', '.join(falling)}"
        judged = {name: replace(each, identifiable=False, reason=words, interval=None) for name, each in judged.items()}
    return judged


def measure_surroundings(
    problem: Problem,
    point: Mapping[str, Any],
    key,
    seeds: int,
    step: float,
    progress: Reporter = silent,
) -> Surroundings:
    """Losses on a cross of displaced points, every displacement with the same noise seeds, each of one simulation."""
    problem = replace(problem, seeds=1)
    names = [p.name for p in problem.parameters.shared]
    moves = step * cross(len(names))
    keys = jnp.tile(jax.random.split(key, seeds), len(moves))
    count = len(keys)
    points = repeated(point, count)
    points |= {name: points[name] + np.repeat(moves[:, i], seeds) for i, name in enumerate(names)}
    values: list[float] = []
    for some in rounds_over_devices(count, problem.at_once()):
        values.extend(problem.losses({name: value[some] for name, value in points.items()}, keys[some]).loss)
        progress(Progress("identifiability", len(values), count))
    losses = np.array(values, float).reshape(len(moves), seeds)
    return Surroundings(*differences(losses, len(names), step), step)


def _sandwich(around: Surroundings, noise):
    """Covariance of the best point; None where losses are not finite.

    Along directions that the loss is not curved along beyond noise, the best point may lie anywhere. What parameters
    have a part in them is as uncertain: without that, the others would seem to be known better than they are.
    """
    if not (np.isfinite(around.hessian).all() and np.isfinite(noise).all()):
        return None
    values, vectors = np.linalg.eigh(around.hessian)
    along = np.einsum("ik,ijs,jk->ks", vectors, around.curvatures, vectors)
    error = along.std(1, ddof=1) / np.sqrt(along.shape[1])
    # A curvature is known as well as its seeds agree: the smaller it may be, the more the best point may move.
    least = values - error
    curved = least > 0.1 * values + 1e-9 * np.abs(values).max()
    inverse = (vectors[:, curved] / least[curved]) @ vectors[:, curved].T
    flat = vectors[:, ~curved]
    return inverse @ noise @ inverse + ANYWHERE**2 * flat @ flat.T


def better_value(p, x: float, around: Surroundings, i: int) -> float | None:
    """The value on either side whose loss is lower than at the point, by more than noise would make it anywhere."""
    count, seeds = around.rises.shape
    for side in (-1, 1):
        change = around.rises[i] + side * around.step * around.slopes[i]
        error = change.std(ddof=1) / np.sqrt(seeds) if seeds > 1 else np.nan
        if change.mean() < -quantile(seeds - 1, 2 * count) * error:
            return bounded(p, x + side * around.step)[0]
    return None


def _judge(p, x: float, step: float, rise, curvatures, scatter: float | None) -> Identifiability:
    if scatter is None:
        return Identifiability(False, "the loss around the fitted value is not finite, or has no scatter", None)
    seeds = len(curvatures)
    curvature, error = curvatures.mean(), curvatures.std(ddof=1) / np.sqrt(seeds)
    low, high = bounded(p, x - step, x + step)
    between = f"between {low:.3g} and {with_unit(p, high)}"
    if not curvature > 2 * error or curvature <= 0:
        words = f"{between} the loss changes by {rise.mean():.1e}, not more than its spread over {seeds} noise seeds"
        return Identifiability(False, words, None)
    width = quantile(seeds - 1) * scatter
    low, high = bounded(p, x - width, x + width)
    if not says_something(p, (low, high)):
        words = f"noise moves the best value over {with_unit(p, low, high)}, most of what the bounds allow"
        return Identifiability(False, words, (low, high))
    words = f"{between} the loss rises by {rise.mean():.1e} on average over {seeds} seeds"
    return Identifiability(True, words, (low, high))


@dataclass(frozen=True)
class LossProfile:
    """How a profile of a noisy loss is followed.

    Parameters
    ----------
    points : int
        Values of the parameter, besides the fitted one.
    reach : float
        Farthest values, in standard deviations of the estimate.
    steps : int
        Steps of BFGS, which knows the Hessian from the start, at each value.
    simulations : int
        Noise seeds that every loss along the profile is averaged over.
    seeds, step : int, float
        Of the losses that measure Hessian and noise, see :func:`identifiability`.
    """

    points: int = 6
    reach: float = 4.0
    steps: int = 3
    simulations: int = 2
    seeds: int = 8
    step: float = 0.25

    def __post_init__(self):
        if self.points < 3 or self.steps < 1 or self.seeds < 2:
            raise InputError(
                f"a profile needs 3 points, 1 step and 2 seeds at least; got {self.points}, {self.steps} and "
                f"{self.seeds}"
            )


def profile_loss(
    problem: Problem,
    point: Mapping[str, Any],
    name: str,
    key,
    settings: LossProfile | None = None,
    progress: Reporter = silent,
) -> Profile:
    r"""Follow the loss along one global parameter, as :func:`fitting.evaluate.profile_likelihood` does a likelihood.

    A simulation's loss is no likelihood, and has noise of its own. Around the best point, where its Hessian is H and
    the noise of recording and simulations moves its slopes with covariance C, the estimate of parameter p scatters with
    variance :math:`(H^{-1} C H^{-1})_{pp}`. Twice the rise of the loss, times
    :math:`(H^{-1})_{pp} / (H^{-1} C H^{-1})_{pp}`, is therefore distributed as the deviance of a likelihood is:
    chi-square with one degree of freedom (Kent, Biometrika 69, 1982, 19-27, theorem 3.1).

    Parameters
    ----------
    problem : Problem
    point : mapping
        Unconstrained fitted point.
    name : str
        A free parameter that all regions share.
    key : PRNG key
        All losses along the profile have the same noise.
    settings : LossProfile, optional
    progress : callable, optional

    Returns
    -------
    Profile

    Raises
    ------
    InputError
        If ``name`` is not that of a free parameter of all regions, or numbers are too small.
    """
    how, scalars = settings or LossProfile(), problem.parameters.shared
    names = [p.name for p in scalars]
    if name not in names:
        raise InputError(
            f"no free parameter of all regions is called {name!r}; choose from {', '.join(names) or 'none'}"
        )
    surround_key, loss_key = jax.random.split(key)
    around = measure_surroundings(problem, point, surround_key, how.seeds, how.step)
    hessian, index = _positive(around.hessian), names.index(name)
    inverse = np.linalg.inv(hessian)
    # The profile is around the lowest of its own losses, whatever the fitted point averages over.
    variance = (inverse @ around.noise(problem, how.simulations * problem.seeds) @ inverse)[index, index]
    others = np.delete(np.arange(len(names)), index)
    preconditioner = _symmetric(np.linalg.inv(hessian[np.ix_(others, others)]))
    along = -preconditioner @ hessian[others, index]
    centre = np.array([float(point[n]) for n in names])
    slopes = _averaged_gradient(problem, point, [names[i] for i in others], name, loss_key, how.simulations)

    def refit(value, start):
        options = {"maxiter": how.steps, "hess_inv0": preconditioner}
        return minimum(lambda x: slopes(jnp.asarray(x), jnp.asarray(value)), [start], "BFGS", options)

    # The bounds are at plus and minus infinity; 4 moves a parameter over most of what they allow.
    far = min(how.reach * np.sqrt(variance), 4.0)
    half = np.linspace(0, far, (how.points + 1) // 2 + 1)[1:]
    offsets = np.concatenate([-half[::-1], half])
    offsets = offsets[np.abs(centre[index] + offsets) <= 6.0]
    fits = {0.0: refit(centre[index], centre[others])}
    for side in (offsets[offsets < 0][::-1], offsets[offsets > 0]):
        start, before = fits[0.0].point, 0.0
        for offset in side:
            fits[offset] = refit(centre[index] + offset, start + (offset - before) * along)
            start, before = fits[offset].point, offset
            progress(Progress(f"profile of {name}", len(fits) - 1, len(offsets)))
    at = np.array(sorted(fits))
    rise = np.array([fits[offset].loss for offset in at])
    deviance = 2 * inverse[index, index] / variance * (rise - np.nanmin(rise))
    p = scalars[index]
    low, high = bounded(p, *(centre[index] + end for end in below(at, deviance, DEVIANCE_95)))
    words = f"the profile of the loss over {len(at)} values, all else fitted anew, allows"
    values = np.array(bounded(p, *(centre[index] + at)))
    correlations = np.array([fits[offset].fc_correlation for offset in at])
    return Profile(values, correlations, deviance, p.unit, verdict(p, (low, high), words))


def _averaged_gradient(problem: Problem, point, others, name: str, key, simulations: int):
    """``((loss, correlation), gradient)`` of the other parameters at a value of one, with the same noise always."""
    fixed = {key: jnp.asarray(value) for key, value in point.items()}
    keys = jax.random.split(key, simulations)

    def loss(x, value):
        moved = dict(zip(others, x, strict=True))
        total, terms = jax.lax.map(lambda key: problem.value(fixed | moved | {name: value}, key), keys)
        return total.mean(), terms.fc_correlation.mean()

    return compiled(jax.value_and_grad(loss, has_aux=True))


def _positive(hessian):
    """The nearest matrix with curvature in all directions: what noise made flat or hollow is almost flat."""
    values, vectors = np.linalg.eigh(hessian)
    if not values.max() > 0:
        raise InputError("the loss has no minimum at the fitted point: its curvature is nowhere positive")
    return _symmetric((vectors * np.maximum(values, 1e-3 * values.max())) @ vectors.T)


def _symmetric(matrix):
    return (matrix + matrix.T) / 2

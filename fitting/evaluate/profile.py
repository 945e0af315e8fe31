"""The loss of simulations along one parameter, all others fitted anew at every value of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from fitting.errors import InputError
from fitting.evaluate.identifiability import Identifiability, measure_surroundings
from fitting.evaluate.information import DEVIANCE_95, Profile, below, verdict
from fitting.optimize import Problem


def profile_loss(
    problem: Problem,
    point: Mapping[str, Any],
    name: str,
    key,
    points: int = 6,
    reach: float = 4.0,
    steps: int = 3,
    simulations: int = 2,
    seeds: int = 4,
    step: float = 0.25,
    averaged: int = 1,
    on_fit: Callable[[int, int], None] | None = None,
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
    points : int
        Values of the parameter, besides the fitted one.
    reach : float
        Farthest values, in standard deviations of the estimate.
    steps : int
        Steps of BFGS, which knows H from the start, at each value.
    simulations : int
        Noise seeds that every loss along the profile is averaged over.
    seeds, step : int, float
        Of the losses that measure H and C, see :func:`fitting.evaluate.identifiability`.
    averaged : int
        Independent simulations that the fitted point averages over.
    on_fit : callable, optional
        Called with the number of fits done and in all.

    Returns
    -------
    Profile

    Raises
    ------
    InputError
        If ``name`` is not that of a free parameter of all regions, or numbers are too small.
    """
    scalars = [p for p in problem.parameters.free if not p.per_region]
    names = [p.name for p in scalars]
    if name not in names:
        raise InputError(
            f"no free parameter of all regions is called {name!r}; choose from {', '.join(names) or 'none'}"
        )
    if points < 3 or steps < 1 or seeds < 2:
        raise InputError(f"a profile needs 3 points, 1 step and 2 seeds at least; got {points}, {steps} and {seeds}")
    surround_key, loss_key = jax.random.split(key)
    keys = jax.random.split(loss_key, simulations)
    around = measure_surroundings(problem, point, surround_key, seeds, step)
    hessian, index = _positive(around.hessian), names.index(name)
    inverse = np.linalg.inv(hessian)
    variance = (inverse @ around.noise(problem, averaged) @ inverse)[index, index]
    scale = inverse[index, index] / variance

    others = np.delete(np.arange(len(names)), index)
    preconditioner = _symmetric(np.linalg.inv(hessian[np.ix_(others, others)]))
    along = -preconditioner @ hessian[others, index]
    fixed = {key: jnp.asarray(value) for key, value in point.items()}
    centre = np.array([float(point[n]) for n in names])

    @jax.jit
    def loss(x, value):
        moved = dict(zip([names[i] for i in others], x, strict=True))
        total, terms = jax.lax.map(lambda key: problem.loss(fixed | moved | {name: value}, key), keys)
        return total.mean(), terms.fc_correlation.mean()

    gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))

    def refit(value, start):
        best = (np.inf, float("nan"), start)

        def evaluate(x):
            nonlocal best
            (total, correlation), slopes = gradient(jnp.asarray(x), jnp.asarray(value))
            total, slopes = float(total), np.asarray(slopes, float)
            if not (np.isfinite(total) and np.isfinite(slopes).all()):
                return 1e3, np.zeros_like(slopes)
            if total < best[0]:
                best = (total, float(correlation), np.array(x))
            return total, slopes

        if len(others):
            options = {"maxiter": steps, "hess_inv0": preconditioner}
            scipy.optimize.minimize(evaluate, start, jac=True, method="BFGS", options=options)
        else:
            evaluate(start)
        return best

    # The bounds are at plus and minus infinity; 4 moves a parameter over most of what they allow.
    far = min(reach * np.sqrt(variance), 4.0)
    half = np.linspace(0, far, (points + 1) // 2 + 1)[1:]
    offsets = np.concatenate([-half[::-1], half])
    offsets = offsets[np.abs(centre[index] + offsets) <= 6.0]
    fits = {0.0: refit(centre[index], centre[others])}
    for side in (offsets[offsets < 0][::-1], offsets[offsets > 0]):
        start, before = fits[0.0][2], 0.0
        for offset in side:
            fits[offset] = refit(centre[index] + offset, start + (offset - before) * along)
            start, before = fits[offset][2], offset
            if on_fit:
                on_fit(len(fits) - 1, len(offsets))
    at = np.array(sorted(fits))
    rise = np.array([fits[offset][0] for offset in at])
    deviance = 2 * scale * (rise - np.nanmin(rise))
    p = scalars[index]

    def unit_of(x):
        return float(p.bounded(jnp.asarray(x)))

    low, high = (unit_of(centre[index] + end) for end in below(at, deviance, DEVIANCE_95))
    words = f"the profile of the loss over {len(at)} values, all else fitted anew, allows"
    found: Identifiability = verdict(p, (low, high), words)
    values = np.array([unit_of(centre[index] + offset) for offset in at])
    return Profile(values, np.array([fits[offset][1] for offset in at]), deviance, p.unit, found)


def _positive(hessian):
    """The nearest matrix with curvature in all directions: what noise made flat or hollow is almost flat."""
    values, vectors = np.linalg.eigh(hessian)
    if not values.max() > 0:
        raise InputError("the loss has no minimum at the fitted point: its curvature is nowhere positive")
    return _symmetric((vectors * np.maximum(values, 1e-3 * values.max())) @ vectors.T)


def _symmetric(matrix):
    return (matrix + matrix.T) / 2

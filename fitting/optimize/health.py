"""Whether gradients can be followed: measured, at a point, on several noise seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from fitting.devices import over_devices
from fitting.errors import InputError
from fitting.optimize.problem import Problem


class GradientHealth(NamedTuple):
    """What gradients are worth at a point.

    Attributes
    ----------
    usable : bool
    reason : str
        Why, with the numbers.
    horizon : float or None
        The gradient is cut every so many ms; None: never. Of several the longest that is usable.
    seeds : int
        Noise seeds that a step should average.
    norm : dict
        Norm of the mean gradient by horizon (``"whole"`` or ms): how it grows tells chaos from order.
    agreement : float
        Change of the loss that the gradient foretells over the change that is measured, for a step
        against the gradient with the same noise. One if the loss is smooth.
    forward_error : float
        Relative difference of forward and reverse mode, along the gradient.
    signal_to_noise : dict
        By parameter: mean over standard deviation over noise seeds (for parameters per region, of the norm).
    """

    usable: bool
    reason: str
    horizon: float | None
    seeds: int
    norm: dict[str, float]
    agreement: float
    forward_error: float
    signal_to_noise: dict[str, float]


def gradient_health(
    problem: Problem,
    point: Mapping[str, Any],
    key,
    seeds: int = 4,
    horizons: Sequence[float | None] = (None, 1000.0, 250.0),
    step: float = 0.1,
    most_seeds: int = 4,
) -> GradientHealth:
    """Measure gradients at a point and choose how to use them, if at all.

    A gradient is usable if it is finite, foretells a step of the loss to within a factor of two, and has
    a direction that noise seeds agree on. Past a bifurcation the whole gradient
    grows without bound (its norm reaches 1e8 after 22 s) while the loss does not; cut at a horizon it
    stays bounded but is biased: the measured step tells whether it still points downhill.

    Parameters
    ----------
    problem : Problem
    point : mapping
        Unconstrained.
    key : PRNG key
    seeds : int
        Noise seeds to measure with, at least 2.
    horizons : sequence of float or None
        In ms, tried in this order.
    step : float
        Length of the measured step in the unconstrained space.
    most_seeds : int
        Most noise seeds that a step is to average.

    Returns
    -------
    GradientHealth
    """
    if seeds < 2:
        raise InputError(f"gradients are measured on at least 2 noise seeds; got {seeds}")
    single = replace(problem, seeds=1)
    keys = jax.random.split(key, seeds)
    flat, restore = ravel_pytree({name: jnp.asarray(value) for name, value in point.items()})
    batch = single.side_by_side(gradient=True)
    losses = over_devices(lambda k, x: single.loss(restore(x), k)[0], batch)
    norm: dict[str, float] = {}
    forward_error = float("nan")
    tried = []
    for horizon in horizons:
        cut = replace(single, horizon=horizon)
        name = "whole" if horizon is None else f"{horizon:g} ms"
        slopes = over_devices(lambda k, x, cut=cut: jax.grad(lambda x: cut.loss(restore(x), k)[0])(x), batch)
        gradients = slopes(keys, flat).astype(float)
        mean = gradients.mean(0)
        norm[name] = float(np.linalg.norm(mean))
        if not np.isfinite(norm[name]) or norm[name] == 0:
            tried.append(f"{name}: {'zero' if norm[name] == 0 else 'not finite'}")
            continue
        downhill = -mean / norm[name]
        if horizon is None:
            ahead = replace(single, adjoint="forward")
            along = jax.jit(
                lambda x, d: jax.jvp(lambda x: ahead.loss(restore(x), keys[0])[0], (x,), (d,))[1]  # noqa: B023
            )(flat, jnp.asarray(downhill, flat.dtype))
            reverse = gradients[0] @ downhill
            forward_error = float(abs(along - reverse) / max(abs(reverse), 1e-30))
        after, before = (losses(keys, flat + s * step * downhill).astype(float) for s in (1, -1))
        measured = float((after - before).mean() / (2 * step))
        agreement = float(-norm[name] / measured) if measured else float("inf")
        # Each seed along the direction of the others: noise alone would point along a mean that it is part of.
        others = (gradients.sum(0) - gradients) / (seeds - 1)
        by_seed = (gradients * others).sum(1) / np.maximum(np.linalg.norm(others, axis=1), 1e-30)
        ratio = by_seed.mean() / max(by_seed.std(ddof=1), 1e-30)
        words = f"{name}: norm {norm[name]:.2g}, agreement {agreement:.2g}, signal to noise {ratio:.2g} per seed"
        if not 0.5 <= agreement <= 2:
            tried.append(f"{words}: it does not foretell a step of the loss")
        elif ratio <= 0:
            tried.append(f"{words}: noise seeds do not agree on a direction")
        else:
            # As many as make the mean of a step stand out by one standard error; steps average further.
            needed = int(np.clip(np.ceil(ratio**-2.0), 1, most_seeds))
            each = {n: np.asarray(jax.vmap(restore)(jnp.asarray(gradients))[n]) for n in point}
            signal = {n: _signal(values) for n, values in each.items()}
            return GradientHealth(True, words, horizon, needed, norm, agreement, forward_error, signal)
    return GradientHealth(False, "; ".join(tried), None, 1, norm, float("nan"), forward_error, {})


def _signal(gradients) -> float:
    """Norm of the mean over the spread around it."""
    mean = gradients.mean(0)
    spread = np.sqrt(((gradients - mean) ** 2).sum() / (len(gradients) - 1))
    return float(np.linalg.norm(mean) / max(spread, 1e-30))

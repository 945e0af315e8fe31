"""Several starts take Optax steps side by side; the worse half drops out again and again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fitting.devices import over_devices
from fitting.errors import InputError
from fitting.optimize.descent import guarded_step
from fitting.optimize.problem import Problem


class RaceResult(NamedTuple):
    """How a race went.

    Attributes
    ----------
    point : dict
        Where the winner is.
    winner : int
        Its number among the starts.
    losses : array (step, start)
        NaN after a start has dropped out, and where a loss is not finite.
    """

    point: dict[str, Any]
    winner: int
    losses: np.ndarray


def race(
    problem: Problem,
    starts: Sequence[Mapping[str, Any]],
    optimizer: optax.GradientTransformation,
    *,
    key,
    steps: int = 6,
    clip: float = 1.0,
    on_step: Callable[[int, int, int], None] | None = None,
) -> RaceResult:
    """Successive halving (Jamieson and Talwalkar, AISTATS 2016): after ``steps`` steps the better half goes on.

    All starts see the same noise in each step and are simulated in one batch.

    Parameters
    ----------
    problem : Problem
    starts : sequence of mappings
        Unconstrained points.
    optimizer : optax.GradientTransformation
    key : PRNG key
    steps : int
        Steps of each round; a start is judged by its mean loss in it.
    clip : float
        Largest gradient norm.
    on_step : callable, optional
        Called with the number of steps done, the starts left and the starts in all.

    Returns
    -------
    RaceResult
    """
    if not starts or steps < 1:
        raise InputError(f"a race needs a start and a step; got {len(starts)} and {steps}")
    optimizer = optax.chain(optax.clip_by_global_norm(clip), optimizer)

    step = guarded_step(problem, optimizer)
    every = over_devices(lambda start, key: step(*start, key), batch=len(starts))
    left = np.arange(len(starts))
    points = jax.tree.map(lambda *x: jnp.stack([jnp.asarray(v) for v in x]), *map(dict, starts))
    memory = jax.vmap(optimizer.init)(points)
    losses: list[np.ndarray] = []
    while len(left) > 1:
        for _ in range(steps):
            points, memory, terms, _, finite = every((points, memory), jax.random.fold_in(key, len(losses)))
            row = np.full(len(starts), np.nan)
            row[left] = np.where(finite, terms.loss, np.nan)
            losses.append(row)
            if on_step:
                on_step(len(losses), len(left), len(starts))
        recent = np.array(losses[-steps:])[:, left]
        failed = ~np.isfinite(recent).all(0)
        score = np.where(failed, np.inf, np.nanmean(np.where(failed, np.inf, recent), axis=0))
        better = np.sort(np.argsort(score, kind="stable")[: len(left) // 2])
        left = left[better]
        points, memory = jax.tree.map(lambda x: x[better], (points, memory))  # noqa: B023
    point = {name: jnp.asarray(value[0]) for name, value in points.items()}
    return RaceResult(point, int(left[0]), np.array(losses).reshape(-1, len(starts)))

"""Score a model on noise that the fit has never seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fitting.devices import over_devices, rounds_over_devices
from fitting.objective import Target
from fitting.optimize import Problem
from fitting.signal import Observation, fc_correlation


class View(NamedTuple):
    """Another connectivity that a fitted model is scored on: another band, recording, or way of processing.

    Attributes
    ----------
    observation : Observation
        How simulations are processed.
    fc : array (region, region)
        What they are compared with.
    pairs : array of bool (region, region), optional
        Pairs to compare; all unless given.
    """

    observation: Observation
    fc: Any
    pairs: Any = None


@dataclass(frozen=True)
class SeedScores:
    """Scores over noise seeds.

    Attributes
    ----------
    fc_correlation, loss : ndarray (seed,)
    fc : ndarray (region, region)
        Mean connectivity over seeds.
    signals : ndarray (time, region)
        Activity of the last seed at the observation's rate.
    seconds : float
        Simulated time of each seed.
    held_out : ndarray (seed,), optional
        FC correlation over the pairs that the fit has not seen.
    views : dict of ndarray (seed,)
        FC correlation in every other view.
    """

    fc_correlation: np.ndarray
    loss: np.ndarray
    fc: np.ndarray
    signals: np.ndarray
    seconds: float
    held_out: np.ndarray | None = None
    views: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Mean FC correlation."""
        return float(self.fc_correlation.mean())

    @property
    def sd(self) -> float:
        """Standard deviation of the FC correlation over seeds."""
        return float(self.fc_correlation.std(ddof=1)) if len(self.fc_correlation) > 1 else float("nan")


def fresh_seeds(
    problem: Problem,
    values: Mapping[str, Any],
    key,
    seeds: int = 10,
    duration: float | None = None,
    on_seed: Callable[[int], None] | None = None,
    views: Mapping[str, View] | None = None,
) -> SeedScores:
    """Simulate with new noise and score each run against the whole target, pairs that a fit has not seen included.

    Parameters
    ----------
    problem : Problem
    values : mapping
        Parameter values.
    key : PRNG key
        Must not have been used in the fit.
    seeds : int
    duration : float, optional
        Length of each run in ms; the fit's own unless given.
    on_seed : callable, optional
        Called with the number of seeds done.
    views : mapping, optional
        What else to score the same simulations on.

    Returns
    -------
    SeedScores
    """
    observation, held_out = problem.observation, problem.target.held_out
    whole, others = problem.target._replace(pairs=None), dict(views or {})

    def one(key, values):
        rates = problem.simulate(values, key, duration)
        terms, fc = problem.objective.compare(rates, problem.fs, observation, whole)
        seen = {}
        for name, view in others.items():
            other = Target(jnp.asarray(view.fc), pairs=view.pairs)
            seen[name] = problem.objective.compare(rates, problem.fs, view.observation, other)[0].fc_correlation
        return terms, fc, observation.resample(observation.settled(rates, problem.fs), problem.fs), seen

    scores: list[float] = []
    losses: list[float] = []
    matrices: list[np.ndarray] = []
    unseen: list[float] = []
    viewed: dict[str, list[float]] = {name: [] for name in others}
    batch = problem.side_by_side(duration=duration)
    every, keys = over_devices(one, batch), jax.random.split(key, seeds)
    for some in rounds_over_devices(seeds, batch):
        terms, fcs, signals, seen = every(keys[some], dict(values))
        scores.extend(terms.fc_correlation)
        losses.extend(terms.loss)
        matrices.extend(fcs)
        for name, score in seen.items():
            viewed[name].extend(score)
        if held_out is not None:
            unseen.extend(float(fc_correlation(jnp.asarray(fc), problem.target.fc, held_out)) for fc in fcs)
        if on_seed:
            on_seed(len(scores))
    return SeedScores(
        np.array(scores, float),
        np.array(losses, float),
        np.mean(matrices, axis=0),
        signals[-1],
        (duration or problem.duration) / 1000,
        np.array(unseen) if held_out is not None else None,
        {name: np.array(values, float) for name, values in viewed.items()},
    )

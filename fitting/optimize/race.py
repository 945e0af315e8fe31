"""Several starts take Optax steps side by side; the worse half drops out again and again."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fitting.devices import local_devices, turns
from fitting.errors import InputError
from fitting.optimize.descent import Optimizer, adam, guarded_steps
from fitting.optimize.fit import Candidate, Fit, RaceResult, ranked
from fitting.optimize.problem import Problem
from fitting.optimize.storage import Store
from fitting.predict import Cost
from fitting.progress import Progress, Reporter, silent


@dataclass(frozen=True)
class Race:
    """Successive halving (Jamieson and Talwalkar, AISTATS 2016): after ``steps`` steps the better half goes on.

    All candidates see the same noise in each step.

    Parameters
    ----------
    optimizer : optax.GradientTransformation, optional
        As of :class:`fitting.optimize.Descent`.
    steps : int
        Steps of each round; a candidate is judged by its mean loss in it.
    clip : float
        Largest gradient norm.
    name : str
    """

    optimizer: Optimizer | None = None
    steps: int = 4
    clip: float = 1.0
    name: str = "race"

    def __post_init__(self):
        if self.steps < 1 or not self.clip > 0:
            raise InputError(f"steps ({self.steps}) must be at least 1, and clip ({self.clip:g}) positive")

    def run(self, fit: Fit, key, progress: Reporter = silent, store: Store | None = None) -> Fit:
        """See :class:`fitting.optimize.Stage`."""
        count = len(fit.candidates)
        if count < 2:
            return fit
        optimizer = optax.chain(optax.clip_by_global_norm(self.clip), self.optimizer or adam())
        steps = guarded_steps(fit.problem, optimizer, fit.problem.seeds)
        left = np.arange(count)
        points = [jax.tree.map(jnp.asarray, candidate.point) for candidate in fit.candidates]
        states = [(point, optimizer.init(point)) for point in points]
        losses: list[np.ndarray] = []
        rounds = int(math.log2(count))
        while len(left) > 1:
            for _ in range(self.steps):
                moved = steps(states, jax.random.fold_in(key, len(losses)))
                states = [(point, memory) for point, memory, *_ in moved]
                row = np.full(count, np.nan)
                row[left] = [float(terms.loss) if finite else np.nan for *_, terms, _, finite in moved]
                losses.append(row)
                progress(Progress(self.name, len(losses), self.steps * rounds, f"{len(left)} of {count} starts"))
            recent = np.array(losses[-self.steps :])[:, left]
            failed = ~np.isfinite(recent).all(0)
            score = np.where(failed, np.inf, np.nanmean(np.where(failed, np.inf, recent), axis=0))
            better = np.sort(np.argsort(score, kind="stable")[: max(1, len(left) // 2)])
            left, states = left[better], [states[number] for number in better]
        winner = int(left[0])
        best = Candidate(states[0][0], *fit.candidates[winner][1:])
        result = RaceResult(winner, np.array(losses))
        return replace(fit, candidates=(best,), race=result, notes=(*fit.notes, _sentence(result.losses)))

    def cost(self, problem: Problem, candidates: int = 1) -> Cost:
        """See :class:`fitting.optimize.Stage`."""
        backward = problem.predictor.cost(gradient=True)
        halved = [candidates >> number for number in range(int(math.log2(candidates)))]
        rounds = sum(turns(left, problem.at_once(gradient=True)) for left in halved)
        return Cost(self.steps * rounds * backward.seconds, len(local_devices()) * backward.bytes)


def _sentence(losses: np.ndarray) -> str:
    lowest = ranked(losses).min(0)
    known = lowest[np.isfinite(lowest)]
    if not len(known):
        return f"{len(lowest)} starts were raced; none of them had a finite loss."
    rest = f" {len(lowest) - len(known)} of them had no finite loss." if len(known) < len(lowest) else ""
    span = f"from {known.min():.3f} to {known.max():.3f}"
    return f"{len(lowest)} starts were raced; their lowest losses lie {span}.{rest}"

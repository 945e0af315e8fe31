"""Whether gradients can be followed: measured, at a point, on several noise seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from fitting.devices import local_devices, turns
from fitting.errors import InputError
from fitting.optimize.fit import Fit, GradientHealth
from fitting.optimize.problem import Problem, repeated
from fitting.optimize.search import search_closer
from fitting.optimize.storage import Store
from fitting.predict import Cost
from fitting.programs import compiled
from fitting.progress import Progress, Reporter, silent


@dataclass(frozen=True)
class GradientCheck:
    """Measure gradients at the best candidate, and choose how to use them, if at all.

    A gradient is usable if it is finite, foretells a step of the loss to within a factor of two, and has
    a direction that noise seeds agree on. Past a bifurcation the whole gradient
    grows without bound (its norm reaches 1e8 after 22 s) while the loss does not; cut at a horizon it
    stays bounded but is biased: the measured step tells whether it still points downhill. Where gradients carry
    nothing and there has been a search, another one looks closer around what was found, and the fit ends with it.

    Parameters
    ----------
    seeds : int
        Noise seeds to measure with, at least 2.
    step : float
        Length of the measured step in the unconstrained space.
    most_seeds : int
        Most noise seeds that a step is to average.
    forward : bool
        Compare with forward mode, too: another program to compile.
    name : str
    """

    seeds: int = 3
    step: float = 0.1
    most_seeds: int = 2
    forward: bool = False
    name: str = "gradients"

    def __post_init__(self):
        if self.seeds < 2:
            raise InputError(f"gradients are measured on at least 2 noise seeds; got {self.seeds}")
        if self.most_seeds < 1 or not self.step > 0:
            raise InputError(f"most_seeds ({self.most_seeds}) must be at least 1, and step ({self.step:g}) positive")

    def run(self, fit: Fit, key, progress: Reporter = silent, store: Store | None = None) -> Fit:
        """See :class:`fitting.optimize.Stage`."""
        progress(Progress(self.name, 0, 1))
        health = self.measure(fit.problem, fit.candidates[0].point, key)
        progress(Progress(self.name, 1, 1, health.reason))
        fit = replace(fit, gradients=health)
        if health.usable:
            return replace(fit, problem=fit.problem.predicted_by(fit.problem.predictor.horizons()[health.horizon]))
        if fit.search is None:
            note = f"Gradients are not to be trusted here ({health.reason}); search first."
            return replace(fit, notes=(*fit.notes, note))
        note = f"Gradients lead no further from where the search has ended; it went on alone. {health.reason}."
        return search_closer(fit, note, key, progress, store)

    def measure(self, problem: Problem, point: Mapping[str, Any], key) -> GradientHealth:
        """What gradients are worth at an unconstrained point."""
        keys = jax.random.split(key, self.seeds)
        flat, restore = ravel_pytree({name: jnp.asarray(value) for name, value in point.items()})

        def losses(x):
            terms, _ = problem.evaluated(repeated(restore(x), self.seeds), keys, problem.at_once(gradient=True))
            return terms.loss.astype(float)

        norm: dict[str, float] = {}
        forward_error = float("nan")
        tried = []
        for name, predictor in problem.predictor.horizons().items():
            _, every = problem.predicted_by(predictor).gradients(repeated(point, self.seeds), keys)
            gradients = np.asarray(jax.vmap(lambda each: ravel_pytree(each)[0])(every), float)
            mean = gradients.mean(0)
            norm[name] = float(np.linalg.norm(mean))
            if not np.isfinite(norm[name]) or norm[name] == 0:
                tried.append(f"{name}: {'zero' if norm[name] == 0 else 'not finite'}")
                continue
            downhill = -mean / norm[name]
            if not tried and self.forward:
                forward_error = _forward_error(problem, restore, flat, keys[0], gradients[0], downhill)
            after, here, before = (losses(flat + s * self.step * downhill) for s in (1, 0, -1))
            measured = float((after - before).mean() / (2 * self.step))
            agreement = float(-norm[name] / measured) if measured else float("inf")
            # Each seed along the direction of the others: noise alone would point along a mean that it is part of.
            others = (gradients.sum(0) - gradients) / (self.seeds - 1)
            by_seed = (gradients * others).sum(1) / np.maximum(np.linalg.norm(others, axis=1), 1e-30)
            ratio = by_seed.mean() / max(by_seed.std(ddof=1), 1e-30)
            words = f"{name}: norm {norm[name]:.2g}, agreement {agreement:.2g}"
            words += f", signal to noise {ratio:.2g} per seed" if problem.predictor.noisy else ""
            # Around an optimum the mean gradient is noise, which foretells nothing: no fault of the gradient.
            optimum = min(after.mean(), before.mean()) >= here.mean()
            around = ", as around an optimum: a step either way raises the loss" if optimum else ""
            if not 0.5 <= agreement <= 2:
                tried.append(f"{words}: it does not foretell a step of the loss{around}")
            elif ratio <= 0:
                tried.append(f"{words}: noise seeds do not agree on a direction{around}")
            else:
                # As many as make the mean of a step stand out by one standard error; steps average further.
                needed = int(np.clip(np.ceil(ratio**-2.0), 1, self.most_seeds))
                signal = {n: _signal(np.asarray(values, float)) for n, values in every.items()}
                return GradientHealth(True, words, name, needed, norm, agreement, forward_error, signal)
        return GradientHealth(False, "; ".join(tried), "", 1, norm, float("nan"), forward_error, {})

    def cost(self, problem: Problem, candidates: int = 1) -> Cost:
        """See :class:`fitting.optimize.Stage`."""
        forward, backward = problem.predictor.cost(), problem.predictor.cost(gradient=True)
        rounds = turns(self.seeds, problem.at_once(gradient=True))
        seconds = rounds * (backward.seconds + 3 * forward.seconds) + self.forward * backward.seconds
        return Cost(seconds, min(len(local_devices()), self.seeds) * backward.bytes)


def _forward_error(problem: Problem, restore, flat, key, gradient, downhill) -> float:
    """Relative difference of forward and reverse mode along a direction."""
    ahead = replace(problem, predictor=problem.predictor.forward_mode())
    along = compiled(lambda x, d: jax.jvp(lambda x: ahead.value_of_seed(restore(x), key)[0], (x,), (d,))[1])
    reverse = gradient @ downhill
    return float(abs(along(flat, jnp.asarray(downhill, flat.dtype)) - reverse) / max(abs(reverse), 1e-30))


def _signal(gradients) -> float:
    """Norm of the mean over the spread around it."""
    mean = gradients.mean(0)
    spread = np.sqrt(((gradients - mean) ** 2).sum() / (len(gradients) - 1))
    return float(np.linalg.norm(mean) / max(spread, 1e-30))

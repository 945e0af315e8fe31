"""The global stage of a fit: a population of candidates, evaluated together, moved by CMA-ES."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import cmaes
import jax
import jax.numpy as jnp
import numpy as np

from fitting.devices import device_count, local_devices, on_gpu, side_by_side, turns
from fitting.errors import InputError
from fitting.optimize.fit import Candidate, Fit, SearchResult, ranked, stage_key
from fitting.optimize.problem import Problem, repeated
from fitting.optimize.storage import Store, identity
from fitting.predict import Cost
from fitting.progress import Progress, Reporter, silent

#: Largest unconstrained value that is tried: within a fiftieth of the bounds' distance from one of them.
FARTHEST = 4.0

#: How much closer a search looks where derivatives cannot lead on.
CLOSER = 4


@dataclass(frozen=True)
class Search:
    """Search the free parameters that all regions share; those of each region stay where they are.

    The covariance matrix adaptation evolution strategy (Hansen and Ostermeier, Evolutionary Computation 9,
    2001, 159-195; package ``cmaes``), in the unconstrained space. All
    candidates of a generation share their noise, so that their differences are those of the
    parameters; every generation has new noise, so that no candidate lives on its luck. At the end the best
    of the last generations, the centre of the population, the start and, of a search around it, the best so far are
    compared on further noise seeds.

    Parameters
    ----------
    generations : int
        Populations that are evaluated.
    population : int
        Candidates in each of them.
    spread : float
        Standard deviation of the first population in the unconstrained space: 1.5 reaches over most of the bounds.
    batch : int, optional
        Candidates that each device computes side by side: more need more memory. Unless given, one on a core of a
        CPU, which gains nothing from more, and on a GPU as many as fit into its memory.
    finalists : int
        Candidates that are evaluated again, on noise seeds of their own, and handed on.
    seeds : int
        Those noise seeds.
    keep_start : bool
        Hand on the start, too, whatever it scored: starts race, and what parameters of each region make of them is not
        known yet.
    around : str
        Where the first population lies: around the ``"middle"`` of the bounds, or the ``"best"`` candidate so far.
    name : str
    """

    generations: int = 5
    population: int = 10
    spread: float = 1.5
    batch: int | None = None
    finalists: int = 2
    seeds: int = 2
    keep_start: bool = False
    around: str = "middle"
    name: str = "search"

    def __post_init__(self):
        least = {"generations": 1, "population": 4, "batch": 1, "finalists": 1, "seeds": 1}
        for name, lowest in least.items():
            value = getattr(self, name)
            if value is not None and value < lowest:
                raise InputError(f"search {name} must be at least {lowest}; got {value}")
        if not self.spread > 0:
            raise InputError(f"the spread of a search must be positive; got {self.spread}")
        if self.around not in ("middle", "best"):
            raise InputError(f"a search lies around the middle or the best; got {self.around!r}")

    def run(self, fit: Fit, key, progress: Reporter = silent, store: Store | None = None) -> Fit:
        """See :class:`fitting.optimize.Stage`.

        Raises
        ------
        InputError
            If no parameter is free for all regions.
        """
        problem, began = fit.problem, time.perf_counter()
        names = [p.name for p in problem.parameters.shared]
        if not names:
            raise InputError("a search needs a free parameter that all regions share; set generations to 0")
        evaluate = evaluator(problem, fit.point, names, self.batch)
        noise_key, check_key = jax.random.split(key)
        origin = [float(fit.point[name]) if self.around == "best" else 0.0 for name in names]
        points, scores, centre = self._generations(problem, evaluate, key, noise_key, origin, progress, store)
        losses = scores[:, 0]
        last = range(max(0, self.generations - 2 * self.finalists), self.generations)
        bests = [points[g][int(np.argmin(ranked(losses[g])))] for g in last]
        known = {"middle": [fit.start], "best": [fit.point, fit.start]}[self.around]
        pool = np.array([*bests, centre, *([float(point[name]) for name in names] for point in known)])
        checks = [evaluate(pool, k) for k in jax.random.split(check_key, self.seeds)]
        candidates = self._finalists(pool, np.mean(checks, axis=0), fit.point, names)
        if self.keep_start:
            candidates = (*candidates, Candidate(dict(fit.start)))
        history = {"loss": losses, "fc_correlation": scores[:, 1]}
        for column, name in enumerate(names):
            history[f"parameter_{name}"] = np.asarray(problem.parameters[name].bounded(points[:, :, column]))
        before = fit.search or SearchResult(self, (), {}, 0, 0.0)
        result = SearchResult(
            self,
            candidates,
            history,
            before.evaluations + losses.size + len(pool) * self.seeds,
            before.seconds + time.perf_counter() - began,
        )
        return replace(fit, candidates=candidates, search=result, status="converged", chosen="search")

    def _generations(self, problem, evaluate, key, noise_key, origin, progress, store):
        """Points (generation, candidate, name), scores (generation, 2, candidate), and the centre at the end."""
        seed = int(jax.random.randint(jax.random.fold_in(key, 1), (), 0, 2**31 - 1))
        # Where a loss falls all the way to a bound, a population would run on for ever, to where nothing changes.
        bounds = np.tile([-FARTHEST, FARTHEST], (len(origin), 1))
        middle = np.clip(origin, -FARTHEST, FARTHEST)
        strategy = cmaes.CMA(mean=middle, sigma=self.spread, bounds=bounds, seed=seed, population_size=self.population)
        own = {"search": self, "key": seed, "centre": origin, "problem": problem}
        record = (store or Store()).record(self.name, identity(own))
        # Candidates follow from losses and the seed, so they need not be kept.
        known = record.arrays.get("scores", np.zeros((0, 2, 0)))
        points: list[np.ndarray] = []
        scores: list[np.ndarray] = []
        for generation in range(self.generations):
            population = np.array([strategy.ask() for _ in range(self.population)])
            if generation < len(known):
                score = known[generation]
            else:
                score = np.array(evaluate(population, jax.random.fold_in(noise_key, generation)))
            points.append(population)
            scores.append(score)
            record.save({"scores": np.array(scores)})
            loss = score[0]
            # What failed is worse than all that did not.
            worst = np.nanmax(loss, initial=0.0, where=np.isfinite(loss)) + 1.0
            strategy.tell(list(zip(population, np.where(np.isfinite(loss), loss, worst), strict=True)))
            losses, correlations = np.concatenate(scores, axis=1)[:2]
            best = int(np.argmin(ranked(losses)))
            text = f"loss {losses[best]:.4f} r {correlations[best]:.3f}"
            progress(Progress(self.name, generation + 1, self.generations, text))
        return np.array(points), np.array(scores), strategy.mean

    def _finalists(self, pool, confirmed, point, names) -> tuple[Candidate, ...]:
        order = np.argsort(ranked(confirmed[0]))
        chosen: list[int] = []
        for i in order:
            apart = all(np.linalg.norm(pool[i] - pool[j]) > self.spread / 3 for j in chosen)
            if len(chosen) < self.finalists and (apart or not chosen):
                chosen.append(int(i))
        return tuple(
            Candidate(dict(point) | _point(names, pool[i]), float(confirmed[0][i]), float(confirmed[1][i]))
            for i in chosen
        )

    @property
    def handed_on(self) -> int:
        """Most candidates that the next stage begins with."""
        return self.finalists + self.keep_start

    def cost(self, problem: Problem, candidates: int = 1) -> Cost:
        """See :class:`fitting.optimize.Stage`."""
        one, devices, own = problem.predictor.cost(), device_count(), len(local_devices())
        most = self.batch or side_by_side(one.bytes)
        batch = most if on_gpu() else 1  # a core of a CPU computes a batch one after the other
        rounds = turns(self.population, batch) * self.generations + turns(3 * self.finalists, batch) * self.seeds
        return Cost(rounds * one.seconds, own * min(most, math.ceil(self.population / devices)) * one.bytes)


def search_closer(fit: Fit, note: str, key, progress: Reporter = silent, store: Store | None = None) -> Fit:
    """The fit's search once more, around what it has found: where derivatives lead no further, the fit ends with it."""
    assert fit.search is not None
    stage = fit.search.stage
    closer = replace(stage, spread=stage.spread / CLOSER, around="best", name="search closer")
    fit = closer.run(fit, stage_key(key, closer.name), progress, store)
    return replace(fit, finished=True, notes=(*fit.notes, note))


def evaluator(problem: Problem, point: Mapping[str, Any], names, batch: int | None = None):
    """A function of candidates (candidate, name) and a key that gives losses and correlations (2, candidate)."""

    def evaluate(candidates, key):
        count = len(candidates)
        points = repeated(point, count) | dict(zip(names, np.asarray(candidates).T, strict=True))
        terms = problem.losses(points, jnp.tile(key, count), batch)
        return np.stack([terms.loss, terms.fc_correlation]).astype(float)

    return evaluate


def _point(names, x) -> dict[str, Any]:
    return {name: jnp.asarray(value, jnp.result_type(float)) for name, value in zip(names, x, strict=True)}

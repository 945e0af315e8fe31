"""The global stage of a fit: a population of candidates, evaluated together, moved by CMA-ES."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cmaes
import jax
import jax.numpy as jnp
import numpy as np

from fitting.devices import first_process, over_devices
from fitting.errors import InputError
from fitting.optimize.descent import Settings, fingerprint
from fitting.optimize.problem import Problem
from fitting.optimize.response import ResponseProblem


@dataclass(frozen=True)
class SearchSettings:
    """How the space is searched.

    Parameters
    ----------
    generations : int
        Populations that are evaluated.
    population : int
        Candidates in each of them.
    spread : float
        Standard deviation of the first population in the unconstrained space: 1.5 reaches over most of the bounds.
    batch : int, optional
        Candidates that each device simulates side by side: more need more memory. Unless given, one on a core of a
        CPU, which gains nothing from more, and on a GPU as many as fit into its memory.
    finalists : int
        Candidates that are evaluated again, on noise seeds of their own, and handed on.
    seeds : int
        Those noise seeds.
    """

    generations: int = 12
    population: int = 12
    spread: float = 1.5
    batch: int | None = None
    finalists: int = 3
    seeds: int = 4

    def __post_init__(self):
        least = {"generations": 1, "population": 4, "batch": 1, "finalists": 1, "seeds": 1}
        for name, lowest in least.items():
            value = getattr(self, name)
            if value is not None and value < lowest:
                raise InputError(f"search {name} must be at least {lowest}; got {value}")
        if not self.spread > 0:
            raise InputError(f"the spread of a search must be positive; got {self.spread}")


class Candidate(NamedTuple):
    """A point that a search has found, and its mean loss and correlation on noise seeds new to it."""

    point: dict[str, Any]
    loss: float
    fc_correlation: float


@dataclass
class SearchResult:
    """What a search ends with.

    Attributes
    ----------
    candidates : list of Candidate
        The best first; each at least a third of the first spread away from all better ones.
    history : dict of arrays (generation, candidate)
        ``loss``, ``fc_correlation`` and ``parameter_NAME``; NaN where a simulation failed.
    evaluations : int
    seconds : float
    """

    candidates: list[Candidate]
    history: dict[str, np.ndarray]
    evaluations: int
    seconds: float


def search(
    problem: Problem | ResponseProblem,
    settings: SearchSettings | None = None,
    *,
    key,
    centre: Mapping[str, Any] | None = None,
    on_generation: Callable[[int, int, float, float], None] | None = None,
    file: Path | None = None,
    resume: bool = False,
) -> SearchResult:
    """Search the free parameters that all regions share; those of each region stay at their start.

    The covariance matrix adaptation evolution strategy (Hansen and Ostermeier, Evolutionary Computation 9,
    2001, 159-195; package ``cmaes``), in the unconstrained space. All
    candidates of a generation share their noise, so that their differences are those of the
    parameters; every generation has new noise, so that no candidate lives on its luck. At the end the best
    of the last generations, the centre of the population and the start are compared on further noise seeds.

    Parameters
    ----------
    problem : Problem or ResponseProblem
    settings : SearchSettings, optional
    key : PRNG key
    centre : mapping, optional
        Unconstrained point around which the first population lies; the middle of the bounds unless given.
    on_generation : callable, optional
        Called after each with its number, the number of all, the best loss in it and its correlation.
    file : Path, optional
        Losses are written there after each generation.
    resume : bool
        Continue from that file, if it exists: the search goes on as if it had not been interrupted.

    Returns
    -------
    SearchResult

    Raises
    ------
    InputError
        If no parameter is free for all regions, or the file belongs to another search.
    """
    settings = settings or SearchSettings()
    began = time.perf_counter()
    start = problem.parameters.start()
    names = [p.name for p in problem.parameters.free if not p.per_region]
    if not names:
        raise InputError("a search needs a free parameter that all regions share; set search.generations=0")
    evaluate = evaluator(problem, start, names, settings.batch)
    noise_key, check_key = jax.random.split(key)
    seed = int(jax.random.randint(jax.random.fold_in(key, 1), (), 0, 2**31 - 1))
    middle = np.array([float(centre[name]) if centre else 0.0 for name in names])
    strategy = cmaes.CMA(mean=middle, sigma=settings.spread, seed=seed, population_size=settings.population)
    record = _Record(
        file, {"search": vars(settings), "key": seed, "centre": middle.tolist()} | fingerprint(problem, Settings())
    )
    done = record.load(resume)
    points, scores = [], []
    for generation in range(settings.generations):
        population = np.array([strategy.ask() for _ in range(settings.population)])
        if generation < len(done):
            found = done[generation]
        else:
            found = np.array(evaluate(population, jax.random.fold_in(noise_key, generation)))
        points.append(population)
        scores.append(found)
        record.save(scores)
        loss = found[0]
        # What failed is worse than all that did not.
        worst = np.nanmax(loss, initial=0.0, where=np.isfinite(loss)) + 1.0
        strategy.tell(list(zip(population, np.where(np.isfinite(loss), loss, worst), strict=True)))
        if on_generation:
            best = int(np.argmin(np.where(np.isfinite(loss), loss, np.inf)))
            on_generation(generation + 1, settings.generations, float(loss[best]), float(found[1][best]))
    losses = np.array([s[0] for s in scores])
    last = range(max(0, settings.generations - 2 * settings.finalists), settings.generations)
    bests = [points[g][int(np.argmin(np.where(np.isfinite(losses[g]), losses[g], np.inf)))] for g in last]
    pool = np.array([*bests, strategy.mean, [float(start[name]) for name in names]])
    checks = [evaluate(pool, k) for k in jax.random.split(check_key, settings.seeds)]
    confirmed = np.mean(checks, axis=0)
    order = np.argsort(np.where(np.isfinite(confirmed[0]), confirmed[0], np.inf))
    chosen: list[int] = []
    for i in order:
        apart = all(np.linalg.norm(pool[i] - pool[j]) > settings.spread / 3 for j in chosen)
        if len(chosen) < settings.finalists and (apart or not chosen):
            chosen.append(int(i))
    candidates = [
        Candidate(start | _point(names, pool[i]), float(confirmed[0][i]), float(confirmed[1][i])) for i in chosen
    ]
    history = {"loss": losses, "fc_correlation": np.array([s[1] for s in scores])}
    for column, name in enumerate(names):
        parameter = problem.parameters.get(name)
        assert parameter is not None
        history[f"parameter_{name}"] = np.asarray(parameter.bounded(jnp.asarray(np.array(points)[:, :, column])))
    evaluations = losses.size + len(pool) * settings.seeds
    return SearchResult(candidates, history, evaluations, time.perf_counter() - began)


def evaluator(problem: Problem | ResponseProblem, point: Mapping[str, Any], names, batch: int | None = None):
    """A function of candidates (candidate, name) and a key that gives losses and correlations (2, candidate)."""
    if batch is None or isinstance(problem, ResponseProblem):
        batch = problem.side_by_side()

    def one(x, key):
        loss, terms = problem.loss(dict(point) | dict(zip(names, x, strict=True)), key)
        return jnp.stack([loss, terms.fc_correlation])

    every = over_devices(one, batch)
    return lambda candidates, key: every(np.asarray(candidates, jnp.result_type(float)), key).astype(float).T


def _point(names, x) -> dict[str, Any]:
    return {name: jnp.asarray(value, jnp.result_type(float)) for name, value in zip(names, x, strict=True)}


class _Record:
    """The losses of a search in a file. Candidates follow from them and the seed, so they need not be kept."""

    def __init__(self, file: Path | None, identity: dict[str, Any]):
        self.file, self.identity = file, json.dumps(identity, sort_keys=True)

    def save(self, scores):
        """Write all generations so far, so that a kill leaves the old file or the new one."""
        if self.file is None or not first_process():
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.file.with_suffix(".new")
        with temporary.open("wb") as stream:
            np.savez(stream, scores=np.array(scores), identity=np.array(self.identity))
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(self.file)

    def load(self, resume: bool):
        """Scores (generation, 2, candidate) of the generations that are done."""
        if self.file is None or not self.file.is_file():
            return np.zeros((0, 2, 0))
        if not resume:
            raise InputError(
                f"{self.file.parent} already holds a fit; continue it (resume=true), or choose another folder for this "
                "one"
            )
        try:
            with np.load(self.file, allow_pickle=False) as saved:
                scores, identity = saved["scores"], str(saved["identity"])
        except Exception as error:  # zipfile and numpy raise many types for damaged files
            raise InputError(
                f"{self.file} is damaged ({type(error).__name__}); delete it to search from the beginning"
            ) from None
        if identity != self.identity:
            raise InputError(f"{self.file} belongs to another search; choose another folder, or delete it")
        return scores

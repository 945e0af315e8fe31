"""Global then local: search, measure whether gradients can be followed, and follow them if so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from fitting.errors import InputError
from fitting.optimize.descent import FitResult, Progress, Settings, fit
from fitting.optimize.health import GradientHealth, gradient_health
from fitting.optimize.problem import Problem
from fitting.optimize.race import RaceResult, race
from fitting.optimize.search import SearchResult, SearchSettings, search

#: How much closer the search looks where gradients cannot.
CLOSER = 4

#: Steps of each round of the race.
RACE_STEPS = 4

#: Noise seeds on which gradients are measured.
HEALTH_SEEDS = 3


class Report(NamedTuple):
    """What is told of a stage while it runs.

    Attributes
    ----------
    stage : str
        ``"searching"``, ``"measuring gradients"``, ``"racing"``, ``"fitting"`` or ``"searching closer"``.
    done, total : int
    text : str
    """

    stage: str
    done: int
    total: int
    text: str


class Solution(NamedTuple):
    """A fit and the stages that led to it.

    Attributes
    ----------
    result : FitResult
    problem : Problem
        With the horizon and the noise seeds that gradients were followed with.
    searched : SearchResult or None
        The last search, with the evaluations and seconds of all.
    health : GradientHealth
        At the point where the local stage began.
    raced : RaceResult or None
    """

    result: FitResult
    problem: Problem
    searched: SearchResult | None
    health: GradientHealth
    raced: RaceResult | None


def solve(
    problem: Problem,
    optimizer: optax.GradientTransformation,
    settings: Settings | None = None,
    searching: SearchSettings | None = None,
    *,
    key,
    on_report: Callable[[Report], None] | None = None,
    on_compiled: Callable[[float, int], None] | None = None,
    folder: Path | None = None,
    resume: bool = False,
) -> Solution:
    """Fit from wherever the start is: search, then descend from the best that was found.

    After the search, gradients are measured at its best point (:func:`gradient_health`). Where they
    carry something, several starts race for a few steps and the winner is fitted, with the horizon and the number of
    noise seeds that the measurement asks for. Where they carry nothing the search goes on, closer
    around what it has found.

    Parameters
    ----------
    problem : Problem
    optimizer : optax.GradientTransformation
    settings : Settings, optional
        Of the local stage; no steps leave it out.
    searching : SearchSettings, optional
        Of the global stage; it is left out if None.
    key : PRNG key
    on_report : callable, optional
        Called as the stages go on.
    on_compiled : callable, optional
        See :func:`fit`.
    folder : Path, optional
        Where the search and each step are saved.
    resume : bool
        Continue from there.

    Returns
    -------
    Solution
    """
    settings = settings or Settings()
    if resume and (folder is None or not folder.is_dir()):
        raise InputError(f"there is nothing to resume: {folder or 'no folder was named, so it'} holds no fit")
    search_key, health_key, race_key, fit_key = jax.random.split(key, 4)
    start = problem.parameters.start()

    def tell(stage, done, total, text=""):
        if on_report:
            on_report(Report(stage, done, total, text))

    def look(stage, how, **settings):
        tell(stage, 0, how.generations)
        return search(
            problem,
            how,
            on_generation=lambda n, total, loss, r: tell(stage, n, total, f"loss {loss:.4f} r {r:.3f}"),
            file=folder / f"{stage.replace(' ', '_')}.npz" if folder else None,
            resume=resume,
            **settings,
        )

    searched, starts = None, [start]
    if searching is not None:
        searched = look("searching", searching, key=search_key)
        starts = [candidate.point for candidate in searched.candidates]
    tell("measuring gradients", 0, 1)
    health = gradient_health(problem, starts[0], health_key, seeds=HEALTH_SEEDS, most_seeds=settings.most_seeds)
    tell("measuring gradients", 1, 1, health.reason)
    if settings.steps == 0:
        if searched is None:
            raise InputError("there is nothing to do: neither a search (search.generations) nor steps (fit.steps)")
        return Solution(_of_search(problem, searched, "The search alone, as asked"), problem, searched, health, None)
    if not health.usable and searching is not None:
        closer = look(
            "searching closer",
            replace(searching, spread=searching.spread / CLOSER),
            key=jax.random.fold_in(search_key, 1),
            centre=starts[0],
        )
        if searched is not None:
            closer.evaluations += searched.evaluations
            closer.seconds += searched.seconds
        note = f"Gradients carry nothing where the search has led; it went on alone. {health.reason}"
        return Solution(_of_search(problem, closer, note), problem, closer, health, None)
    if health.usable:
        problem = replace(problem, horizon=health.horizon)
    raced = None
    if len(starts) > 1:
        raced = race(
            problem,
            starts,
            optimizer,
            key=race_key,
            steps=RACE_STEPS,
            clip=settings.clip,
            on_step=lambda n, left, total: tell("racing", n, 0, f"{left} of {total} starts"),
        )
        starts = [raced.point]
    if health.usable:
        problem = replace(problem, seeds=max(problem.seeds, health.seeds))
    initial = problem.parameters.values(start)
    problem = replace(problem, parameters=problem.parameters.at(problem.parameters.values(starts[0])))

    def on_step(p: Progress):
        tell("fitting", p.step, p.steps, f"loss {p.loss:.4f} r {p.fc_correlation:.3f} {p.remaining:.0f} s left")

    result = fit(
        problem,
        optimizer,
        settings,
        key=fit_key,
        on_step=on_step,
        on_compiled=on_compiled,
        checkpoints=folder / "steps" if folder else None,
        resume=resume and folder is not None and (folder / "steps").is_dir(),
    )
    result.initial = {name: np.asarray(value) for name, value in initial.items()}
    if not health.usable:
        result.notes.append(f"Gradients are not to be trusted here ({health.reason}); set search.generations.")
    return Solution(result, problem, searched, health, raced)


def _of_search(problem: Problem, searched: SearchResult, note: str) -> FitResult:
    best = searched.candidates[0]
    plain: Callable[[Any], dict[str, Any]] = lambda tree: {n: np.asarray(v) for n, v in tree.items()}  # noqa: E731
    return FitResult(
        "converged",
        plain(problem.parameters.values(problem.parameters.start())),
        plain(problem.parameters.values(best.point)),
        plain(best.point),
        {},
        "search",
        0,
        0.0,
        searched.seconds,
        notes=[f"{note}."],
    )

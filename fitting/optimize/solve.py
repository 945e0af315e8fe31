"""Solve a problem: one stage after the other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fitting.errors import InputError
from fitting.optimize.fit import Fit, Stage, stage_key
from fitting.optimize.gauss_newton import GaussNewton, Refine
from fitting.optimize.problem import Problem
from fitting.optimize.search import Search
from fitting.optimize.storage import Store
from fitting.programs import compile_seconds
from fitting.progress import Reporter, silent

#: Global, local, and the end: the stages of a fit of parameters that all regions share, unless others are given.
STAGES: tuple[Stage, ...] = (Search(generations=2, finalists=1, seeds=1), GaussNewton(), Refine())


def solve(
    problem: Problem,
    stages: Sequence[Stage] = STAGES,
    *,
    key,
    progress: Reporter = silent,
    folder: str | Path | None = None,
    resume: bool = False,
) -> Fit:
    """Fit the free parameters of a problem, one stage after the other.

    Parameters
    ----------
    problem : Problem
    stages : sequence of Stage
        A search, and Gauss-Newton steps on few and on many noise seeds unless given; parameters of each region need a
        descent.
    key : PRNG key
        Fixes all noise; two fits with the same key take the same steps.
    progress : callable, optional
        Told how far each stage is.
    folder : path, optional
        Where stages keep what they have done.
    resume : bool
        Go on from there: to the same numbers, bit for bit, as long as the processor's threads add in the same order.

    Returns
    -------
    Fit

    Raises
    ------
    InputError
        If there are no stages, there is nothing to resume, or what was kept belongs to another fit.
    """
    if isinstance(key, int):
        raise InputError(f"the key of a fit is a key of JAX: jax.random.key({key})")
    if not stages:
        raise InputError("there is nothing to do: neither a search nor a descent")
    names = [stage.name for stage in stages]
    if len(set(names)) < len(names):
        raise InputError(f"stages need names of their own; got {', '.join(names)}")
    store = Store(None if folder is None else Path(folder), resume)
    fit, began, compiled = Fit.begin(problem), time.perf_counter(), compile_seconds()
    for stage in stages:
        fit = stage.run(fit, stage_key(key, stage.name), progress, store)
        if fit.finished:
            break
    return replace(fit, seconds=time.perf_counter() - began, compile_seconds=compile_seconds() - compiled)

"""What held-out pairs share with fitted ones: the noise of one recording."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from fitting.evaluate.agreement import agreement
from fitting.evaluate.baselines import held_out_baselines
from fitting.objective import Target
from fitting.optimize import Problem
from fitting.progress import Progress, Reporter, silent
from fitting.signal import Observation


def independent_targets(target: Target, observation: Observation, key, count: int) -> Iterator[Target]:
    """Connectivity of independent signals, as long as the recording behind a target and processed like it.

    All that is in it is estimation noise. Errors of pairs that share a region are correlated, so that pairs which are
    held out of such a matrix can be predicted from the others, although there is nothing to predict.

    Parameters
    ----------
    target : Target
        Of known length.
    observation : Observation
    key : PRNG key
    count : int

    Yields
    ------
    Target
        With the pairs of the target.
    """
    process = jax.jit(lambda x: observation.fc(x, observation.fs))
    shape = (round(target.seconds * observation.fs), len(target.labels))
    for one in jax.random.split(key, count):
        yield replace(target, fc=process(jax.random.normal(one, shape, jnp.result_type(float))), spectrum=None)


def leak_of_baselines(
    connectome: xr.Dataset, target: Target, observation: Observation, key, count: int = 5, progress: Reporter = silent
) -> dict[str, float]:
    """Mean score of :func:`fitting.evaluate.held_out_baselines` on independent signals.

    Parameters
    ----------
    connectome : Dataset
    target : Target
        Split into pairs to fit and to score, and of known length.
    observation : Observation
    key : PRNG key
    count : int
        Data sets that are averaged.
    progress : callable, optional

    Returns
    -------
    dict
        By baseline: what a score on held-out pairs is to be compared with, in the place of zero.
    """
    scores = []
    for number, noise in enumerate(independent_targets(target, observation, key, count)):
        scores.append(held_out_baselines(connectome, np.asarray(noise.fc, float), target.pairs))
        progress(Progress("leak", number + 1, count))
    return {name: float(np.mean([score[name] for score in scores])) for name in scores[0]}


def leak_of_fit(
    problem: Problem,
    refit: Callable[[Problem], Mapping[str, Any]],
    key,
    count: int = 1,
    progress: Reporter = silent,
) -> float:
    """Mean score on held-out pairs of the same fit to independent signals.

    Parameters
    ----------
    problem : Problem
        That was fitted.
    refit : callable
        From a problem to fitted values: the whole strategy that fitted the data.
    key : PRNG key
    count : int
        Data sets that are averaged.
    progress : callable, optional

    Returns
    -------
    float
    """
    scores = []
    for number, noise in enumerate(independent_targets(problem.target, problem.observation, key, count)):
        other = replace(problem, target=noise)
        fc = other.compiled_predict(refit(other), key).fc
        scores.append(agreement(np.asarray(fc, float), np.asarray(noise.fc, float), noise.held_out).r)
        progress(Progress("leak of the fit", number + 1, count))
    return float(np.mean(scores))

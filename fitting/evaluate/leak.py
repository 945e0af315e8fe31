"""What held-out pairs share with fitted ones: the noise of one recording."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from fitting.devices import over_devices, rounds_over_devices
from fitting.evaluate.agreement import agreement
from fitting.evaluate.baselines import held_out_baselines
from fitting.objective import Target
from fitting.optimize import Problem
from fitting.progress import Progress, Reporter, silent
from fitting.signal import Observation, upper_pairs


def independent_targets(target: Target, observation: Observation, key, count: int) -> Iterator[Target]:
    """Connectivity of independent signals, of as many people and as long as behind a target, and processed like it.

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
    shape = (round(target.seconds / target.people * observation.fs), len(target.labels))

    def person(key):
        return observation.fc(jax.random.normal(key, shape, jnp.result_type(float)), observation.fs)

    sets = jax.random.split(key, count)
    people = sets if target.people == 1 else jax.vmap(lambda one: jax.random.split(one, target.people))(sets).ravel()
    every = over_devices(person)
    matrices = (matrix for some in rounds_over_devices(len(people)) for matrix in every(people[some]))
    for _ in range(count):
        mean = sum(itertools.islice(matrices, target.people)) / target.people
        yield replace(target, fc=jnp.asarray(mean), spectrum=None)


def chance_variance(target: Target, observation: Observation, key, count: int = 3) -> float:
    """Variance that connectivity of independent signals has by chance, relative to that of a target.

    Estimation noise is of about this size where regions are weakly correlated. The rest is all that a model without
    noise can explain, so that its correlation with the target cannot be expected to exceed the root of one minus this.

    Parameters
    ----------
    target : Target
        Of known length.
    observation : Observation
    key : PRNG key
    count : int
        Data sets that are averaged.

    Returns
    -------
    float

    Examples
    --------
    >>> from dataclasses import replace
    >>> import jax, numpy as np
    >>> from fitting.data import fc_target
    >>> from fitting.evaluate import chance_variance
    >>> from fitting.objective import Target
    >>> from fitting.signal import Observation
    >>> fc = np.random.default_rng(0).normal(0, 0.2, (20, 20))
    >>> target = Target.of_matrix(fc_target(fc + fc.T, [f"R{i}" for i in range(20)]))
    >>> chance = lambda s: chance_variance(replace(target, seconds=s), Observation(low_pass=None), jax.random.key(0))
    >>> bool(3 < chance(60.0) / chance(240.0) < 5)
    True
    """
    pairs = upper_pairs(len(target.labels))
    # Noise of different people is independent: that of their mean has so many times less variance.
    person = replace(target, seconds=target.seconds / target.people, people=1)
    noise = [np.asarray(t.fc, float)[pairs].var() for t in independent_targets(person, observation, key, count)]
    return float(np.mean(noise) / target.people / np.asarray(target.fc, float)[pairs].var())


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
        From a problem to the unconstrained point that is fitted: the whole strategy that fitted the data.
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
        fc = other.compiled_predict(other.parameters.values(refit(other)), key).fc
        scores.append(agreement(np.asarray(fc, float), np.asarray(noise.fc, float), noise.held_out).r)
        progress(Progress("leak of the fit", number + 1, count))
    return float(np.mean(scores))

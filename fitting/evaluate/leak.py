"""What held-out pairs share with fitted ones: the noise of one recording."""

from __future__ import annotations

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
from fitting.predict.cost import connectivity_seconds
from fitting.progress import Progress, Reporter, silent
from fitting.signal import Observation, upper_pairs

#: Most people whose signals are drawn, unless one data set has more. Data sets that need more use people again.
PEOPLE = 20


def _drawn(target: Target, count: int) -> int:
    """People whose signals are drawn for so many data sets."""
    return min(count * target.people, max(target.people, PEOPLE))


def _matrices(target: Target, observation: Observation, key, people: int) -> Iterator[np.ndarray]:
    """Connectivity of the independent signals of one person after the other.

    Noise needs no more than 32 bits, in which connectivity takes half the time.
    """
    shape = (round(target.seconds / target.people * observation.fs), len(target.labels))

    def person(key):
        return observation.fc(jax.random.normal(key, shape, jnp.float32), observation.fs)

    keys, every = jax.random.split(key, people), over_devices(person)
    for some in rounds_over_devices(people):
        yield from every(keys[some])


def independent_targets(
    target: Target, observation: Observation, key, count: int, progress: Reporter = silent
) -> list[Target]:
    """Connectivity of independent signals, of as many people and as long as behind a target, and processed like it.

    All that is in it is estimation noise. Errors of pairs that share a region are correlated, so that pairs which are
    held out of such a matrix can be predicted from the others, although there is nothing to predict.

    No region differs from another, so that a matrix whose regions are put in random order is as good as that of another
    person: of large groups, every data set is the mean of the same people, of each in a new order.

    Parameters
    ----------
    target : Target
        Of known length.
    observation : Observation
    key : PRNG key
    count : int
        Data sets.
    progress : callable, optional
        Told of every person.

    Returns
    -------
    list of Target
        With the pairs of the target.
    """
    regions, people = len(target.labels), _drawn(target, count)
    signals, orders = jax.random.split(key)
    shuffle = np.random.default_rng(np.asarray(jax.random.bits(orders, (4,)))).permutation
    sums = np.zeros((count, regions, regions))
    for number, matrix in enumerate(_matrices(target, observation, signals, people)):
        # Data sets take their people one after the other, beginning anew where there are no more.
        for place in range(number, count * target.people, people):
            order = shuffle(regions)
            sums[place // target.people] += matrix[np.ix_(order, order)]
        progress(Progress("leak", number + 1, people))
    dtype = jnp.result_type(float)
    return [replace(target, fc=jnp.asarray(each / target.people, dtype), spectrum=None) for each in sums]


def leak_cost(target: Target, observation: Observation, count: int) -> float:
    """Seconds that :func:`leak_of_baselines` takes on one core, nearly all of them for connectivity.

    Parameters
    ----------
    target : Target
    observation : Observation
    count : int

    Returns
    -------
    float
        Zero where nothing is held out, or the length of recordings is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from fitting.evaluate.leak import leak_cost
    >>> from fitting.objective import Target
    >>> from fitting.signal import Observation
    >>> target = Target(np.zeros((3, 3)), "ABC", seconds=60.0).split(0.6, 0)
    >>> leak_cost(target, Observation(), 5) > 0
    True
    """
    if target.held_out is None or not np.isfinite(target.seconds):
        return 0.0
    return _drawn(target, count) * connectivity_seconds(observation, len(target.labels), target.seconds / target.people)


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
        People whose variance is averaged.

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
    noise = [matrix[pairs].var() for matrix in _matrices(target, observation, key, count)]
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
    scores = [
        held_out_baselines(connectome, np.asarray(noise.fc, float), target.pairs)
        for noise in independent_targets(target, observation, key, count, progress)
    ]
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
    for number, noise in enumerate(independent_targets(problem.target, problem.observation, key, count, progress)):
        other = replace(problem, target=noise)
        fc = other.predicted(refit(other), key).fc
        scores.append(agreement(np.asarray(fc, float), np.asarray(noise.fc, float), noise.held_out).r)
        progress(Progress("leak of the fit", number + 1, count))
    return float(np.mean(scores))

"""Does the connectome matter, do delays matter? The fitted model with either destroyed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr

from fitting.devices import over_devices, rounds_over_devices
from fitting.errors import InputError
from fitting.network import Network
from fitting.optimize import Problem, ResponseProblem

#: How surrogate connectomes are made.
SURROGATES = ("rewired", "distance_preserving")


def delay_nulls(
    problem: Problem | ResponseProblem, values: Mapping[str, Any], key, seeds: int = 2, duration: float | None = None
) -> dict[str, float]:
    """FC correlation of the model with the same parameters, but without delays, and with the mean delay everywhere.

    Parameters
    ----------
    problem : Problem or ResponseProblem
    values : mapping
        Fitted parameters. Lengths of their own are replaced, too.
    key : PRNG key
    seeds : int
        Noise seeds that are averaged; a ResponseProblem needs none.
    duration : float, optional
        Of each simulation in ms; the problem's own unless given.

    Returns
    -------
    dict
        ``zero_delays`` and ``one_delay``, over all pairs.
    """
    found = {}
    values = {name: value for name, value in values.items() if name != "lengths"}
    for name, kind in (("zero_delays", "zero"), ("one_delay", "mean")):
        other = replace(problem, network=problem.network.of_delays(kind))
        score, batch = _score(other, duration), other.side_by_side(duration=duration)
        keys = jax.random.split(key, 1 if isinstance(problem, ResponseProblem) else seeds)
        found[name] = float(np.mean(over_devices(lambda k, v, score=score: score(v, k), batch)(keys, values)))
    return found


def _score(problem, duration=None):
    whole = replace(problem, target=problem.target._replace(pairs=None))
    return lambda values, key: whole.evaluate(values, key, duration)[0].fc_correlation


def surrogate_connectomes(connectome: xr.Dataset, kind: str, count: int, seed: int, bins: int = 10) -> list[xr.Dataset]:
    """Connectomes that share some properties with a real one and are random otherwise.

    Parameters
    ----------
    connectome : Dataset
        See :mod:`fitting.data.labelled`.
    kind : str
        ``"rewired"``: every region keeps its number of connections, and all weights occur as often as before.
        ``"distance_preserving"``: besides, weights stay among connections of about the same length, so that
        near regions remain the strongly connected ones.
    count : int
        Number of surrogates.
    seed : int
    bins : int
        Classes of length that ``"distance_preserving"`` keeps weights in, with equally many connections each.

    Returns
    -------
    list of Dataset
        With the attribute ``surrogate``.

    Raises
    ------
    InputError
        If the kind is unknown, or connections are few and no lengths are known where there are none.

    Notes
    -----
    In a connectome without missing connections weights are all that can move: they are permuted over
    connections (within classes of length). Where connections are missing, those move, too: by the degree and
    length preserving swaps of Betzel and Bassett (PNAS 115, 2018, E4880-E4889), for ``"rewired"`` with all
    lengths in one class, as implemented in netneurotools (the extra ``surrogates``). Symmetric connectomes remain so.

    Examples
    --------
    >>> import numpy as np
    >>> from fitting.data import hcp_aal2
    >>> from fitting.evaluate import surrogate_connectomes
    >>> c = hcp_aal2()
    >>> (s,) = surrogate_connectomes(c, "rewired", 1, seed=0)
    >>> bool(np.isclose(s.weights.sum(), c.weights.sum())), bool((s.weights == c.weights).all())
    (True, False)
    """
    if kind not in SURROGATES:
        raise InputError(f"unknown kind of surrogate {kind!r}; choose from {', '.join(SURROGATES)}")
    if count < 1 or bins < 1:
        raise InputError(f"at least one surrogate and one class of length are needed; got {count} and {bins}")
    weights, lengths = np.asarray(connectome.weights.values, float), np.asarray(connectome.lengths.values, float)
    off_diagonal = ~np.eye(len(weights), dtype=bool)
    complete = bool((weights[off_diagonal] > 0).all())
    rng = np.random.default_rng(seed)
    classes = 1 if kind == "rewired" else bins
    made = []
    for _ in range(count):
        new = (_permuted if complete else _swapped)(weights, lengths, classes, rng)
        surrogate = connectome.assign(weights=(connectome.weights.dims, new))
        made.append(surrogate.assign_attrs(surrogate=kind))
    return made


def _permuted(weights, lengths, classes: int, rng):
    """Weights permuted over connections, within classes of length."""
    new = weights.copy()
    symmetric = np.array_equal(weights, weights.T)
    off_diagonal = ~np.eye(len(weights), dtype=bool)
    rows, columns = np.nonzero((weights > 0) & (np.triu(off_diagonal) if symmetric else off_diagonal))
    order = np.argsort(lengths[rows, columns], kind="stable")
    for members in np.array_split(order, classes):
        new[rows[members], columns[members]] = weights[rows[members], columns[members]][rng.permutation(len(members))]
    if symmetric:
        new[columns, rows] = new[rows, columns]
    return new


def _swapped(weights, lengths, classes: int, rng):
    """Connections swapped between pairs of regions, degrees and (within classes) lengths kept."""
    if not np.array_equal(weights, weights.T):
        raise InputError("surrogates of a connectome with missing connections need symmetric weights; these are not")
    if (lengths[~np.eye(len(lengths), dtype=bool)] <= 0).any():
        raise InputError(
            "surrogates move connections to other pairs of regions, so they need the lengths of all pairs; "
            "some are zero"
        )
    try:
        from netneurotools.networks import match_length_degree_distribution
    except ImportError:
        raise InputError(
            "surrogates of a connectome with missing connections need netneurotools: pip install 'fitting[surrogates]'"
        ) from None
    swaps = 20 * len(weights)
    seed = int(rng.integers(2**31))
    return match_length_degree_distribution(weights, lengths, nbins=classes, nswap=swaps, seed=seed)[1]


class SurrogateTest(NamedTuple):
    """A score beside those of surrogates.

    Attributes
    ----------
    score : float
        Of the real connectome.
    surrogates : array (surrogate,)
    p : float
        Probability of a score this high were the real connectome one of the surrogates: one-sided.
    """

    score: float
    surrogates: np.ndarray
    p: float


def p_value(score: float, surrogates) -> float:
    """Share of scores at least as high as the real one, which is itself among them (Phipson and Smyth, 2010).

    Parameters
    ----------
    score : float
    surrogates : array (surrogate,)

    Returns
    -------
    float

    Examples
    --------
    >>> from fitting.evaluate import p_value
    >>> p_value(0.5, [0.1, 0.2, 0.6])
    0.5
    """
    surrogates = np.asarray(surrogates, float)
    # A surrogate without a score counts against the real connectome.
    return float((1 + np.sum(~(surrogates < score))) / (1 + len(surrogates)))


def surrogate_test(
    problem: Problem | ResponseProblem,
    values: Mapping[str, Any],
    surrogates: Sequence[xr.Dataset],
    key,
    on_surrogate: Callable[[int, int], None] | None = None,
) -> SurrogateTest:
    """Score the fitted parameters on surrogate connectomes, all with the same noise.

    Parameters
    ----------
    problem : Problem or ResponseProblem
    values : mapping
        Fitted parameters; they are not fitted anew.
    surrogates : sequence of Dataset
        See :func:`surrogate_connectomes`.
    key : PRNG key
    on_surrogate : callable, optional
        Called with the number done and in all.

    Returns
    -------
    SurrogateTest
        Scores over all pairs.
    """
    network = problem.network
    weights = np.stack([network.weights, *(s.weights.values for s in surrogates)])
    lengths = np.where(weights != 0, np.stack([network.lengths, *(s.lengths.values for s in surrogates)]), 0.0)
    # One network that has all their connections: one compiled program serves all.
    names = ("node", "coupling", "noise", "speed_bounds", "interpolation", "drive", "parameters", "largest_block")
    common = Network.of_subjects(weights, lengths, **{name: getattr(network, name) for name in names})
    other = replace(problem, network=common)
    score = _score(other)
    values = {name: value for name, value in values.items() if name not in ("weights", "lengths")}
    batch = other.side_by_side()
    every = over_devices(lambda own, values, key: score(values | own, key), batch)
    scores: list[float] = []
    for some in rounds_over_devices(len(weights), batch):
        scores.extend(every({"weights": weights[some], "lengths": lengths[some]}, values, key).tolist())
        if on_surrogate and len(scores) > 1:
            on_surrogate(len(scores) - 1, len(surrogates))
    return SurrogateTest(scores[0], np.array(scores[1:]), p_value(scores[0], scores[1:]))

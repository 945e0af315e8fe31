"""Do the connectome, delays, maps, mixing matter? The fitted model with one of them destroyed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr

from fitting.data.objects import every_length
from fitting.devices import over_devices, rounds_over_devices
from fitting.errors import InputError
from fitting.evaluate.agreement import agreement
from fitting.network import Network
from fitting.optimize import Problem
from fitting.progress import Progress, Reporter, silent
from fitting.signal import fc_correlation

#: Said of a connectome whose lengths cannot all be told.
UNREACHED = (
    "surrogates move connections to other pairs of regions, so they need the lengths of all pairs; some are unknown, "
    "and connections lead to no way between them"
)

#: Surrogates whose weights correlate more with the real ones say little, even if the connectome does not matter.
ALIKE = 0.8

#: How surrogate connectomes are made.
SURROGATES = ("rewired", "distance_preserving")

#: Everything that can be replaced by something random, and what that is called.
KINDS = {kind: f"{kind.replace('_', ' ')} connectomes" for kind in SURROGATES} | {
    "random_maps": "random maps",
    "random_mixing": "random mixing matrices",
}


def on_network(problem: Problem, network: Network) -> Problem:
    """The same problem with another network; what was not fitted on this network is scored on all pairs."""
    return replace(problem, predictor=replace(problem.predictor, network=network), target=problem.target.whole)


def _scores(problem: Problem, values: Mapping[str, Any], weights, lengths, keys, progress: Reporter, stage: str):
    """Mean correlations over keys of parameter values on connectomes (connectome, target, source), the real one first.

    One network has all their connections, so that one compiled program serves all.
    """
    other = on_network(problem, problem.network.for_connectomes(weights, lengths))

    def score(own, values, keys):
        one = lambda key: fc_correlation(other.predict(values | own, key).fc, other.target.fc)  # noqa: E731
        return jax.lax.map(one, keys).mean()

    batch = other.at_once()
    every = over_devices(score, batch)
    values = {name: value for name, value in values.items() if name not in ("weights", "lengths")}
    scores: list[float] = []
    for some in rounds_over_devices(len(weights), batch):
        scores.extend(every({"weights": weights[some], "lengths": lengths[some]}, values, keys).tolist())
        progress(Progress(stage, max(len(scores) - 1, 0), len(weights) - 1))
    return scores


def delay_nulls(problem: Problem, values: Mapping[str, Any], keys, progress: Reporter = silent) -> dict[str, float]:
    """FC correlation of the model as it is, without delays, and with one delay everywhere, the same parameters kept.

    Parameters
    ----------
    problem : Problem
    values : mapping
        Fitted parameters. Lengths of their own are replaced, too.
    keys : PRNG keys
        Noise seeds that are averaged.
    progress : callable, optional

    Returns
    -------
    dict
        ``as_fitted``, ``zero_delays`` and ``one_delay``, over all pairs; see
        :meth:`fitting.network.Network.of_delays`.
    """
    network = problem.network
    weights = np.stack([np.asarray(values.get("weights", network.weights))] * 3)
    lengths = [np.asarray(values.get("lengths", network.lengths))]
    lengths += [network.of_delays(kind).lengths for kind in ("zero", "mean")]
    scores = _scores(problem, values, weights, np.stack(lengths), keys, progress, "delays")
    return dict(zip(("as_fitted", "zero_delays", "one_delay"), scores, strict=True))


def surrogate_connectomes(connectome: xr.Dataset, kind: str, count: int, seed: int, bins: int = 10) -> list[xr.Dataset]:
    """Connectomes that share some properties with a real one and are random otherwise.

    Parameters
    ----------
    connectome : Dataset
        See :mod:`fitting.data.objects`.
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

    Raises
    ------
    InputError
        If the kind is unknown, or connections are missing and weights are not symmetric or the network is not in one
        piece.

    Notes
    -----
    In a connectome without missing connections weights are all that can move: they are permuted over
    connections (within classes of length). Where connections are missing, those move first: by the degree and
    length preserving swaps of Betzel and Bassett (PNAS 115, 2018, E4880-E4889), for ``"rewired"`` with all
    lengths in one class, as implemented in netneurotools (the extra ``surrogates``). Each is swapped once at most, and
    most of those that must keep their length find none to swap with. Weights are permuted over whatever results.
    Symmetric connectomes remain so. Where a pair of regions has no length, a connection that moves there is as long as
    the shortest way along fibres.

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
    if not complete:
        lengths = every_length(weights, lengths)
        if not np.isfinite(lengths).all():
            raise InputError(UNREACHED)
    surrogates = []
    for _ in range(count):
        new = (_permuted if complete else _swapped)(weights, lengths, classes, rng)
        changed = {"weights": (connectome.weights.dims, new), "lengths": (connectome.lengths.dims, lengths)}
        surrogates.append(connectome.assign(changed))
    return surrogates


def likeness(connectome: xr.Dataset, surrogates: Sequence[xr.Dataset]) -> float:
    """Mean correlation of surrogates' weights with the real ones, over all pairs of regions.

    High where weights follow lengths, or where few connections have another of their length to change places with.

    Parameters
    ----------
    connectome : Dataset
    surrogates : sequence of Dataset
        See :func:`surrogate_connectomes`.

    Returns
    -------
    float
        1 where nothing has moved; NaN if all weights are equal.

    Examples
    --------
    >>> from fitting.data import hcp_aal2
    >>> from fitting.evaluate.nulls import likeness, surrogate_connectomes
    >>> connectome = hcp_aal2()
    >>> likeness(connectome, surrogate_connectomes(connectome, "rewired", 2, seed=0)) < 0.1
    True
    """
    off_diagonal = ~np.eye(connectome.sizes["target"], dtype=bool)
    real, *others = (np.asarray(each.weights.values, float)[off_diagonal] for each in (connectome, *surrogates))
    return float(
        np.mean([np.corrcoef(real, other)[0, 1] if real.std() * other.std() > 0 else np.nan for other in others])
    )


def surrogate_maps(connectome: xr.Dataset, count: int, seed: int) -> list[xr.Dataset]:
    """Connectomes whose maps are random, each as smooth over the cortex as the real one.

    Parameters
    ----------
    connectome : Dataset
        With ``maps`` (see :func:`fitting.data.with_maps`). Distances are those of the regions' centres or, where
        these are unknown, the lengths of fibres, and the shortest way along them.
    count : int
        Number of surrogates.
    seed : int

    Returns
    -------
    list of Dataset

    Raises
    ------
    InputError
        If the connectome has no maps, or brainsmash is not installed.

    Notes
    -----
    Values are permuted, smoothed and rescaled until their variogram is that of the map, by brainsmash (the extra
    ``maps``).

    References
    ----------
    Burt, Helmer, Shinn, Anticevic and Murray, NeuroImage 220, 2020, 117038.
    """
    if "maps" not in connectome or not connectome.sizes["map"]:
        raise InputError("the connectome has no maps; no parameter follows one")
    if count < 1:
        raise InputError(f"at least one surrogate is needed; got {count}")
    try:
        from brainsmash.mapgen.base import Base
    except ImportError:
        raise InputError("surrogates of maps need brainsmash: pip install 'fitting[maps]'") from None
    if "centres" in connectome:
        centres = np.asarray(connectome["centres"].values, float)
        distances = np.linalg.norm(centres[:, None] - centres, axis=-1)
    else:
        lengths = every_length(connectome.weights.values, connectome.lengths.values)
        if not np.isfinite(lengths).all():
            raise InputError(UNREACHED)
        distances = (lengths + lengths.T) / 2
    np.fill_diagonal(distances, 0.0)
    random = []
    for number, values in enumerate(np.asarray(connectome["maps"].values, float)):
        drawn = np.atleast_2d(Base(values, distances, seed=seed + number)(n=count))
        random.append((drawn - drawn.mean(1, keepdims=True)) / drawn.std(1, keepdims=True))
    every = np.stack(random, axis=1)
    dims = connectome["maps"].dims
    return [connectome.assign(maps=(dims, maps)) for maps in every]


def surrogate_mixing(mixing: xr.DataArray, count: int, seed: int) -> list[xr.DataArray]:
    """Mixing matrices with the regions in random order: as much leaks, but not where it does.

    Parameters
    ----------
    mixing : DataArray (region, other)
        See :func:`fitting.data.mixing_matrix`.
    count : int
        Number of surrogates.
    seed : int

    Returns
    -------
    list of DataArray

    Raises
    ------
    InputError
        If ``count`` is less than one.

    Examples
    --------
    >>> from fitting.data import mixing_matrix
    >>> from fitting.evaluate import surrogate_mixing
    >>> mixing = mixing_matrix([[1.0, 0.3, 0.0], [0.3, 1.0, 0.2], [0.0, 0.2, 1.0]], ["A.L", "B.L", "C.L"])
    >>> (other,) = surrogate_mixing(mixing, 1, seed=2)
    >>> other.values.tolist()
    [[1.0, 0.0, 0.2], [0.0, 1.0, 0.3], [0.2, 0.3, 1.0]]
    """
    if count < 1:
        raise InputError(f"at least one surrogate is needed; got {count}")
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(mixing)) for _ in range(count)]
    return [mixing.copy(data=mixing.values[np.ix_(order, order)]) for order in orders]


def surrogate_problems(problem: Problem, kind: str, count: int, seed: int) -> list[Problem]:
    """The same problem with something random in the place of what was measured.

    Parameters
    ----------
    problem : Problem
    kind : str
        ``"rewired"`` or ``"distance_preserving"`` (:func:`surrogate_connectomes`), ``"random_maps"``
        (:func:`surrogate_maps`), ``"random_mixing"`` (:func:`surrogate_mixing`).
    count : int
        Number of surrogates.
    seed : int

    Returns
    -------
    list of Problem

    Raises
    ------
    InputError
        If the kind is unknown, or the problem has nothing of the kind.
    """
    connectome, mixing = problem.network.connectome, problem.observation.mixing
    if kind == "random_mixing":
        if mixing is None:
            raise InputError("simulations are not mixed")
        observations = [replace(problem.observation, mixing=other) for other in surrogate_mixing(mixing, count, seed)]
        return [replace(problem, predictor=replace(problem.predictor, observation=other)) for other in observations]
    if kind == "random_maps":
        others = surrogate_maps(connectome, count, seed)
    else:
        others = surrogate_connectomes(connectome, kind, count, seed)
    # Bounds on lengths were those of the measured connectome.
    bounds = replace(problem.network.bounds, shortest=None, longest=None)
    networks = [replace(problem.network, connectome=other, bounds=bounds) for other in others]
    return [replace(problem, predictor=replace(problem.predictor, network=network)) for network in networks]


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
    try:
        from netneurotools.networks import match_length_degree_distribution
    except ImportError:
        raise InputError(
            "surrogates of a connectome with missing connections need netneurotools: pip install 'fitting[surrogates]'"
        ) from None
    between, both = np.triu(weights > 0, 1), (lengths + lengths.T) / 2
    edges = np.quantile(both[between], np.linspace(0, 1, classes + 1)[1:-1])
    # Its own classes are equally wide, where long ones hold next to nothing: numbers of ours fall into one each.
    numbers = (1.0 + np.searchsorted(edges, both, side="right")) * ~np.eye(len(weights), dtype=bool)
    swaps, seed = int(between.sum()), int(rng.integers(2**31))
    # It prints that each connection was swapped once, which is as it should be.
    with contextlib.redirect_stdout(None):
        moved = match_length_degree_distribution(weights, numbers, nbins=classes, nswap=swaps, seed=seed)[1]
    # It hands weights on by order of length; what else they follow is to be random.
    return _permuted(moved, lengths, classes, rng)


class SurrogateTest(NamedTuple):
    """A score beside those of surrogates.

    Attributes
    ----------
    score : float
        Of what was measured.
    surrogates : array (surrogate,)
    refitted : bool
        Whether each surrogate was fitted as the real problem was. Only then does a comparison say whether, say, the
        connectome matters: parameters that were fitted to one connectome do badly on any other. Without, it is a
        measure of sensitivity.
    """

    score: float
    surrogates: np.ndarray
    refitted: bool

    @property
    def p(self) -> float | None:
        """Probability of a score this high by chance, one-sided: None if the surrogates were not fitted."""
        return p_value(self.score, self.surrogates) if self.refitted else None


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


def surrogate_sensitivity(
    problem: Problem, values: Mapping[str, Any], surrogates: Sequence[xr.Dataset], keys, progress: Reporter = silent
) -> SurrogateTest:
    """Score the fitted parameters on surrogate connectomes, all with the same noise; nothing is fitted anew.

    Parameters
    ----------
    problem : Problem
    values : mapping
        Fitted parameters.
    surrogates : sequence of Dataset
        See :func:`surrogate_connectomes`.
    keys : PRNG keys
        Noise seeds that are averaged.
    progress : callable, optional

    Returns
    -------
    SurrogateTest
        Scores over all pairs.
    """
    network = problem.network
    weights = np.stack([network.weights, *(s.weights.values for s in surrogates)])
    lengths = np.where(weights != 0, np.stack([network.lengths, *(s.lengths.values for s in surrogates)]), 0.0)
    scores = _scores(problem, values, weights, lengths, keys, progress, "surrogates")
    return SurrogateTest(scores[0], np.array(scores[1:]), False)


def surrogate_test(
    problem: Problem,
    values: Mapping[str, Any],
    surrogates: Sequence[Problem],
    refit: Callable[[Problem], Mapping[str, Any]],
    keys,
    progress: Reporter = silent,
    name: str = "surrogates",
) -> SurrogateTest:
    """Fit every surrogate as the real problem was fitted, and compare their scores.

    Parameters
    ----------
    problem : Problem
        That was fitted.
    values : mapping
        Fitted parameters of the real problem.
    surrogates : sequence of Problem
        See :func:`surrogate_problems`.
    refit : callable
        From a problem to the unconstrained point that is fitted: the whole strategy that fitted the real one.
    keys : PRNG keys
        Noise seeds that scores are averaged over.
    progress : callable, optional
    name : str
        What progress calls the surrogates.

    Returns
    -------
    SurrogateTest
        Scores over the pairs that were held out, or over those that were fitted where none were.
    """
    held_out = problem.target.held_out
    pairs = problem.target.pairs if held_out is None else held_out

    def score(problem, values):
        fcs = [np.asarray(problem.compiled_predict(values, key).fc, float) for key in keys]
        return agreement(np.mean(fcs, axis=0), np.asarray(problem.target.fc, float), pairs).r

    scores: list[float] = []
    stage = f"fits of {name}"
    progress(Progress(stage, 0, len(surrogates)))
    for number, other in enumerate(surrogates):
        scores.append(score(other, other.parameters.values(refit(other))))
        progress(Progress(stage, number + 1, len(surrogates), f"r {scores[-1]:.3f}"))
    return SurrogateTest(score(problem, values), np.array(scores), True)

"""Connectomes, recordings and connectivity targets as labelled arrays, checked where they are made.

Layout
------
connectome : Dataset
    ``weights (target, source)`` and ``lengths (target, source)`` in mm, with region labels on both
    dimensions; ``centres (target, axis)`` in mm where they are known.
recording : DataArray
    ``(time, region)``, ``time`` in seconds, evenly spaced; ``good (time)`` is false in bad segments; attributes
    ``fs`` in Hz, ``units`` (``"model"`` for a simulation in the model's own units), ``subject`` and ``run``.
connectivity target : DataArray
    ``(region, other)``, symmetric, labels on both dimensions.

All carry ``hemisphere`` (``"L"``, ``"R"`` or ``""``) beside their labels, and the attributes ``atlas`` and
``provenance``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy.sparse.csgraph import shortest_path

from fitting.data.atlas import (
    atlas_of,
    check_atlas,
    family_of,
    family_with,
    identify,
    plain_spelling,
    refuse_other_resolution,
    refuse_sensors,
    sides_of,
)
from fitting.errors import InputError

#: Largest share of the largest weight that a negative one may be, to be taken for a rounding error.
ROUND_OFF = 1e-6

#: Longest fibre of a connectome in mm: no brain has all of them shorter, or one longer, than this.
SHORTEST_BRAIN, LONGEST_FIBRE = 0.5, 1000.0


def _labels(labels: Sequence[str], size: int, what: str) -> list[str]:
    labels = [str(label).strip() for label in labels]
    if len(labels) != size:
        raise InputError(f"{what}: {len(labels)} labels for {size} regions")
    seen, twice = set(), []
    for label in labels:
        if label in seen:
            twice.append(label)
        seen.add(label)
    if twice:
        raise InputError(f"{what}: region labels occur twice: {', '.join(twice)}")
    if "" in seen:
        raise InputError(f"{what}: region {labels.index('')} (from 0) has no label")
    refuse_sensors(labels)
    return labels


def _sides(names: list[str], hemispheres: Sequence[str] | None) -> list[str]:
    """Hemisphere of every region, from its label or as given; refuses where the two disagree."""
    told = sides_of(names)
    if hemispheres is None:
        return told
    if len(hemispheres) != len(names):
        raise InputError(f"{len(hemispheres)} hemispheres for {len(names)} regions")
    for name, by_label, given in zip(names, told, hemispheres, strict=True):
        if given not in ("L", "R", ""):
            raise InputError(f"the hemisphere of {name} must be 'L', 'R' or ''; got {given!r}")
        if by_label and given and by_label != given:
            raise InputError(
                f"region {name} is said to lie in hemisphere {given!r}: labels and hemispheres do not match"
            )
    return [given or by_label for by_label, given in zip(told, hemispheres, strict=True)]


def _atlas(atlas: str, names: list[str]) -> str:
    """The stated atlas; refuses one whose regions have other labels."""
    if not atlas:
        return ""
    own, family = family_with(check_atlas(atlas)), family_of(names)
    theirs = family if family != own else atlas_of(names, own)
    if theirs and theirs != atlas:
        raise InputError(
            f"the labels ({', '.join(names[:3])}, ...) are those of {theirs}, not of {atlas}; name their atlas, or none"
        )
    return atlas


def _square(matrix, what: str, *, diagonal: bool = True) -> np.ndarray:
    """A square matrix of finite numbers; without its ``diagonal`` where that is not used."""
    matrix = np.asarray(matrix)
    if matrix.dtype.kind not in "fiub":
        raise InputError(f"{what}: numbers are needed, got values of type {matrix.dtype}")
    matrix = matrix.astype(float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise InputError(f"{what}: the matrix must be square, one row and one column per region; got {matrix.shape}")
    if not matrix.size:
        raise InputError(f"{what}: the matrix is empty; it needs at least one region")
    if not diagonal:
        np.fill_diagonal(matrix, 0.0)
    if not np.isfinite(matrix).all():
        bad = np.argwhere(~np.isfinite(matrix))
        raise InputError(
            f"{what}: {len(bad)} value(s) are not finite, the first at row {bad[0][0]}, column {bad[0][1]} (from 0)"
        )
    return matrix


def connectome(
    weights,
    lengths,
    labels: Sequence[str],
    atlas: str = "",
    provenance: str = "",
    centres=None,
    hemispheres: Sequence[str] | None = None,
    round_off: bool = False,
) -> xr.Dataset:
    """A labelled structural connectome.

    Parameters
    ----------
    weights : array (target, source)
        Connection weights, not negative; the diagonal is set aside by the network.
    lengths : array (target, source), or None
        Fibre lengths in mm; positive wherever there is a connection, anything (zero, inf, NaN) where there is none, and
        kept as zero there if not finite. None: straight lines between the centres, which the attribute ``lengths``
        says.
    labels : sequence of str
        One per region.
    atlas, provenance : str
        Where the regions and the numbers come from; ``atlas`` is one of :data:`fitting.data.atlas.ATLASES`, or
        empty.
    centres : array (target, 3), optional
        Centres of the regions in mm.
    hemispheres : sequence of {"L", "R", ""}, optional
        As the labels tell, unless given.
    round_off : bool
        Set negative weights to zero if they are rounding errors: at most 1e-6 of the largest weight.

    Returns
    -------
    Dataset

    Raises
    ------
    InputError
        If shapes differ, a matrix is not square, a value is NaN or negative, a connection has no
        length, lengths cannot be in mm, or labels are missing, occur twice, or lie in another hemisphere.

    Examples
    --------
    >>> from fitting.data import connectome
    >>> c = connectome([[0, 1], [1, 0]], [[0, 30.0], [30.0, 0]], ["A.L", "A.R"])
    >>> c.lengths.sel(target="A.L", source="A.R").item(), c.lengths.units
    (30.0, 'mm')
    """
    weights = _square(weights, "weights")
    said = {"atlas": "", "provenance": provenance}
    if round_off:
        tiny = (weights < 0) & (weights >= -ROUND_OFF * weights.max(initial=0.0))
        weights = np.where(tiny, 0.0, weights)
        said["round_off"] = f"{tiny.sum()} negative weights, of at most {ROUND_OFF:g} of the largest, are set to zero"
    if lengths is None:
        if centres is None:
            raise InputError("a connectome without lengths needs the centres of its regions, for straight lines")
        lengths = np.linalg.norm(np.asarray(centres, float)[:, None] - np.asarray(centres, float)[None], axis=-1)
        said["lengths"] = "straight lines between the centres of the regions, not fibres"
    lengths = np.asarray(lengths)
    if lengths.shape == weights.shape and lengths.dtype.kind in "fiub":
        # Where there is no fibre there is no length to be known.
        lengths = np.where(np.isfinite(lengths) | (weights != 0), lengths, 0.0)
    lengths = _square(lengths, "lengths")
    if weights.shape != lengths.shape:
        raise InputError(f"weights are {weights.shape} but lengths are {lengths.shape}; both need the same regions")
    names = _labels(labels, len(weights), "connectome")
    if np.diag(weights).any():
        largest = np.abs(np.diag(weights)).max()
        said["diagonal"] = f"up to {largest:g}, not used: what a region does to itself is part of its node"
    for matrix, what in ((weights, "weights"), (lengths, "lengths")):
        if (matrix < 0).any():
            row, column = np.argwhere(matrix < 0)[0]
            raise InputError(
                f"{what} must not be negative; {names[row]} from {names[column]} is {matrix[row, column]:g}"
            )
    off = ~np.eye(len(weights), dtype=bool)
    if ((weights > 0) & (lengths == 0) & off).any():
        row, column = np.argwhere((weights > 0) & (lengths == 0) & off)[0]
        raise InputError(f"the connection to {names[row]} from {names[column]} has a weight but a length of 0 mm")
    longest = lengths[(weights > 0) & off].max(initial=0.0)
    if longest and not SHORTEST_BRAIN <= longest <= LONGEST_FIBRE:
        raise InputError(
            f"lengths must be in mm; the longest connection would be {longest:g} mm. If they are in cm or m, say so"
        )
    if not (weights[off] > 0).any() and len(weights) > 1:
        raise InputError("weights: no region is connected to another one; all weights are zero")
    sides = _sides(names, hemispheres)
    result = xr.Dataset(
        {
            "weights": (("target", "source"), weights),
            "lengths": (("target", "source"), lengths, {"units": "mm"}),
        },
        coords={"target": names, "source": names, "hemisphere": ("target", sides)},
        attrs=said | {"atlas": _atlas(atlas, names)},
    )
    if centres is not None:
        centres = np.asarray(centres)
        if centres.shape != (len(names), 3) or centres.dtype.kind not in "fiu" or not np.isfinite(centres).all():
            raise InputError(f"centres must be finite numbers, three per region; got shape {centres.shape}")
        result["centres"] = (("target", "axis"), centres.astype(float), {"units": "mm"})
    return result


def every_length(weights, lengths) -> Float[np.ndarray, "target source"]:
    """Lengths of all pairs in mm: of those without one, the shortest way along connections; inf where there is no way.

    Examples
    --------
    >>> from fitting.data.objects import every_length
    >>> every_length([[0, 1, 0], [1, 0, 1], [0, 1, 0]], [[0, 30, 0], [30, 0, 20], [0, 20, 0]])[0, 2].item()
    50.0
    """
    weights, lengths = np.asarray(weights, float), np.asarray(lengths, float)
    unknown = (lengths <= 0) & ~np.eye(len(lengths), dtype=bool)
    return np.where(unknown, shortest_path(np.where(weights > 0, lengths, 0.0)), lengths)


def isolated(connectome: xr.Dataset) -> list[str]:
    """Regions of a connectome without any connection, in or out.

    Examples
    --------
    >>> from fitting.data import connectome, isolated
    >>> linked = [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
    >>> isolated(connectome(linked, [[0, 30.0, 0], [30.0, 0, 0], [0, 0, 0]], ["a", "b", "c"]))
    ['c']
    """
    weights = np.where(np.eye(connectome.sizes["target"], dtype=bool), 0.0, connectome["weights"].values)
    alone = ~(weights > 0).any(0) & ~(weights > 0).any(1)
    return connectome["target"].values[alone].tolist()


def recording(
    signals,
    fs: float,
    labels: Sequence[str],
    units: str = "",
    provenance: str = "",
    start: float = 0.0,
    *,
    bad: Sequence[Sequence[float]] = (),
    hemispheres: Sequence[str] | None = None,
    **whose: str,
) -> xr.DataArray:
    """A labelled recording of source activity.

    Parameters
    ----------
    signals : array (time, region)
    fs : float
        Sampling rate in Hz.
    labels : sequence of str
        One per region.
    units : str
        Physical unit; ``"model"`` for a simulation in the model's own units.
    provenance : str
        Where the signals come from.
    start : float
        Time of the first sample in seconds.
    bad : sequence of (from, to)
        Bad segments in seconds of the same clock; they may hold any values.
    hemispheres : sequence of {"L", "R", ""}, optional
        As the labels tell, unless given.
    **whose : str
        ``atlas``, ``subject`` and ``run``: whose recording this is, and of what.

    Returns
    -------
    DataArray (time, region)

    Raises
    ------
    InputError
        If the array is empty or not (time, region), holds NaN outside bad segments, or labels are missing, occur
        twice, lie in another hemisphere, or are those of sensors.

    Examples
    --------
    >>> import numpy as np
    >>> from fitting.data import recording
    >>> recording(np.zeros((100, 2)), fs=100.0, labels=["A.L", "A.R"]).sizes["time"]
    100
    """
    unknown = sorted(set(whose) - {"atlas", "subject", "run"})
    if unknown:
        raise InputError(f"a recording has no {unknown[0]!r}; it has atlas, subject and run")
    signals = np.asarray(signals)
    if signals.ndim != 2:
        raise InputError(f"a recording has two dimensions, (time, region); got shape {signals.shape}")
    if signals.dtype.kind not in "fiu":
        raise InputError(f"a recording needs real numbers; got values of type {signals.dtype}")
    if not 0 < fs < np.inf:
        raise InputError(f"the sampling rate must be a positive number of Hz; got {fs}")
    if len(labels) == signals.shape[0] != signals.shape[1]:
        raise InputError(
            f"the recording has {signals.shape[0]} samples of {signals.shape[1]} signals but {len(labels)} labels: its "
            f"axes are turned; it must be (time, region)"
        )
    if not signals.size:
        raise InputError(f"the recording is empty: {signals.shape[0]} samples of {signals.shape[1]} signals")
    names = _labels(labels, signals.shape[1], "recording")
    time = start + np.arange(len(signals)) / fs
    good = np.ones(len(signals), bool)
    for segment in bad:
        first, last = (float(edge) for edge in segment)
        if not first < last:
            raise InputError(
                f"a bad segment is a pair of begin and end in s (no duration), and ends after it begins; got {first:g} "
                f"to {last:g} s"
            )
        if last <= time[0] or first > time[-1]:
            raise InputError(
                f"the bad segment from {first:g} to {last:g} s is outside the recording, {time[0]:g} to {time[-1]:g} s"
            )
        # Edges come rounded, MNE's to 32 bits.
        good &= (time < first - 1e-3 / fs) | (time >= last - 1e-3 / fs)
    if not np.isfinite(signals[good]).all():
        sample, region = np.argwhere(~np.isfinite(signals) & good[:, None])[0]
        raise InputError(f"the recording has a value that is not finite at {sample / fs:g} s in {names[region]}")
    return xr.DataArray(
        signals,
        dims=("time", "region"),
        coords={
            "time": ("time", time, {"units": "s"}),
            "region": names,
            "hemisphere": ("region", _sides(names, hemispheres)),
            "good": ("time", good),
        },
        name="recording",
        attrs={
            "fs": float(fs),
            "units": units,
            "provenance": provenance,
            "atlas": _atlas(whose.get("atlas", ""), names),
            "subject": whose.get("subject", ""),
            "run": whose.get("run", ""),
        },
    )


def fc_target(
    matrix,
    labels: Sequence[str],
    provenance: str = "",
    atlas: str = "",
    hemispheres: Sequence[str] | None = None,
) -> xr.DataArray:
    """A labelled functional-connectivity matrix.

    Parameters
    ----------
    matrix : array (region, region)
        Symmetric; the diagonal is not used and set to zero.
    labels : sequence of str
        One per region.
    provenance, atlas : str
        Where the numbers and the regions come from.
    hemispheres : sequence of {"L", "R", ""}, optional
        As the labels tell, unless given.

    Returns
    -------
    DataArray (region, other)

    Raises
    ------
    InputError
        If the matrix is empty, not square or not symmetric, holds NaN off its diagonal, or labels are missing, occur
        twice, or lie in another hemisphere.

    Examples
    --------
    >>> from fitting.data import fc_target
    >>> float(fc_target([[0, 0.2], [0.2, 0]], ["A.L", "A.R"]).sel(region="A.L", other="A.R"))
    0.2
    """
    matrix = _square(matrix, "FC matrix", diagonal=False)
    names = _labels(labels, len(matrix), "FC matrix")
    gap = np.abs(matrix - matrix.T)
    if gap.max() > 1e-6 * np.abs(matrix).max():
        row, column = np.unravel_index(gap.argmax(), gap.shape)
        raise InputError(
            f"FC matrix: not symmetric; {names[row]}-{names[column]} is {matrix[row, column]:g} one way and "
            f"{matrix[column, row]:g} the other. Average both directions first if that is meant"
        )
    return xr.DataArray(
        matrix,
        dims=("region", "other"),
        coords={"region": names, "other": names, "hemisphere": ("region", _sides(names, hemispheres))},
        name="fc",
        attrs={"provenance": provenance, "atlas": _atlas(atlas, names)},
    )


def mixing_matrix(matrix, labels: Sequence[str], provenance: str = "", atlas: str = "") -> xr.DataArray:
    """A labelled resolution matrix.

    Parameters
    ----------
    matrix : array (region, region)
        Row i holds what the estimate in region i has of the activity of every region. Not symmetric in general.
    labels : sequence of str
        One per region.
    provenance, atlas : str
        Where the numbers and the regions come from.

    Returns
    -------
    DataArray (region, other)

    Raises
    ------
    InputError
        If the matrix is not square or not finite, an estimate has nothing of any region, or labels are missing or
        occur twice.

    Examples
    --------
    >>> from fitting.data import mixing_matrix
    >>> float(mixing_matrix([[1.0, 0.3], [0.2, 1.0]], ["A.L", "A.R"]).sel(region="A.L", other="A.R"))
    0.3
    """
    values = _square(matrix, "mixing")
    names = _labels(labels, len(values), "mixing")
    silent = [name for name, row in zip(names, values, strict=True) if not row.any()]
    if silent:
        raise InputError(f"mixing: the rows of {', '.join(silent[:5])} are zero, so that nothing is estimated there")
    attributes = {"provenance": provenance, "atlas": _atlas(atlas, names)}
    return xr.DataArray(values, {"region": names, "other": names}, ("region", "other"), "mixing", attributes)


def match(labels: Sequence[str], data: xr.DataArray, atlas: str = "") -> tuple[xr.DataArray, list[str]]:
    """Rows (and columns) of ``data`` in the order of ``labels``.

    Labels that are equal match; so do two spellings of one region in the AAL atlases or in Desikan-Killiany's
    (:func:`fitting.data.atlas.identify`), and two that differ only in what packages add to a name
    (:func:`fitting.data.atlas.plain_spelling`). A left region never matches a right one.

    Parameters
    ----------
    labels : sequence of str
        Regions wanted, usually those of a connectome.
    data : DataArray
        A recording ``(time, region)`` or a target ``(region, other)``.
    atlas : str
        The atlas of ``labels``, where it is known.

    Returns
    -------
    matched : DataArray
        With exactly the regions of ``labels``, in that order and spelling.
    dropped : list of str
        Regions of ``data`` that were not wanted.

    Raises
    ------
    InputError
        If a wanted region is missing (missing and left-over labels are listed), the data are said to be of another
        atlas, or their labels are another one's, or two of their labels name one region.

    Examples
    --------
    >>> from fitting.data import fc_target, match
    >>> fc = fc_target([[0, 0.1, 0.2], [0.1, 0, 0.3], [0.2, 0.3, 0]], ["Insula_L", "Cuneus_L", "Precentral_R"])
    >>> matched, dropped = match(["PreCG.R", "INS.L"], fc)
    >>> float(matched[0, 1]), matched["region"].values.tolist(), dropped
    (0.2, ['PreCG.R', 'INS.L'], ['Cuneus_L'])
    """
    if not isinstance(data, xr.DataArray) or "region" not in data.coords:
        raise InputError(
            "what is matched to the labels of a connectome is a recording or a connectivity matrix "
            "(fitting.data.recording, fitting.data.fc_target)"
        )
    wanted = [str(label) for label in labels]
    have = [str(label) for label in data["region"].values]
    atlases = [atlas, str(data.attrs.get("atlas", ""))]
    families = [family_with(told) or family_of(names) for told, names in zip(atlases, (wanted, have), strict=True)]
    file = str(data.attrs.get("provenance", ""))
    whose = f"{file}: " if file else ""
    if all(families) and families[0] != families[1]:
        raise InputError(
            f"{whose}the connectome's regions are those of {atlases[0] or families[0]}, the data's those of "
            f"{atlases[1] or families[1]}; regions of two atlases cannot be matched"
        )
    family = families[0] or families[1]
    at = {label: i for i, label in enumerate(have)}
    known: set[str] = set()
    if family:
        ours, theirs = (told or atlas_of(names, family) for told, names in zip(atlases, (wanted, have), strict=True))
        named: dict[str, str] = {}
        for label in have:
            region = identify(label, family, theirs)
            if region in named:
                raise InputError(f"{whose}the data's labels {named[region]} and {label} both name {region}")
            if region:
                named[region] = label
        regions = {label: identify(label, family, ours) for label in wanted}
        # One label can name two regions, in two atlases of a family: known ones match by what they name.
        places = {label: at[named[region]] for label, region in regions.items() if region in named}
        at = {label: i for label, i in at.items() if not regions.get(label)} | places
        known = {*named.values(), *(label for label, region in regions.items() if region)}
    try:
        refuse_other_resolution(wanted, have)
    except InputError as error:
        raise InputError(f"{whose}{error}") from None
    _match_plain_spellings(at, wanted, have, known)
    missing = [label for label in wanted if label not in at]
    index = [at[label] for label in wanted if label in at]
    dropped = [label for i, label in enumerate(have) if i not in set(index)]
    if missing:
        other = (
            " Leave these regions out of the connectome, or add them to the data."
            if index
            else " They seem to be of two parcellations: take a connectome of the data's parcellation."
        )
        raise InputError(
            f"{whose}{len(missing)} region(s) of the connectome are not in the data: {_some(missing)}. "
            f"Unknown region labels in the data: {_some(dropped) if dropped else 'none'}.{other}"
        )
    chosen = data.isel({dim: index for dim in ("region", "other") if dim in data.dims})
    return chosen.assign_coords({dim: wanted for dim in ("region", "other") if dim in data.dims}), dropped


def _some(labels: list[str], most: int = 12) -> str:
    """Labels in a sentence that stays one."""
    rest = len(labels) - most
    return ", ".join(labels[:most]) + (f" and {rest} more" if rest > 0 else "")


def _match_plain_spellings(at: dict[str, int], wanted: list[str], have: list[str], known: set[str]):
    """Add labels that no atlas knows whose plain spelling is that of one label on either side."""
    ours, theirs = (
        Counter(plain_spelling(label) for label in labels if label not in known) for labels in (wanted, have)
    )
    places = {plain_spelling(label): i for i, label in enumerate(have) if label not in known}
    for label in wanted:
        spelling = plain_spelling(label)
        if label not in at and label not in known and spelling[0] and ours[spelling] == theirs[spelling] == 1:
            at[label] = places[spelling]

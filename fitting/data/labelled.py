"""Connectomes, recordings and connectivity targets as labelled arrays, checked where they are made.

Layout
------
connectome : Dataset
    ``weights (target, source)`` and ``lengths (target, source)`` in mm, with region labels on both
    dimensions.
recording : DataArray
    ``(time, region)``, ``time`` in seconds, evenly spaced; attribute ``units`` is ``"model"`` for a
    simulation in the model's own units.
connectivity target : DataArray
    ``(region, other)``, symmetric, labels on both dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from fitting.errors import InputError


def _labels(labels: Sequence[str], size: int, what: str) -> list[str]:
    labels = [str(label) for label in labels]
    if len(labels) != size:
        raise InputError(f"{what}: {len(labels)} labels for {size} regions")
    seen, twice = set(), []
    for label in labels:
        if label in seen:
            twice.append(label)
        seen.add(label)
    if twice:
        raise InputError(f"{what}: region labels occur twice: {', '.join(twice)}")
    return labels


def _square(matrix, what: str) -> np.ndarray:
    matrix = np.asarray(matrix)
    if matrix.dtype.kind not in "fiub":
        raise InputError(f"{what}: numbers are needed, got values of type {matrix.dtype}")
    matrix = matrix.astype(float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise InputError(f"{what}: the matrix must be square, one row and one column per region; got {matrix.shape}")
    if not np.isfinite(matrix).all():
        bad = np.argwhere(~np.isfinite(matrix))
        raise InputError(
            f"{what}: {len(bad)} value(s) are not finite, the first at row {bad[0][0]}, column {bad[0][1]} (from 0)"
        )
    return matrix


def connectome(weights, lengths, labels: Sequence[str], atlas: str = "", provenance: str = "") -> xr.Dataset:
    """A labelled structural connectome.

    Parameters
    ----------
    weights : array (target, source)
        Connection weights, not negative; the diagonal is set aside by the network.
    lengths : array (target, source)
        Fibre lengths in mm; positive wherever there is a connection.
    labels : sequence of str
        One per region.
    atlas, provenance : str
        Where the regions and the numbers come from.

    Returns
    -------
    Dataset

    Raises
    ------
    InputError
        If shapes differ, a matrix is not square, a value is NaN or negative, a connection has no
        length, or labels are missing or occur twice.

    Examples
    --------
    >>> from fitting.data import connectome
    >>> c = connectome([[0, 1], [1, 0]], [[0, 30.0], [30.0, 0]], ["A.L", "A.R"])
    >>> c.lengths.sel(target="A.L", source="A.R").item(), c.lengths.units
    (30.0, 'mm')
    """
    weights, lengths = _square(weights, "weights"), _square(lengths, "lengths")
    if weights.shape != lengths.shape:
        raise InputError(f"weights are {weights.shape} but lengths are {lengths.shape}; both need the same regions")
    names = _labels(labels, len(weights), "connectome")
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
    return xr.Dataset(
        {
            "weights": (("target", "source"), weights),
            "lengths": (("target", "source"), lengths, {"units": "mm"}),
        },
        coords={"target": names, "source": names},
        attrs={"atlas": atlas, "provenance": provenance},
    )


def recording(
    signals, fs: float, labels: Sequence[str], units: str = "", provenance: str = "", start: float = 0.0
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

    Returns
    -------
    DataArray (time, region)

    Raises
    ------
    InputError
        If the array is not (time, region), holds NaN, or labels are missing or occur twice.

    Examples
    --------
    >>> import numpy as np
    >>> from fitting.data import recording
    >>> recording(np.zeros((100, 2)), fs=100.0, labels=["A.L", "A.R"]).sizes["time"]
    100
    """
    signals = np.asarray(signals)
    if signals.ndim != 2:
        raise InputError(f"a recording has two dimensions, (time, region); got shape {signals.shape}")
    if not 0 < fs < np.inf:
        raise InputError(f"the sampling rate must be a positive number of Hz; got {fs}")
    names = _labels(labels, signals.shape[1], "recording")
    if not np.isfinite(signals).all():
        time, region = np.argwhere(~np.isfinite(signals))[0]
        raise InputError(f"the recording has a value that is not finite at {time / fs:g} s in {names[region]}")
    return xr.DataArray(
        signals,
        dims=("time", "region"),
        coords={"time": ("time", start + np.arange(len(signals)) / fs, {"units": "s"}), "region": names},
        name="recording",
        attrs={"fs": float(fs), "units": units, "provenance": provenance},
    )


def fc_target(matrix, labels: Sequence[str], provenance: str = "") -> xr.DataArray:
    """A labelled functional-connectivity matrix.

    Parameters
    ----------
    matrix : array (region, region)
        Symmetric; the diagonal is not used and set to zero.
    labels : sequence of str
        One per region.
    provenance : str
        Where the numbers come from.

    Returns
    -------
    DataArray (region, other)

    Raises
    ------
    InputError
        If the matrix is not square or not symmetric, holds NaN, or labels are missing or occur twice.

    Examples
    --------
    >>> from fitting.data import fc_target
    >>> float(fc_target([[0, 0.2], [0.2, 0]], ["A.L", "A.R"]).sel(region="A.L", other="A.R"))
    0.2
    """
    matrix = _square(matrix, "FC matrix").copy()
    names = _labels(labels, len(matrix), "FC matrix")
    np.fill_diagonal(matrix, 0.0)
    gap = np.abs(matrix - matrix.T)
    if gap.max(initial=0.0) > 1e-6 * max(1.0, np.abs(matrix).max(initial=0.0)):
        row, column = np.unravel_index(gap.argmax(), gap.shape)
        raise InputError(
            f"FC matrix: not symmetric; {names[row]}-{names[column]} is {matrix[row, column]:g} one way and "
            f"{matrix[column, row]:g} the other. Average both directions first if that is meant"
        )
    return xr.DataArray(
        matrix,
        dims=("region", "other"),
        coords={"region": names, "other": names},
        name="fc",
        attrs={"provenance": provenance},
    )


def match(labels: Sequence[str], data: xr.DataArray) -> tuple[xr.DataArray, list[str]]:
    """Rows (and columns) of ``data`` in the order of ``labels``.

    Parameters
    ----------
    labels : sequence of str
        Regions wanted, usually those of a connectome.
    data : DataArray
        A recording ``(time, region)`` or a target ``(region, other)``.

    Returns
    -------
    matched : DataArray
        With exactly the regions of ``labels``, in that order.
    dropped : list of str
        Regions of ``data`` that were not wanted.

    Raises
    ------
    InputError
        If a wanted region is missing; missing and left-over labels are listed.

    Examples
    --------
    >>> from fitting.data import fc_target, match
    >>> fc = fc_target([[0, 0.1, 0.2], [0.1, 0, 0.3], [0.2, 0.3, 0]], ["A.L", "B.L", "C.L"])
    >>> matched, dropped = match(["C.L", "A.L"], fc)
    >>> float(matched[0, 1]), dropped
    (0.2, ['B.L'])
    """
    have = [str(label) for label in data["region"].values]
    missing = [label for label in labels if label not in have]
    dropped = [label for label in have if label not in set(labels)]
    if missing:
        raise InputError(
            f"{len(missing)} region(s) of the connectome are not in the data: {', '.join(missing)}. "
            f"Unknown region labels in the data: {', '.join(dropped) if dropped else 'none'}"
        )
    index = {"region": list(labels)}
    if "other" in data.dims:
        index["other"] = list(labels)
    return data.sel(index), dropped

"""Functional-connectivity matrices from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from fitting.data.arrays import existing, needed_of, one_of, read_arrays, text_of, texts
from fitting.data.connectomes import HEMISPHERES, LABELS, hemispheres_in, hemispheres_of
from fitting.data.netcdf import read_dataset
from fitting.data.objects import fc_target
from fitting.data.tables import read_labelled_matrix
from fitting.errors import InputError

#: Names under which people store a connectivity matrix.
MATRIX = ("fc", "FC", "matrix")

#: By how much rounding to 32 bits, or in text, may lift a correlation over 1.
ROUNDING = 1e-6


def read_fc(path: str | Path, *, atlas: str = "") -> xr.DataArray:
    """A functional-connectivity matrix from a file.

    Parameters
    ----------
    path : path
        ``.csv`` or ``.tsv`` with labels in the first row and column; ``.npz``, ``.mat`` or ``.h5`` with the arrays
        ``fc`` (or ``matrix``) and ``labels``, and ``hemispheres`` and ``atlas`` if known; ``.nc`` with one labelled
        square variable, or one called ``fc``.
    atlas : str
        See :func:`fitting.data.connectome`.

    Returns
    -------
    DataArray (region, other)

    Raises
    ------
    InputError
        If the file is missing, cannot be read, or does not hold a labelled symmetric matrix of correlations.
    """
    path = Path(path).expanduser()
    suffix = existing(path).suffix.lower()
    sides: dict[str, list[str]] = {}
    if suffix in (".csv", ".tsv", ".txt"):
        matrix, labels = read_labelled_matrix(path)
    elif suffix in (".npz", ".mat", ".h5", ".hdf5"):
        arrays, present = read_arrays(path, (*MATRIX, *LABELS, *HEMISPHERES, "atlas"))
        matrix, named = (needed_of(arrays, names, path, present) for names in (MATRIX, LABELS))
        labels = texts(named, f"{path}: labels")
        told = one_of(arrays, HEMISPHERES, path)
        sides = {} if told is None else {"hemispheres": hemispheres_of(told, f"{path}: hemispheres")}
        atlas = atlas or text_of(arrays, ("atlas",), str(path))
    elif suffix in (".nc", ".nc4"):
        dataset = read_dataset(path)
        square = [v for v in dataset.data_vars.values() if v.ndim == 2 and v.shape[0] == v.shape[1]]
        array = dataset["fc"] if "fc" in dataset else square[0] if len(square) == 1 else None
        if array is None:
            raise InputError(
                f"{path} must hold a variable fc; it holds {', '.join(map(str, dataset.data_vars)) or 'none'}"
            )
        if array.ndim != 2 or not all(dim in array.coords for dim in array.dims):
            raise InputError(f"{path}: the matrix has no labels; regions are matched by label")
        labels, columns = (texts(array[dim].values, f"{path}: {dim}") for dim in array.dims)
        if labels != columns:
            raise InputError(f"{path}: rows and columns must have the same labels in the same order")
        matrix, atlas = array.values, atlas or str(array.attrs.get("atlas", ""))
        sides = hemispheres_in(dataset, array.dims, path)
    else:
        raise InputError(f"cannot read an FC matrix from {suffix or 'a file without extension'}; use .csv, .npz or .nc")
    try:
        target = fc_target(matrix, labels, provenance=path.name, atlas=atlas, **sides)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    _refuse_others(target, path)
    return target


def _refuse_others(fc: xr.DataArray, path: Path):
    """Refuse what cannot be correlations: too large, all the same, or nothing at all with a region."""
    values, names = fc.values, fc["region"].values
    row, column = np.unravel_index(np.abs(values).argmax(), values.shape)
    if abs(values[row, column]) > 1 + ROUNDING:
        raise InputError(
            f"{path}: {names[row]}-{names[column]} is {values[row, column]:g}, which is no correlation; turn "
            f"covariances into correlations, and Fisher's z back by tanh"
        )
    pairs = values[np.triu_indices(len(values), 1)]
    if len(pairs) > 1 and np.ptp(pairs) == 0:
        raise InputError(f"{path}: all pairs of regions have the value {pairs[0]:g}; nothing can be fitted to that")
    silent = names[(values - np.diag(np.diag(values)) == 0).all(1)]
    if len(silent):
        some = f"{', '.join(silent[:5])}{' and others' if len(silent) > 5 else ''}"
        raise InputError(
            f"{path}: the connectivity of {some} is zero with every other region, as where nothing was measured; leave "
            "such regions out"
        )

"""Functional-connectivity matrices from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from fitting.data.arrays import existing, read_arrays
from fitting.data.connectomes import LABELS
from fitting.data.labelled import fc_target
from fitting.data.netcdf import read_dataset
from fitting.data.tables import read_labelled_matrix
from fitting.errors import InputError

#: Names under which people store a connectivity matrix.
MATRIX = ("fc", "FC", "matrix")


def read_fc(path: str | Path, *, atlas: str = "") -> xr.DataArray:
    """A functional-connectivity matrix from a file.

    Parameters
    ----------
    path : path
        ``.csv`` or ``.tsv`` with labels in the first row and column; ``.npz``, ``.mat`` or ``.h5`` with the arrays
        ``fc`` (or ``matrix``) and ``labels``; ``.nc`` with one labelled square variable, or one called ``fc``.
    atlas : str
        See :func:`fitting.data.connectome`.

    Returns
    -------
    DataArray (region, other)

    Raises
    ------
    InputError
        If the file is missing, cannot be read, or does not hold a labelled symmetric matrix.
    """
    path = Path(path).expanduser()
    suffix = existing(path).suffix.lower()
    if suffix in (".csv", ".tsv", ".txt"):
        matrix, labels = read_labelled_matrix(path)
    elif suffix in (".npz", ".mat", ".h5", ".hdf5"):
        found, present = read_arrays(path, (*MATRIX, *LABELS))
        matrix, named = (_one(found, present, names, path) for names in (MATRIX, LABELS))
        labels = [str(label) for label in np.ravel(named)]
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
        labels, columns = (array[dim].values.astype(str).tolist() for dim in array.dims)
        if labels != columns:
            raise InputError(f"{path}: rows and columns must have the same labels in the same order")
        matrix, atlas = array.values, atlas or str(array.attrs.get("atlas", ""))
    else:
        raise InputError(f"cannot read an FC matrix from {suffix or 'a file without extension'}; use .csv, .npz or .nc")
    return fc_target(matrix, labels, provenance=path.name, atlas=atlas)


def _one(found: dict, present: list[str], names: tuple[str, ...], path: Path) -> np.ndarray:
    held = [name for name in names if name in found]
    if not held:
        raise InputError(f"{path} holds {', '.join(present) or 'nothing'}; one of {', '.join(names)} is needed")
    if len(held) > 1:
        raise InputError(f"{path} holds {' and '.join(held)}; which of them is meant cannot be told")
    return found[held[0]]

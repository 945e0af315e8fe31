"""Read matrices and recordings from files, without ever unpickling."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path

import numpy as np
import xarray as xr

from fitting.data.labelled import fc_target, recording
from fitting.errors import InputError


def existing(path: str | Path) -> Path:
    """``path`` if there is such a file; refuses it otherwise, naming the folder's files."""
    path = Path(path).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file in it")
    near = sorted(p.name for p in path.parent.glob(f"*{path.suffix}"))[:8] if path.parent.is_dir() else []
    hint = f"; {path.parent} holds {', '.join(near)}" if near else ""
    raise InputError(f"there is no file {path}{hint}")


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Arrays of an NPZ file; refuses object arrays, which would need unpickling."""
    path = existing(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, KeyError, AttributeError) as error:
        raise InputError(f"{path} is not a readable NPZ file of plain arrays: {error}") from None


def _pick(arrays: dict, names: tuple[str, ...], path) -> np.ndarray:
    for name in names:
        if name in arrays:
            return arrays[name]
    raise InputError(f"{path} holds {', '.join(arrays) or 'nothing'}; one of {', '.join(names)} is needed")


def read_labelled_csv(path: str | Path) -> tuple[np.ndarray, list[str]]:
    """A square matrix from a CSV or TSV file with labels in its first row and first column.

    Returns
    -------
    matrix : ndarray
    labels : list of str
    """
    path = existing(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} is not a text file: {error}") from None
    delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
    try:
        rows = [row for row in csv.reader(text.splitlines(), delimiter=delimiter) if row]
    except csv.Error as error:
        raise InputError(f"{path} is not a readable CSV file: {error}") from None
    if len(rows) < 2:
        raise InputError(f"{path} is empty; a first row of labels and one row per region are needed")
    columns = [label.strip() for label in rows[0][1:]]
    labels = [row[0].strip() for row in rows[1:]]
    for row in rows[1:]:
        if len(row) != len(rows[0]):
            raise InputError(f"{path}: row {row[0]!r} has {len(row) - 1} values but there are {len(columns)} columns")
    if len(rows) - 1 != len(columns):
        raise InputError(f"{path}: the matrix is not square: {len(rows) - 1} rows and {len(columns)} columns")
    if labels != columns:
        where = next(i for i, (a, b) in enumerate(zip(labels, columns, strict=True)) if a != b)
        raise InputError(
            f"{path}: rows and columns must have the same labels in the same order; "
            f"row {where} is {labels[where]!r}, column {where} is {columns[where]!r}"
        )
    matrix = np.empty((len(labels), len(labels)))
    for i, row in enumerate(rows[1:]):
        for j, text in enumerate(row[1:]):
            try:
                matrix[i, j] = float(text)
            except ValueError:
                raise InputError(f"{path}: {text!r} in row {labels[i]}, column {columns[j]}, is not a number") from None
    return matrix, labels


def read_fc(path: str | Path) -> xr.DataArray:
    """A functional-connectivity target from a labelled CSV, TSV or NPZ file.

    Parameters
    ----------
    path : path
        ``.csv`` or ``.tsv`` with labels in the first row and column, or ``.npz`` with the arrays
        ``fc`` (or ``matrix``) and ``labels``.

    Returns
    -------
    DataArray (region, other)

    Raises
    ------
    InputError
        If the file is missing, cannot be read, or does not hold a labelled symmetric matrix.
    """
    path = existing(path)
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        matrix, labels = read_labelled_csv(path)
    elif path.suffix.lower() == ".npz":
        arrays = read_npz(path)
        matrix, labels = _pick(arrays, ("fc", "matrix"), path), _pick(arrays, ("labels", "regions"), path).tolist()
    else:
        raise InputError(f"cannot read an FC matrix from {path.suffix or 'a file without extension'}; use .csv or .npz")
    return fc_target(matrix, labels, provenance=path.name)


def read_recording(path: str | Path) -> xr.DataArray:
    """A recording from a netCDF or NPZ file.

    Parameters
    ----------
    path : path
        ``.nc`` with one variable of dimensions ``time`` and ``region`` (or ``regions``) and their
        coordinates, or ``.npz`` with the arrays ``signals`` (time, region), ``fs`` and ``labels``.

    Returns
    -------
    DataArray (time, region)

    Raises
    ------
    InputError
        If the file is missing, cannot be read, has no labels, or its time is not evenly spaced.
    """
    path = existing(path)
    if path.suffix.lower() == ".npz":
        arrays = read_npz(path)
        signals = _pick(arrays, ("signals", "data"), path)
        fs = float(np.asarray(_pick(arrays, ("fs", "sfreq"), path)).reshape(()))
        return recording(signals, fs, _pick(arrays, ("labels", "regions"), path).tolist(), provenance=path.name)
    if path.suffix.lower() not in (".nc", ".nc4", ".h5"):
        raise InputError(f"cannot read a recording from {path.suffix or 'a file without extension'}; use .nc or .npz")
    try:
        with xr.open_dataset(path, engine=_netcdf_engine(path)) as file:
            dataset = file.load()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        raise InputError(f"{path} is not a readable netCDF file: {error}") from None
    candidates = [v for v in dataset.data_vars.values() if {"time"} < set(v.dims) and v.ndim == 2]
    if len(candidates) != 1:
        raise InputError(
            f"{path} must hold one variable of dimensions time and region; it holds "
            f"{', '.join(f'{n} {v.dims}' for n, v in dataset.data_vars.items()) or 'none'}"
        )
    array = candidates[0].transpose("time", ...)
    regions = array.dims[1]
    if regions not in array.coords:
        raise InputError(f"{path}: dimension {regions!r} has no labels; regions are matched by label")
    if "time" not in array.coords:
        raise InputError(f"{path}: there is no time coordinate, so the sampling rate is unknown")
    time = array["time"].values.astype(float)
    step = np.diff(time)
    if len(time) < 2 or not (step > 0).all():
        raise InputError(f"{path}: time must increase from sample to sample")
    if np.ptp(step) > 0.01 * step.mean():
        raise InputError(f"{path}: samples are {step.min():g} to {step.max():g} s apart; they must be evenly spaced")
    # The mean over the whole recording: single differences of a rounded time axis are off.
    fs = (len(time) - 1) / (time[-1] - time[0])
    fs = round(fs) if abs(fs - round(fs)) < 1e-6 * fs else fs
    units = str(array.attrs.get("unit", array.attrs.get("units", "")))
    return recording(array.values, float(fs), array[regions].values.tolist(), units, path.name, float(time[0]))


def _netcdf_engine(path: Path) -> str:
    """Engine for a file by its first bytes: netCDF 4 is HDF5, netCDF 3 is read by SciPy."""
    with path.open("rb") as file:
        return "scipy" if file.read(3) == b"CDF" else "h5netcdf"

"""Connectomes from files: arrays, labelled tables, The Virtual Brain's ZIP and BIDS folders."""

from __future__ import annotations

import bz2
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
import xarray as xr

from fitting.data.arrays import LARGEST, check_size, existing, read_arrays
from fitting.data.labelled import connectome
from fitting.data.netcdf import read_dataset
from fitting.data.tables import (
    is_number,
    numbers_of,
    read_json,
    read_labelled_matrix,
    read_matrix,
    read_text,
    rows_of,
)
from fitting.errors import InputError
from fitting.units import magnitude

#: Names under which people store the parts of a connectome.
WEIGHTS = ("weights", "Cmat", "SC", "sc", "connectivity")
LENGTHS = ("lengths", "tract_lengths", "distances", "Dmat", "len")
LABELS = ("labels", "region_labels", "regions", "names")
CENTRES = ("centres", "centers", "coordinates")


def read_connectome(path: str | Path, *, units: str = "mm", atlas: str = "") -> xr.Dataset:
    """A connectome from a file or a folder.

    Parameters
    ----------
    path : path
        - ``.npz``, ``.mat``, ``.h5``: the arrays ``weights``, ``lengths`` and ``labels``, and ``centres`` if known
          (other common names are understood);
        - ``.nc``: the variables ``weights`` and ``lengths``, as this package's connectomes are stored by xarray;
        - ``.zip``, or a folder: The Virtual Brain's ``weights.txt``, ``tract_lengths.txt``, ``centres.txt`` and
          ``hemispheres.txt``;
        - a folder with ``weights`` and ``lengths`` as CSV or TSV with labels in the first row and column;
        - a folder in BIDS' layout for computational models (BEP034): ``net/*_weights.tsv``, ``net/*_distances.tsv``
          and ``coord/*_labels.tsv``.

        Rows are targets and columns sources in all of them.
    units : str
        Of the lengths, where the file does not say: ``"mm"``, ``"cm"`` or ``"m"``.
    atlas : str
        See :func:`fitting.data.connectome`.

    Returns
    -------
    Dataset

    Raises
    ------
    InputError
        If it is missing or damaged, a part is missing, or a part is wrong.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        parts = _folder(path)
    elif path.suffix.lower() == ".zip":
        parts = _tvb_zip(existing(path))
    elif path.suffix.lower() in (".nc", ".nc4"):
        parts = _netcdf(path)
    elif path.suffix.lower() in (".csv", ".tsv", ".txt"):
        existing(path)
        raise InputError(
            f"{path} can hold one matrix, but a connectome needs weights and lengths: name a folder with weights.csv "
            f"and lengths.csv, or an NPZ file with weights, lengths and labels"
        )
    else:
        parts = _arrays(path)
    units = str(parts.get("units", units))
    lengths = np.asarray(parts["lengths"])
    if units != "mm" and lengths.dtype.kind in "fiu":
        lengths = lengths * magnitude(f"1 {units}", "mm", f"{path}: lengths")
    return connectome(
        parts["weights"],
        lengths,
        parts["labels"],
        atlas=atlas or parts.get("atlas", ""),
        provenance=path.name,
        centres=parts.get("centres"),
        hemispheres=parts.get("hemispheres"),
    )


def _arrays(path: Path) -> dict:
    found, present = read_arrays(path, (*WEIGHTS, *LENGTHS, *LABELS, *CENTRES))
    parts: dict = {}
    for part, names in {"weights": WEIGHTS, "lengths": LENGTHS, "labels": LABELS, "centres": CENTRES}.items():
        held = [name for name in names if name in found]
        if len(held) > 1:
            raise InputError(f"{path} holds {' and '.join(held)}; which of them are the {part} cannot be told")
        if held:
            parts[part] = found[held[0]]
    missing = [part for part in ("weights", "lengths", "labels") if part not in parts]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}; it holds {', '.join(present) or 'nothing'}")
    parts["labels"] = [str(label) for label in np.ravel(parts["labels"])]
    return parts


def _netcdf(path: Path) -> dict:
    dataset = read_dataset(path)
    missing = [name for name in ("weights", "lengths") if name not in dataset]
    if missing:
        raise InputError(
            f"{path} lacks {', '.join(missing)}; it holds {', '.join(map(str, dataset.data_vars)) or 'nothing'}"
        )
    weights, lengths = dataset["weights"], dataset["lengths"]
    if weights.ndim != 2 or not all(dim in weights.coords for dim in weights.dims):
        raise InputError(f"{path}: weights need two dimensions with region labels; they have {weights.dims}")
    if set(weights.dims) == {"target", "source"}:
        weights = weights.transpose("target", "source")
    rows, columns = (weights[dim].values.astype(str).tolist() for dim in weights.dims)
    if rows != columns:
        raise InputError(f"{path}: targets and sources must have the same labels in the same order")
    if set(lengths.dims) != set(weights.dims):
        raise InputError(f"{path}: lengths have the dimensions {lengths.dims}, weights {weights.dims}")
    parts = {"weights": weights.values, "lengths": lengths.transpose(*weights.dims).values, "labels": rows}
    parts |= {"atlas": str(dataset.attrs.get("atlas", ""))} if "atlas" in dataset.attrs else {}
    parts |= {"units": lengths.attrs["units"]} if "units" in lengths.attrs else {}
    parts |= {"centres": dataset["centres"].values} if "centres" in dataset else {}
    return parts


def _tvb_zip(path: Path) -> dict:
    texts: dict[str, str] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                inside = PurePosixPath(entry.filename.replace("\\", "/"))
                if inside.is_absolute() or ".." in inside.parts or ":" in inside.parts[0]:
                    raise InputError(f"{path} names a path outside itself: {entry.filename!r}")
                name = inside.name.lower()
                if entry.is_dir() or not re.fullmatch(r"[a-z_]+\.txt(\.bz2)?", name):
                    continue
                check_size(4.0 * entry.file_size, f"{path}: {entry.filename}")
                name = name.partition(".")[0]
                if name in texts:
                    raise InputError(f"{path} holds two files called {name}.txt")
                data = archive.read(entry)
                texts[name] = (_unpack(data) if entry.filename.lower().endswith(".bz2") else data).decode("utf-8-sig")
    except InputError:
        raise
    except Exception as error:  # zipfile, zlib and bz2 raise many types for damaged files
        raise InputError(f"{path} is not a readable ZIP file: {error or type(error).__name__}") from None
    return _tvb(texts, path)


def _unpack(data: bytes) -> bytes:
    unpacker = bz2.BZ2Decompressor()
    text = unpacker.decompress(data, max_length=LARGEST // 4)
    if not unpacker.eof:
        raise InputError("a packed file is cut off, or unpacks to more than is read")
    return text


def _tvb(texts: Mapping[str, str], path: Path) -> dict:
    """The Virtual Brain's connectivity: see its documentation of ``tvb.datatypes.connectivity``."""
    centres = next((texts[name] for name in CENTRES[:2] if name in texts), None)
    lengths = next((texts[name] for name in LENGTHS if name in texts), None)
    missing = [
        name
        for name, text in {
            "weights.txt": texts.get("weights"),
            "tract_lengths.txt": lengths,
            "centres.txt": centres,
        }.items()
        if text is None
    ]
    if missing or centres is None or lengths is None:
        raise InputError(
            f"{path} lacks {', '.join(missing)}; it holds {', '.join(f'{t}.txt' for t in texts) or 'nothing'}"
        )
    rows = rows_of(centres, f"{path}: centres.txt")
    if not all(len(row) == 4 for row in rows):
        raise InputError(f"{path}: every line of centres.txt must hold a label and three coordinates")
    parts = {
        "weights": numbers_of(rows_of(texts["weights"], f"{path}: weights.txt"), f"{path}: weights.txt"),
        "lengths": numbers_of(rows_of(lengths, f"{path}: tract_lengths.txt"), f"{path}: tract_lengths.txt"),
        "labels": [row[0] for row in rows],
        "centres": numbers_of([row[1:] for row in rows], f"{path}: centres.txt"),
    }
    if "hemispheres" in texts:
        flags = [cell for row in rows_of(texts["hemispheres"], f"{path}: hemispheres.txt") for cell in row]
        known = {"0": "L", "1": "R", "false": "L", "true": "R"}
        sides = [known.get(flag.lower().removesuffix(".0")) for flag in flags]
        if None in sides:
            raise InputError(
                f"{path}: hemispheres.txt must hold 1 for right and 0 for left; got {flags[sides.index(None)]!r}"
            )
        parts["hemispheres"] = sides
    return parts


def _folder(path: Path) -> dict:
    files = {file.name.lower(): file for file in sorted(path.iterdir()) if file.is_file()}
    if "weights.txt" in files:
        texts = {name.removesuffix(".txt"): read_text(file) for name, file in files.items() if name.endswith(".txt")}
        return _tvb(texts, path)
    for suffix in (".csv", ".tsv"):
        if f"weights{suffix}" in files:
            weights, labels = read_labelled_matrix(files[f"weights{suffix}"])
            other = next((files[f"{name}{suffix}"] for name in LENGTHS if f"{name}{suffix}" in files), None)
            if other is None:
                raise InputError(f"{path} has weights{suffix} but no lengths{suffix}")
            lengths, rows = read_labelled_matrix(other)
            if rows != labels:
                raise InputError(
                    f"{path}: weights{suffix} and {other.name} must have the same labels in the same order"
                )
            return {"weights": weights, "lengths": lengths, "labels": labels}
    return _bids(path)


def _bids(path: Path) -> dict:
    found = sorted(file for file in path.rglob("*_weights.tsv") if file.parent.name == "net")
    if not found:
        raise InputError(
            f"{path} holds no connectome: neither weights.txt (The Virtual Brain), nor weights.csv, nor "
            f"net/*_weights.tsv (BIDS)"
        )
    if len(found) > 1:
        some = ", ".join(str(file.relative_to(path)) for file in found[:4])
        raise InputError(f"{path} holds {len(found)} connectomes ({some}, ...); name the folder of one of them")
    weights = found[0]
    stem = weights.name.removesuffix("_weights.tsv")
    lengths = [weights.with_name(f"{stem}_{name}.tsv") for name in ("distances", "lengths", "tract_lengths")]
    if not any(file.is_file() for file in lengths):
        raise InputError(f"{weights} has no {lengths[0].name} beside it")
    distances = next(file for file in lengths if file.is_file())
    labels = _bids_labels(weights)
    parts: dict = {
        "weights": _bids_matrix(weights, labels),
        "lengths": _bids_matrix(distances, labels),
        "labels": labels,
    }
    sidecar = distances.with_suffix(".json")
    if sidecar.is_file():
        told = read_json(sidecar).get("Units")
        parts |= {"units": told} if told else {}
    return parts


def _bids_matrix(path: Path, labels: list[str]) -> np.ndarray:
    """A matrix with or without labels; those that it has must be the nodes'."""
    if rows_of(read_text(path), str(path))[:1] and not is_number(rows_of(read_text(path), str(path))[0][-1]):
        matrix, own = read_labelled_matrix(path)
        if own != labels:
            raise InputError(f"{path}: the labels are not those of its nodes, or in another order")
        return matrix
    return read_matrix(path)


def _bids_labels(weights: Path) -> list[str]:
    """Labels of the nodes: where the sidecar points to, or in ``coord`` of the subject or of the data set."""
    root = next((p for p in weights.parents if (p / "dataset_description.json").is_file()), weights.parent.parent)
    candidates: list[Path] = []
    sidecar = weights.with_suffix(".json")
    if sidecar.is_file():
        told = read_json(sidecar).get("CoordsRows") or []
        for name in [told] if isinstance(told, str) else told:
            file = (weights.parent / str(name)).with_suffix(".tsv").resolve()
            if not file.is_relative_to(root.resolve()):
                raise InputError(f"{sidecar} points to {name}, outside the data set")
            candidates.append(file)
    for folder in (weights.parent.parent, root):
        for kind in ("labels", "nodes"):
            candidates += sorted((folder / "coord").glob(f"*_{kind}.tsv"))
    for file in candidates:
        if file.is_file():
            rows = rows_of(read_text(file), str(file))
            if rows and rows[0][0].lower() in ("label", "labels", "name", "region"):
                rows = rows[1:]
            if rows and not all(is_number(cell) for cell in rows[0]):
                return [row[0] for row in rows]
    raise InputError(
        f"{weights} has no labels: there is no coord/*_labels.tsv beside {weights.parent.name} or in the data set"
    )

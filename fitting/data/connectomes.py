"""Connectomes from files: arrays, labelled tables, The Virtual Brain's ZIP and BIDS folders."""

from __future__ import annotations

import bz2
import re
import zipfile
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
import xarray as xr

from fitting.data.arrays import LARGEST, check_size, existing, one_of, read_arrays, text_of, texts
from fitting.data.netcdf import read_dataset
from fitting.data.objects import connectome
from fitting.data.tables import (
    field,
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
HEMISPHERES = ("hemispheres", "hemisphere")
UNITS = ("units", "length_units")
#: The Virtual Brain's files.
TVB = ("weights", *LENGTHS, *CENTRES[:2], *HEMISPHERES)

#: Headings of a column of labels in BIDS.
BIDS_LABELS = ("label", "labels", "name", "names", "region", "regions")

#: How people write hemispheres; The Virtual Brain's flag is true on the right.
SIDES = {
    **dict.fromkeys(("l", "lh", "left", "0", "0.0", "false"), "L"),
    **dict.fromkeys(("r", "rh", "right", "1", "1.0", "true"), "R"),
    "": "",
}

#: A human brain's longest fibre is longer than this, in mm, if at least so many regions are in both hemispheres.
SHORTEST_LONGEST, SEVERAL = 50.0, 20


def read_connectome(
    path: str | Path, *, units: str = "mm", atlas: str = "", lengths: str = "fibres", round_off: bool = False
) -> xr.Dataset:
    """A connectome from a file or a folder.

    Parameters
    ----------
    path : path
        - ``.npz``, ``.mat``, ``.h5``: the arrays ``weights``, ``lengths`` and ``labels``, and ``centres`` if known
          (other common names are understood), with ``hemispheres``, ``atlas`` and ``units`` where they are stored; the
          attribute ``units`` of lengths in HDF5 counts too;
        - ``.nc``: the variables ``weights`` and ``lengths``, as this package's connectomes are stored by xarray;
        - ``.zip``, or a folder: The Virtual Brain's ``weights.txt``, ``tract_lengths.txt``, ``centres.txt`` and
          ``hemispheres.txt``;
        - a folder with ``weights`` and ``lengths`` as CSV or TSV with labels in the first row and column;
        - a folder in BIDS' layout for computational models (BEP034): ``net/*_weights.tsv``, ``net/*_distances.tsv``
          and ``coord/*_labels.tsv``.

        Rows are targets and columns sources in all of them.
    units : str
        Of the lengths, where the file does not say (``units``, ``length_units``; in JSON beside a table):
        ``"mm"``, ``"cm"`` or ``"m"``.
    atlas, round_off : str, bool
        See :func:`fitting.data.connectome`.
    lengths : {"fibres", "centres"}
        Those of the file, or straight lines between the centres that it holds.

    Returns
    -------
    Dataset

    Raises
    ------
    InputError
        If it is missing or damaged, a part is missing, or a part is wrong; if lengths of unstated unit cannot be in mm.
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
    if lengths not in ("fibres", "centres"):
        raise InputError(f"lengths are those of 'fibres' or straight lines between 'centres'; got {lengths!r}")
    if lengths == "centres" and "centres" not in parts:
        raise InputError(f"{path} holds no centres of regions, between which straight lines could be drawn")
    if lengths == "fibres" and "lengths" not in parts:
        instead = "; it has centres: lengths='centres' takes straight lines between them" if "centres" in parts else ""
        raise InputError(f"{path} lacks lengths{instead}")
    where, told = parts.get("units", ("", ""))
    if told and units not in ("mm", told):
        raise InputError(f"{where} is {told!r}, not {units!r}; leave the unit of lengths to the file, or correct it")
    fibres = None
    if lengths == "fibres":
        fibres = _in_mm(parts["lengths"], told or units, where if told else f"{path}: the unit of lengths")
    try:
        result = connectome(
            parts["weights"],
            fibres,
            parts["labels"],
            atlas=atlas or parts.get("atlas", ""),
            provenance=path.name,
            centres=parts.get("centres"),
            hemispheres=parts.get("hemispheres"),
            round_off=round_off,
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    longest = float(result["lengths"].values[result["weights"].values > 0].max(initial=0.0))
    both = {"L", "R"} <= set(result["hemisphere"].values.tolist())
    if not told and both and result.sizes["target"] >= SEVERAL and longest < SHORTEST_LONGEST:
        raise InputError(
            f"{path}: the longest connection of {result.sizes['target']} regions in both hemispheres would be "
            f"{longest:g} mm; are the lengths in cm? Say so (data.length_units=cm, or units='cm' in the file), or "
            f"store units='mm' if they are in mm"
        )
    return result


def _in_mm(lengths, unit: str, what: str) -> np.ndarray:
    lengths = np.asarray(lengths)
    if unit not in ("mm", "cm", "m"):
        raise InputError(f"{what} is an unknown unit {unit!r}; lengths are in mm, cm or m")
    return lengths if unit == "mm" or lengths.dtype.kind not in "fiu" else lengths * magnitude(f"1 {unit}", "mm")


def unit_of(arrays: Mapping[str, np.ndarray], path: Path, names: Iterable[str]) -> tuple[str, str]:
    """Where a file of arrays says a unit, by any of some names or a dataset's attribute, and the unit."""
    held = [name for name in names if name in arrays]
    return f"{path}: {', '.join(held)}", text_of(arrays, held, str(path))


def sidecar_unit(path: Path) -> tuple[str, str]:
    """Where the JSON file beside a table says its unit, and the unit; empty if it does not."""
    sidecar = path.with_suffix(".json")
    key, unit = field(read_json(sidecar), UNITS, sidecar) if sidecar.is_file() else ("", "")
    return f"{sidecar}: {key}", unit


def hemispheres_of(values, what: str) -> list[str]:
    """Hemispheres as ``"L"``, ``"R"`` or ``""``, however they are written."""
    told = texts(values, what)
    sides = [SIDES.get(value.strip().lower()) for value in told]
    if None in sides:
        raise InputError(f"{what} must hold 1 for right and 0 for left, or L and R; got {told[sides.index(None)]!r}")
    return [side or "" for side in sides]


def _arrays(path: Path) -> dict:
    kinds = {
        "weights": WEIGHTS,
        "lengths": LENGTHS,
        "labels": LABELS,
        "centres": CENTRES,
        "hemispheres": HEMISPHERES,
    }
    arrays, present = read_arrays(path, (*sum(kinds.values(), ()), *UNITS, "atlas"))
    held = {part: one_of(arrays, names, path) for part, names in kinds.items()}
    parts: dict = {part: array for part, array in held.items() if array is not None}
    # Lengths may follow from centres.
    needed = ("weights", "labels") if "centres" in parts else ("weights", "lengths", "labels")
    missing = [part for part in needed if part not in parts]
    if missing:
        instead = ", or centres, between which lengths can be drawn" if "lengths" in missing else ""
        raise InputError(f"{path} lacks {', '.join(missing)}{instead}; it holds {', '.join(present) or 'nothing'}")
    parts["labels"] = texts(parts["labels"], f"{path}: labels")
    if "hemispheres" in parts:
        parts["hemispheres"] = hemispheres_of(parts["hemispheres"], f"{path}: hemispheres")
    parts["units"] = unit_of(arrays, path, (*UNITS, *(f"{name}.units" for name in LENGTHS)))
    parts["atlas"] = text_of(arrays, ("atlas",), str(path))
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
    rows, columns = (texts(weights[dim].values, f"{path}: {dim}") for dim in weights.dims)
    if rows != columns:
        raise InputError(f"{path}: targets and sources must have the same labels in the same order")
    if set(lengths.dims) != set(weights.dims):
        raise InputError(f"{path}: lengths have the dimensions {lengths.dims}, weights {weights.dims}")
    parts = {"weights": weights.values, "lengths": lengths.transpose(*weights.dims).values, "labels": rows}
    said = {name: lengths.attrs[name] for name in UNITS if name in lengths.attrs}
    said |= {f"{name} of all": dataset.attrs[name] for name in UNITS[1:] if name in dataset.attrs}
    parts["units"] = unit_of({name: np.asarray(value) for name, value in said.items()}, path, said)
    parts["atlas"] = str(dataset.attrs.get("atlas", ""))
    parts |= {"centres": dataset["centres"].values} if "centres" in dataset else {}
    return parts | hemispheres_in(dataset, weights.dims, path)


def hemispheres_in(dataset: xr.Dataset, dims: Iterable[Hashable], path: Path) -> dict[str, list[str]]:
    """The hemispheres that a netCDF file has beside the labels of one of its dimensions."""
    held = [name for name in HEMISPHERES if name in dataset.variables]
    if not held:
        return {}
    sides = dataset[held[0]]
    if len(held) > 1 or sides.ndim != 1 or sides.dims[0] not in dims:
        raise InputError(f"{path}: {' and '.join(held)} must have one value per region; got {dict(sides.sizes)}")
    return {"hemispheres": hemispheres_of(sides.values, f"{path}: {held[0]}")}


def _tvb_zip(path: Path) -> dict:
    files: dict[str, str] = {}
    others: list[str] = []
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
                if name not in TVB:
                    others.append(f"{name}.txt")
                    continue
                if name in files:
                    raise InputError(f"{path} holds two files called {name}.txt")
                data = archive.read(entry)
                files[name] = (_unpack(data) if entry.filename.lower().endswith(".bz2") else data).decode("utf-8-sig")
    except InputError:
        raise
    except Exception as error:  # zipfile, zlib and bz2 raise many types for damaged files
        raise InputError(f"{path} is not a readable ZIP file: {error or type(error).__name__}") from None
    return _tvb(files, path, others)


def _unpack(data: bytes) -> bytes:
    unpacker = bz2.BZ2Decompressor()
    text = unpacker.decompress(data, max_length=LARGEST // 4)
    if not unpacker.eof:
        raise InputError("a packed file is cut off, or unpacks to more than is read")
    return text


def _tvb(files: Mapping[str, str], path: Path, others: Iterable[str] = ()) -> dict:
    """The Virtual Brain's connectivity: see its documentation of ``tvb.datatypes.connectivity``."""
    texts: dict[str, str] = {}
    kinds = {"weights": WEIGHTS[:1], "tract_lengths": LENGTHS, "centres": CENTRES[:2], "hemispheres": HEMISPHERES}
    for part, names in kinds.items():
        held = [name for name in names if name in files]
        if len(held) > 1:
            raise InputError(f"{path} holds {' and '.join(f'{n}.txt' for n in held)}; which is meant cannot be told")
        if held:
            texts[part] = files[held[0]]
    missing = [f"{part}.txt" for part in ("weights", "centres") if part not in texts]
    if missing:
        present = [*(f"{name}.txt" for name in files), *others]
        raise InputError(f"{path} lacks {', '.join(missing)}; it holds {', '.join(present) or 'nothing'}")
    cells = {part: rows_of(text, f"{path}: {part}.txt") for part, text in texts.items()}
    if not all(len(row) == 4 for row in cells["centres"]):
        raise InputError(f"{path}: every line of centres.txt must hold a label and three coordinates")
    parts: dict = {
        "weights": numbers_of(cells["weights"], f"{path}: weights.txt"),
        "labels": [row[0] for row in cells["centres"]],
        "centres": numbers_of([row[1:] for row in cells["centres"]], f"{path}: centres.txt"),
    }
    if "tract_lengths" in cells:
        parts["lengths"] = numbers_of(cells["tract_lengths"], f"{path}: tract_lengths.txt")
    if "hemispheres" in cells:
        flags = [cell for row in cells["hemispheres"] for cell in row]
        parts["hemispheres"] = hemispheres_of(flags, f"{path}: hemispheres.txt")
    return parts


def _folder(path: Path) -> dict:
    files = {file.name.lower(): file for file in sorted(path.iterdir()) if file.is_file()}
    if "weights.txt" in files:
        return _tvb({name: read_text(files[f"{name}.txt"]) for name in TVB if f"{name}.txt" in files}, path)
    for suffix in (".csv", ".tsv"):
        if f"weights{suffix}" in files:
            weights, labels = read_labelled_matrix(files[f"weights{suffix}"])
            held = [files[f"{name}{suffix}"] for name in LENGTHS if f"{name}{suffix}" in files]
            if not held:
                raise InputError(f"{path} has weights{suffix} but no lengths{suffix}")
            if len(held) > 1:
                raise InputError(f"{path} holds {' and '.join(f.name for f in held)}; which is meant cannot be told")
            other = held[0]
            lengths, rows = read_labelled_matrix(other)
            if rows != labels:
                raise InputError(
                    f"{path}: weights{suffix} and {other.name} must have the same labels in the same order"
                )
            return {"weights": weights, "lengths": lengths, "labels": labels, "units": sidecar_unit(other)}
    return _bids(path)


def _bids(path: Path) -> dict:
    files = sorted(file for file in path.rglob("*_weights.tsv") if file.parent.name == "net")
    if not files:
        raise InputError(
            f"{path} holds no connectome: neither weights.txt (The Virtual Brain), nor weights.csv, nor "
            f"net/*_weights.tsv (BIDS)"
        )
    if len(files) > 1:
        some = ", ".join(str(file.relative_to(path)) for file in files[:4])
        raise InputError(f"{path} holds {len(files)} connectomes ({some}, ...); name the folder of one of them")
    weights = files[0]
    stem = weights.name.removesuffix("_weights.tsv")
    lengths = [weights.with_name(f"{stem}_{name}.tsv") for name in ("distances", "lengths", "tract_lengths")]
    if not any(file.is_file() for file in lengths):
        raise InputError(f"{weights} has no {lengths[0].name} beside it")
    held = [file for file in lengths if file.is_file()]
    if len(held) > 1:
        raise InputError(f"{weights.parent} holds {' and '.join(f.name for f in held)}; which is meant cannot be told")
    distances = held[0]
    root = next((p for p in weights.parents if (p / "dataset_description.json").is_file()), weights.parent.parent)
    labels = _bids_labels(weights, root)
    own = _bids_pointed(distances, root)
    if own and own != labels:
        raise InputError(f"{distances.with_suffix('.json')} points to other labels than those of {weights.name}")
    return {
        "weights": _bids_matrix(weights, labels),
        "lengths": _bids_matrix(distances, labels),
        "labels": labels,
        "units": sidecar_unit(distances),
    }


def _bids_matrix(path: Path, labels: list[str]) -> np.ndarray:
    """A matrix with or without labels; those that it has must be the nodes'."""
    if rows_of(read_text(path), str(path))[:1] and not is_number(rows_of(read_text(path), str(path))[0][-1]):
        matrix, own = read_labelled_matrix(path)
        if own != labels:
            raise InputError(f"{path}: the labels are not those of its nodes, or in another order")
        return matrix
    return read_matrix(path)


def _bids_labels(weights: Path, root: Path) -> list[str]:
    """Labels of the nodes: where the sidecar points to, or else in ``coord`` of the subject or of the data set."""
    pointed = _bids_pointed(weights, root)
    if pointed:
        return pointed
    for folder in (weights.parent.parent, root):
        for kind in ("labels", "nodes"):
            tables = {file: _bids_table(file) for file in sorted((folder / "coord").glob(f"*_{kind}.tsv"))}
            named = {file: labels for file, labels in tables.items() if labels}
            if len(named) > 1:
                raise InputError(
                    f"{weights} has no CoordsRows beside it that tell which of {', '.join(f.name for f in named)} "
                    f"names its regions; name that file in {weights.with_suffix('.json').name}"
                )
            if named:
                return next(iter(named.values()))
    raise InputError(
        f"{weights} has no labels: there is no coord/*_labels.tsv beside {weights.parent.name} or in the data set"
    )


def _bids_pointed(matrix: Path, root: Path) -> list[str]:
    """Labels to which the fields CoordsRows and CoordsColumns of a matrix's sidecar point; none if it has neither."""
    sidecar = matrix.with_suffix(".json")
    fields = read_json(sidecar) if sidecar.is_file() else {}
    named: dict[str, list[str]] = {}
    for key in ("CoordsRows", "CoordsColumns"):
        names = fields.get(key, [])
        names = [names] if isinstance(names, str) else names
        if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
            raise InputError(f"{sidecar}: {key} must name files of labels; got {fields[key]!r:.60}")
        for name in names:
            labels = _bids_table(_bids_file(name, sidecar, key, root))
            if labels and named.setdefault(key, labels) != labels:
                raise InputError(f"{sidecar}: {key} names files of different labels; name the one that is meant")
        if names and key not in named:
            raise InputError(f"{sidecar}: {key} names {', '.join(names)}, which holds no labels; name a *_labels.json")
    both = list(named.values())
    if both and both[0] != both[-1]:
        raise InputError(
            f"{sidecar}: CoordsRows and CoordsColumns must name the same labels in the same order, because rows and "
            f"columns are the same regions"
        )
    return both[0] if both else []


def _bids_file(name: str, sidecar: Path, key: str, root: Path) -> Path:
    """The table that a pointer means, inside the data set and there."""
    try:
        file = (sidecar.parent / name).with_suffix(".tsv").resolve()
        there = file.is_file()
    except (ValueError, OSError) as error:
        raise InputError(f"{sidecar}: {key} names {name!r:.60}, which is not a path: {error}") from None
    if not file.is_relative_to(root.resolve()):
        raise InputError(f"{sidecar} points to {name}, outside the data set")
    if not there:
        raise InputError(f"{sidecar}: {key} points to {name}, but there is no {file.name}; correct it, or take it out")
    return file


def _bids_table(path: Path) -> list[str]:
    """Labels in a table of nodes; none if it holds coordinates only."""
    rows = [[cell.strip() for cell in line.split("\t")] for line in read_text(path).splitlines() if line.strip()]
    columns = [i for i, cell in enumerate(rows[0]) if cell.lower() in BIDS_LABELS] if rows else []
    rows = rows[1:] if columns else rows
    if not rows or (not columns and all(is_number(cell) for row in rows for cell in row)):
        return []
    ragged = next((row for row in rows if len(row) != len(rows[0]) or len(row) <= max(columns, default=0)), None)
    if ragged is not None:
        raise InputError(f"{path}: the line of {ragged[0]!r} has {len(ragged)} cells; every line must have as many")
    for column in columns or [0]:
        if not any(is_number(row[column]) for row in rows):
            return [row[column] for row in rows]
    raise InputError(
        f"{path} does not tell which column holds the labels: the one taken for them holds numbers. Write a first row "
        f"that calls it name"
    )

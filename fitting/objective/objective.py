"""What a simulation is compared with, and how well it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float

from fitting.errors import InputError
from fitting.signal import Observation, fc_correlation, welch


class Target(NamedTuple):
    """What is to be reproduced.

    Attributes
    ----------
    fc : array (region, region)
        Functional connectivity.
    spectrum : array (frequency, region) or None
        Power spectral density in the model's own units, where there is one.
    seconds : float
        Length of the recording behind it; infinite if unknown.
    """

    fc: Float[Array, "region region"]
    spectrum: Float[Array, "frequency region"] | None = None
    seconds: float = float("inf")


class Terms(NamedTuple):
    """A loss and what it is made of.

    Attributes
    ----------
    loss : array ()
        Weighted sum that a fit makes small.
    fc_correlation : array ()
        Pearson correlation of the upper triangles of simulated and target connectivity.
    spectrum : array ()
        Mean squared difference of log10 power over frequencies and regions (zero if not used).
    """

    loss: Float[Array, ""]
    fc_correlation: Float[Array, ""]
    spectrum: Float[Array, ""]


@dataclass(frozen=True)
class Objective:
    """Weights of the terms that make up the loss.

    ``loss = fc (1 - r) + spectrum mean (log10 P_model - log10 P_target)^2``, where ``r`` is the
    correlation of connectivity matrices and ``P`` the power spectral density of each region.
    Connectivity alone ignores how large the activity is; the spectral term sees it, but only a
    target in the model's own units has one (an MEG recording in tesla has none).

    Parameters
    ----------
    fc, spectrum : float
        Weights.
    spectrum_band : (float, float)
        Frequencies in Hz over which spectra are compared.
    spectrum_window : float
        Welch window in seconds.

    Examples
    --------
    >>> from fitting.objective import Objective
    >>> Objective(spectrum=0.0).fc
    1.0
    """

    fc: float = 1.0
    spectrum: float = 1.0
    spectrum_band: tuple[float, float] = (2.0, 40.0)
    spectrum_window: float = 2.0

    def __post_init__(self):
        if self.fc < 0 or self.spectrum < 0 or self.fc + self.spectrum == 0:
            raise InputError(f"weights must not be negative nor all zero; got fc {self.fc}, spectrum {self.spectrum}")
        low, high = self.spectrum_band
        if not 0 <= low < high:
            raise InputError(f"spectrum_band {self.spectrum_band} Hz is empty")

    def spectra(self, signals: Float[Array, "time region"], fs: float) -> Float[Array, "frequency region"]:
        """Power spectral density over the frequencies that are compared."""
        frequencies, density = welch(signals, fs, self.spectrum_window)
        low, high = self.spectrum_band
        inside = np.flatnonzero((frequencies >= low) & (frequencies <= high))
        if len(inside) == 0:
            raise InputError(f"no frequency of a {self.spectrum_window:g} s window lies in {low:g} to {high:g} Hz")
        return density[inside]

    def target(self, recording: xr.DataArray, observation: Observation) -> Target:
        """Connectivity, and spectra if they are in model units, of a recording.

        Parameters
        ----------
        recording : DataArray (time, region)
            See :mod:`fitting.data.labelled`.
        observation : Observation

        Returns
        -------
        Target
        """
        fs = float(recording.attrs["fs"])
        signals = jnp.asarray(recording.values)
        fc = observation.fc(signals, fs)
        spectrum = None
        if self.spectrum > 0 and recording.attrs.get("units") == "model":
            spectrum = self.spectra(observation.resample(signals, fs), observation.fs)
        return Target(fc, spectrum, recording.sizes["time"] / fs)

    def compare(
        self, signals: Float[Array, "time region"], fs: float, observation: Observation, target: Target
    ) -> tuple[Terms, Float[Array, "region region"]]:
        """Loss of a simulation, and its connectivity.

        Parameters
        ----------
        signals : array (time, region)
            Simulated activity, with its transient.
        fs : float
            Its sampling rate in Hz.
        observation : Observation
        target : Target

        Returns
        -------
        terms : Terms
        fc : array (region, region)
        """
        signals = observation.resample(observation.settled(signals, fs), fs)
        fc = observation.simulated_fc(signals)
        correlation = fc_correlation(fc, target.fc)
        loss = self.fc * (1 - correlation)
        spectrum = jnp.zeros(())
        if self.spectrum > 0 and target.spectrum is not None:
            density = self.spectra(signals, observation.fs)
            tiny = jnp.finfo(density.dtype).tiny
            ratio = jnp.log10(jnp.maximum(density, tiny)) - jnp.log10(jnp.maximum(target.spectrum, tiny))
            spectrum = (ratio**2).mean()
            loss = loss + self.spectrum * spectrum
        return Terms(loss, correlation, spectrum), fc

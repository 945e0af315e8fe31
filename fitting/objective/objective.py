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


def disattenuated_correlation(
    first: Float[Array, "region region"], second: Float[Array, "region region"], target: Float[Array, "region region"]
) -> Float[Array, ""]:
    """Correlation with a target, corrected for the noise that two halves of a simulation do not share.

    Parameters
    ----------
    first, second : array (region, region)
        Connectivity of two halves of one simulation.
    target : array (region, region)

    Returns
    -------
    array ()
        Unbiased by noise in the halves, so it may exceed one by chance. Halves that do not agree
        are taken to share at least a hundredth of their variance.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from fitting.objective import disattenuated_correlation
    >>> a = jnp.array([[0.0, 1.0, 2.0], [1.0, 0.0, 4.0], [2.0, 4.0, 0.0]])
    >>> round(float(disattenuated_correlation(a, a, a)), 4)
    1.0
    """
    upper = np.triu_indices(target.shape[0], 1)
    a, b, t = (m[upper] - m[upper].mean() for m in (first, second, target))
    shared = (a * b).mean()
    total = ((a**2).mean() + (b**2).mean()) / 2
    size = jnp.maximum(shared, total / 100) * (t**2).mean()
    positive = size > 0
    covariance = ((a + b) / 2 * t).mean()
    return jnp.where(positive, covariance / jnp.sqrt(jnp.where(positive, size, 1.0)), 0.0)


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
    disattenuate : bool
        Divide the correlation by the reliability of the simulated connectivity. A simulation of
        seconds has noisy connectivity, and noise lowers a correlation: without the correction the
        best parameters are those that make connectivity strong, not those that make it right. The
        correction compares the two halves of each simulation (see Notes). The reported
        ``fc_correlation`` is never corrected.
    spectrum_band : (float, float)
        Frequencies in Hz over which spectra are compared.
    spectrum_window : float
        Welch window in seconds.

    Notes
    -----
    With connectivity ``m1`` and ``m2`` of two halves of a simulation, ``t`` of the target, and their
    mean ``m``, the corrected correlation is ``cov(m, t) / sqrt(cov(m1, m2) var(t))`` over pairs of
    regions: noise that the halves do not share leaves both covariances unbiased (Spearman, American
    Journal of Psychology 15, 1904, 72-101).

    Examples
    --------
    >>> from fitting.objective import Objective
    >>> Objective(spectrum=0.0).fc
    1.0
    """

    fc: float = 1.0
    spectrum: float = 1.0
    disattenuate: bool = True
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
        if self.disattenuate:
            middle = signals.shape[0] // 2
            first = observation.simulated_fc(signals[:middle])
            second = observation.simulated_fc(signals[middle : 2 * middle])
            fc = (first + second) / 2
            similarity = disattenuated_correlation(first, second, target.fc)
        else:
            fc = observation.simulated_fc(signals)
            similarity = fc_correlation(fc, target.fc)
        correlation = fc_correlation(fc, target.fc)
        loss = self.fc * (1 - similarity)
        spectrum = jnp.zeros(())
        if self.spectrum > 0 and target.spectrum is not None:
            density = self.spectra(signals, observation.fs)
            tiny = jnp.finfo(density.dtype).tiny
            ratio = jnp.log10(jnp.maximum(density, tiny)) - jnp.log10(jnp.maximum(target.spectrum, tiny))
            spectrum = (ratio**2).mean()
            loss = loss + self.spectrum * spectrum
        return Terms(loss, correlation, spectrum), fc

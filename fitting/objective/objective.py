"""What a simulation is compared with, and how well it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Bool, Float

from fitting.data import good_pieces
from fitting.errors import InputError
from fitting.signal import Observation, fc_correlation, upper_pairs, welch


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
    pairs : array of bool (region, region) or None
        Symmetric: the pairs of regions that a fit may see; all unless given. See :meth:`split`.
    """

    fc: Float[Array, "region region"]
    spectrum: Float[Array, "frequency region"] | None = None
    seconds: float = float("inf")
    pairs: Bool[np.ndarray, "region region"] | None = None

    def check_regions(self, regions: int):
        """Refuse a target whose regions cannot be those of a network."""
        if self.fc.shape != (regions, regions):
            raise InputError(
                f"the target has {self.fc.shape[0]} regions and the network {regions}; "
                f"match them by label first (fitting.data.match)"
            )

    def split(self, fraction: float, seed: int, by: str = "pairs") -> Target:
        """The same target, of which a fit sees a random part of the pairs; the others are held out.

        Parameters
        ----------
        fraction : float
            Share that a fit sees.
        seed : int
        by : str
            Of what: ``"pairs"``, or ``"regions"``; then every pair with one of the other regions is held out.
        """
        if not 0 < fraction < 1:
            raise InputError(f"the fraction of {by} to fit must lie between 0 and 1; got {fraction}")
        regions = self.fc.shape[0]
        rng = np.random.default_rng(seed)
        if by == "regions":
            kept = np.zeros(regions, bool)
            kept[rng.permutation(regions)[: round(fraction * regions)]] = True
            if kept.sum() < 3:
                raise InputError(f"{fraction:g} of {regions} regions leaves {kept.sum()} to fit; 3 are needed")
            return self._replace(pairs=np.outer(kept, kept) & ~np.eye(regions, dtype=bool))
        if by != "pairs":
            raise InputError(f"a target is split by pairs or by regions; got {by!r}")
        upper = np.triu_indices(regions, 1)
        order = rng.permutation(len(upper[0]))
        seen = np.zeros((regions, regions), bool)
        chosen = order[: round(fraction * len(order))]
        seen[upper[0][chosen], upper[1][chosen]] = True
        return self._replace(pairs=seen | seen.T)

    @property
    def held_out(self) -> Bool[np.ndarray, "region region"] | None:
        """Pairs that a fit must not see; None if it sees all."""
        return None if self.pairs is None else ~self.pairs & ~np.eye(len(self.pairs), dtype=bool)


class Terms(NamedTuple):
    """A loss and what it is made of.

    Attributes
    ----------
    loss : array ()
        Weighted sum that a fit makes small.
    fc_correlation : array ()
        Pearson correlation of simulated and target connectivity, over the pairs that the fit may see.
    spectrum : array ()
        Mean squared difference of log10 power over frequencies and regions (zero if not used).
    """

    loss: Float[Array, ""]
    fc_correlation: Float[Array, ""]
    spectrum: Float[Array, ""]


def disattenuated_correlation(
    first: Float[Array, "region region"],
    second: Float[Array, "region region"],
    target: Float[Array, "region region"],
    pairs: Bool[np.ndarray, "region region"] | None = None,
) -> Float[Array, ""]:
    """Correlation with a target, corrected for the noise that two halves of a simulation do not share.

    Parameters
    ----------
    first, second : array (region, region)
        Connectivity of two halves of one simulation.
    target : array (region, region)
    pairs : array of bool (region, region), optional
        Pairs to compare; all unless given.

    Returns
    -------
    array ()
        Unbiased by noise in the halves, so it may exceed one by chance. Halves that do not agree
        are taken to share at least a quarter of their variance: the correction at most doubles a correlation, so
        that no candidate can win by halves that disagree.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from fitting.objective import disattenuated_correlation
    >>> a = jnp.array([[0.0, 1.0, 2.0], [1.0, 0.0, 4.0], [2.0, 4.0, 0.0]])
    >>> round(float(disattenuated_correlation(a, a, a)), 4)
    1.0
    """
    upper = upper_pairs(target.shape[0], pairs)
    a, b, t = (m[upper] - m[upper].mean() for m in (first, second, target))
    shared = (a * b).mean()
    total = ((a**2).mean() + (b**2).mean()) / 2
    size = jnp.maximum(shared, total / 4) * (t**2).mean()
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
        Weights. Spectra of short simulations scatter far less than connectivity does, whose noise would decide the
        parameters if both counted alike.
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
    spectrum: float = 3.0
    disattenuate: bool = True
    spectrum_band: tuple[float, float] = (2.0, 40.0)
    spectrum_window: float = 2.0

    def __post_init__(self):
        if self.fc < 0 or self.spectrum < 0 or self.fc + self.spectrum == 0:
            raise InputError(f"weights must not be negative nor all zero; got fc {self.fc}, spectrum {self.spectrum}")
        low, high = self.spectrum_band
        if not 0 <= low < high:
            raise InputError(f"spectrum_band {self.spectrum_band} Hz is empty")
        if not self.spectrum_window > 0:
            raise InputError(f"spectrum_window must be positive; got {self.spectrum_window:g} s")

    def spectra(self, signals: Float[Array, "time region"], fs: float) -> Float[Array, "frequency region"]:
        """Power spectral density over the frequencies that are compared."""
        frequencies, density = welch(signals, fs, self.spectrum_window)
        low, high = self.spectrum_band
        inside = np.flatnonzero((frequencies >= low) & (frequencies <= high))
        if len(inside) == 0:
            raise InputError(f"no frequency of a {self.spectrum_window:g} s window lies in {low:g} to {high:g} Hz")
        return density[inside]

    def target(self, recording: xr.DataArray | Sequence[xr.DataArray], observation: Observation) -> Target:
        """Connectivity, and spectra if they are in model units, of a recording, or of several.

        Every stretch between bad segments is processed by itself, and stretches shorter than
        :attr:`fitting.signal.Observation.shortest` are left out (see :func:`fitting.data.good_pieces`). Stretches and
        runs of a subject are averaged by their length; subjects count alike.

        Parameters
        ----------
        recording : DataArray (time, region), or several
            See :mod:`fitting.data.labelled`; several must have the same regions in the same order.
        observation : Observation

        Returns
        -------
        Target

        Raises
        ------
        InputError
            If there is none, regions differ, or nothing is left of one.
        """
        recordings = [recording] if isinstance(recording, xr.DataArray) else list(recording)
        if not recordings:
            raise InputError("a target needs at least one recording")
        pieces = []
        for one in recordings:
            if one["region"].values.tolist() != recordings[0]["region"].values.tolist():
                raise InputError("recordings must have the same regions in the same order; match them first")
            pieces += good_pieces(one, observation.shortest)[0]
        for piece in pieces:
            # A constant has no envelope: what is computed of it is rounding.
            spread, size = np.ptp(piece.values, axis=0), np.abs(piece.values).max(axis=0)
            still = piece["region"].values[spread <= 1e-9 * size]
            if len(still):
                raise InputError(
                    f"the recording {piece.attrs.get('provenance', '')} is constant in {', '.join(still)}, so that it "
                    f"has no connectivity there; leave these regions out of the recording and of the connectome"
                )
        subjects = [str(piece.attrs.get("subject", "")) for piece in pieces]
        seconds = np.array([piece.sizes["time"] / float(piece.attrs["fs"]) for piece in pieces])
        totals = {subject: sum(seconds[[s == subject for s in subjects]]) for subject in subjects}
        shares = [t / totals[s] / len(totals) for s, t in zip(subjects, seconds, strict=True)]

        def mean(function):
            values = [function(jnp.asarray(piece.values), float(piece.attrs["fs"])) for piece in pieces]
            return sum((share * value for share, value in zip(shares, values, strict=True)), jnp.zeros(()))

        spectrum = None
        if self.spectrum > 0 and all(piece.attrs.get("units") == "model" for piece in pieces):
            spectrum = mean(lambda x, fs: self.spectra(observation.resample(x, fs), observation.fs))
        return Target(mean(observation.fc), spectrum, float(seconds.sum()))

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
            similarity = disattenuated_correlation(first, second, target.fc, target.pairs)
        else:
            fc = observation.simulated_fc(signals)
            similarity = fc_correlation(fc, target.fc, target.pairs)
        correlation = fc_correlation(fc, target.fc, target.pairs)
        spectrum = jnp.zeros(())
        if self.sees_spectra(target) and target.spectrum is not None:
            spectrum = self.spectral_distance(self.spectra(signals, observation.fs), target.spectrum)
        return Terms(self.fc * (1 - similarity) + self.spectrum * spectrum, correlation, spectrum), fc

    def sees_spectra(self, target: Target) -> bool:
        """Whether spectra of that target are part of the loss."""
        return self.spectrum > 0 and target.spectrum is not None

    def frequencies(self, fs: float) -> Float[np.ndarray, " frequency"]:
        """Frequencies in Hz at which spectra of signals at ``fs`` Hz are compared."""
        length = round(self.spectrum_window * fs)
        every = np.fft.rfftfreq(length, 1 / fs)
        return every[(every >= self.spectrum_band[0]) & (every <= self.spectrum_band[1])]

    @staticmethod
    def spectral_distance(
        density: Float[Array, "frequency region"], target: Float[Array, "frequency region"]
    ) -> Float[Array, ""]:
        """Mean squared difference of log10 power."""
        tiny = jnp.finfo(density.dtype).tiny
        ratio = jnp.log10(jnp.maximum(density, tiny)) - jnp.log10(jnp.maximum(target, tiny))
        return (ratio**2).mean()

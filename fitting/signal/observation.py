"""How a signal becomes connectivity: one description for recording and simulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import scipy.signal
import xarray as xr
from jaxtyping import Array, Float, Num

from fitting.errors import InputError
from fitting.signal.checks import check_band, check_cutoff, check_orthogonalization, check_rate, check_signals
from fitting.signal.connectivity import envelope_fc
from fitting.signal.leakage import mix
from fitting.signal.spectral import resample, welch
from fitting.signal.zero_phase import FILTERS, ZeroPhase, zero_phase_band_pass, zero_phase_low_pass


@dataclass(frozen=True, eq=False)
class Observation:
    """The processing that both a recording and a simulation go through.

    Parameters
    ----------
    fs : float
        Rate in Hz to which signals are resampled first.
    band : (float, float)
        Pass band in Hz.
    filter : str
        ``"butterworth"``, or ``"fir"`` for the finite impulse responses of MNE, whose transition bands are wide: its
        low-pass at 0.2 Hz is -6 dB at 1.2 Hz (:func:`fitting.signal.fir_taps`).
    order : int
        Butterworth order of the band-pass and low-pass filters.
    low_pass : float, optional
        Cut-off in Hz of the filter on envelopes.
    orthogonalize : bool or str
        Orthogonalise signals: ``True`` or ``"pairwise"``, or ``"symmetric"`` (recordings only).
    orthogonalize_simulation : bool, optional
        Another choice for simulations, which have no field spread; the same unless set. Must be set
        where recordings are orthogonalised symmetrically.
    mixing : DataArray (region, other), optional
        What reconstruction from sensors makes of the regions' activity: row i holds what the estimate in region i
        has of every source. Applied to simulations, and to recordings that are simulated; measured ones are mixed.
        From :func:`fitting.data.read_mixing`, with the regions of the network in their order
        (:func:`fitting.data.match`).
    transient : float
        Seconds dropped from the start of a simulation.
    trim : float
        Seconds dropped from both ends of the envelopes, where filters start and end.
    log, absolute, standardize : bool
        See :func:`fitting.signal.envelope_fc`.
    envelope_fs : float, optional
        Rate in Hz to which envelopes are resampled.
    spectrum_band : (float, float)
        Frequencies in Hz at which power spectra are looked at.
    spectrum_window : float
        Welch window in seconds.

    Raises
    ------
    InputError
        If the band or a cut-off reaches the Nyquist frequency, or a duration is negative.

    Examples
    --------
    >>> from fitting.signal import Observation
    >>> print(Observation(fs=100.0, band=(8.0, 12.0), low_pass=1.0))
    100 Hz, band 8-12 Hz (Butterworth 3, zero phase), orthogonalised envelopes, low-pass 1 Hz, trim 1 s, transient 2 s
    """

    fs: float = 100.0
    band: tuple[float, float] = (8.0, 12.0)
    filter: str = "butterworth"
    order: int = 3
    low_pass: float | None = None
    orthogonalize: bool | str = True
    orthogonalize_simulation: bool | None = None
    mixing: xr.DataArray | None = None
    transient: float = 2.0
    trim: float = 1.0
    log: bool = False
    absolute: bool = False
    standardize: bool = False
    envelope_fs: float | None = None
    spectrum_band: tuple[float, float] = (2.0, 40.0)
    spectrum_window: float = 2.0

    def __post_init__(self):
        check_rate(self.fs)
        object.__setattr__(self, "band", check_band(self.band, self.fs))
        if self.low_pass is not None:
            check_cutoff(self.low_pass, self.fs)
        if self.filter not in FILTERS:
            raise InputError(f"unknown filter {self.filter!r}; choose from {', '.join(FILTERS)}")
        check_orthogonalization(self.orthogonalize)
        if self.orthogonalize == "symmetric" and self.orthogonalize_simulation is None:
            raise InputError(
                "symmetric orthogonalisation is for recordings; set orthogonalize_simulation to false (simulations "
                "have no field spread) or true (pairwise)"
            )
        for name in ("transient", "trim"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} must not be negative; got {getattr(self, name)} s")
        low, high = self.spectrum_band
        if not 0 <= low < high:
            raise InputError(f"spectrum_band {self.spectrum_band} Hz is empty")
        if not self.spectrum_window > 0:
            raise InputError(f"spectrum_window must be positive; got {self.spectrum_window:g} s")
        object.__setattr__(self, "spectrum_band", (float(low), float(high)))

    def check_regions(self, labels: Sequence[str]):
        """Refuse to mix other regions than these, or these in another order."""
        if self.mixing is None:
            return
        for name in ("region", "other"):
            mixed = [str(label) for label in self.mixing[name].values]
            if mixed != list(labels):
                raise InputError(
                    f"mixing is of {len(mixed)} regions ({', '.join(mixed[:3])}, ...), the network of {len(labels)} "
                    f"({', '.join(labels[:3])}, ...); match it to the network's labels (fitting.data.match)"
                )

    def mixed(self, x: Num[Array, "*series source"]) -> Num[Array, "*series region"]:
        """Activity of regions as reconstruction from sensors gives it; as it is without ``mixing``."""
        return x if self.mixing is None else mix(x, self.mixing.values)

    @property
    def shortest(self) -> float:
        """Shortest stretch of a recording, in s, that tells anything.

        Both trims, and two periods of the slowest filter: of the envelopes' low-pass or, without one, of the band's
        width; a second at least.
        """
        slowest = self.low_pass if self.low_pass is not None else self.band[1] - self.band[0]
        return 2 * self.trim + max(2 / slowest, 1.0)

    def resample(self, x: Float[Array, "time region"], fs: float) -> Float[Array, "samples region"]:
        """Signals at this observation's rate.

        Raises
        ------
        InputError
            If the signals' own rate is too low for the band.
        """
        check_signals(x)
        check_rate(fs)
        if fs == self.fs:
            return x
        if self.band[1] >= fs / 2:
            raise InputError(
                f"signals at {fs:g} Hz hold nothing above {fs / 2:g} Hz, but the band reaches {self.band[1]:g} Hz"
                f"{'. A clock must be in s' if fs < 1 else ''}"
            )
        return resample(x, round(x.shape[0] * self.fs / fs), axis=0)

    def fc(self, x: Float[Array, "time region"], fs: float, simulated: bool = False) -> Float[Array, "region region"]:
        """Envelope connectivity of signals sampled at ``fs`` Hz.

        Parameters
        ----------
        x : array (time, region)
        fs : float
            Sampling rate in Hz.
        simulated : bool
            Whether this is a simulation: it is mixed, its transient is dropped, and it may be orthogonalised
            differently.

        Returns
        -------
        array (region, region)
        """
        if simulated:
            return self.simulated_fc(self.mixed(self.resample(self.settled(x, fs), fs)))
        return self._fc(self.resample(x, fs), self.orthogonalize)

    def simulated_fc(self, x: Float[Array, "time region"]) -> Float[Array, "region region"]:
        """Envelope connectivity of a simulation without its transient, mixed, already at this observation's rate."""
        return self._fc(x, self.orthogonalizes_simulation)

    @property
    def frequencies(self) -> Float[np.ndarray, " frequency"]:
        """Frequencies in Hz of :meth:`spectrum`."""
        low, high = self.spectrum_band
        every = np.fft.rfftfreq(round(self.spectrum_window * self.fs), 1 / self.fs)
        return every[(every >= low) & (every <= high)]

    def spectrum(self, x: Float[Array, "time region"]) -> Float[Array, "frequency region"]:
        """Power spectral density of signals that are already at this observation's rate."""
        frequencies, density = welch(x, self.fs, self.spectrum_window)
        low, high = self.spectrum_band
        inside = np.flatnonzero((frequencies >= low) & (frequencies <= high))
        if len(inside) == 0:
            raise InputError(f"no frequency of a {self.spectrum_window:g} s window lies in {low:g} to {high:g} Hz")
        return density[inside]

    def effective_samples(self, seconds: float) -> float:
        r"""Independent samples of an envelope in so many seconds: :math:`T (\int P)^2 / \int P^2`, Bartlett's formula.

        P is the power spectrum of the envelope's fluctuations: the band's own beats, which are the band's power
        convolved with itself, and of these what a low-pass lets through.
        """
        frequencies = np.linspace(0, self.fs / 2, 20_001)
        band = self.band_pass.gain(frequencies) ** 2
        power = scipy.signal.fftconvolve(band, band[::-1])[len(band) - 1 :]
        if self.low_pass is not None:
            power = power * self.envelope_low_pass.gain(frequencies) ** 2
        width = 2 * power.sum() ** 2 / (power**2).sum() * (frequencies[1] - frequencies[0])
        return float(width * seconds)

    @property
    def orthogonalizes_simulation(self) -> bool | str:
        """What is done to simulations: their own choice, or the recording's."""
        return self.orthogonalize if self.orthogonalize_simulation is None else self.orthogonalize_simulation

    @property
    def band_pass(self) -> ZeroPhase:
        """The filter of signals."""
        return zero_phase_band_pass(self.filter, self.band, self.fs, self.order)

    @property
    def envelope_low_pass(self) -> ZeroPhase:
        """The filter of envelopes, where there is one."""
        return zero_phase_low_pass(self.filter, self.low_pass or self.fs / 4, self.fs, self.order)

    def _fc(self, x, orthogonalize: bool | str):
        return envelope_fc(
            x,
            self.fs,
            self.band,
            self.low_pass,
            self.order,
            orthogonalize,
            log=self.log,
            absolute=self.absolute,
            standardize=self.standardize,
            trim=self.trim,
            envelope_fs=self.envelope_fs,
            filter=self.filter,
        )

    def settled(self, x: Float[Array, "time region"], fs: float) -> Float[Array, "samples region"]:
        """A simulation without its transient."""
        start = round(self.transient * fs)
        if start >= x.shape[0]:
            raise InputError(
                f"the transient of {self.transient:g} s is as long as the simulation of {x.shape[0] / fs:g} s; "
                f"simulate longer or drop less"
            )
        return jnp.asarray(x)[start:]

    def __str__(self):
        low, high = self.band
        kind = f"Butterworth {self.order}, zero phase" if self.filter == "butterworth" else "FIR as MNE's"
        parts = [f"{self.fs:g} Hz", f"band {low:g}-{high:g} Hz ({kind})"]
        how = {True: "orthogonalised", "pairwise": "orthogonalised", "symmetric": "orthogonalised symmetrically"}
        ours, theirs = how.get(self.orthogonalize, "not"), how.get(self.orthogonalizes_simulation, "not")
        if ours == theirs:
            kind = "envelopes" if ours == "not" else f"{ours} envelopes"
        elif ours == "not":
            kind = f"envelopes (simulation {theirs}, recording not)"
        else:
            kind = f"envelopes (recording {ours}, simulation {theirs})"
        if self.mixing is not None:
            kind += f" of simulations mixed as {self.mixing.attrs.get('provenance') or 'given'}"
        parts.append(("log " if self.log else "") + kind)
        if self.low_pass is not None:
            parts.append(f"low-pass {self.low_pass:g} Hz")
        if self.envelope_fs is not None:
            parts.append(f"envelopes at {self.envelope_fs:g} Hz")
        if self.absolute:
            parts.append("absolute correlations")
        parts.append(f"trim {self.trim:g} s, transient {self.transient:g} s")
        return ", ".join(parts)

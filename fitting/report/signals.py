"""Figures of signals: traces, spectra, and how envelopes become connectivity."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from fitting.data import good_pieces
from fitting.errors import InputError
from fitting.report.figures import BLUE, GREY, ORANGE, STYLE, new_figure
from fitting.signal import Observation, analytic_signal, fc_matrix, welch


def region_index(labels: Sequence[str], region: str | None, default: int) -> int:
    """Index of a region by its label; ``default`` if none is named."""
    if region is None:
        return min(default, len(labels) - 1)
    if region not in labels:
        raise InputError(f"no region is called {region!r}; choose from {', '.join(labels)}")
    return list(labels).index(region)


def traces(signals, fs: float, labels: Sequence[str], seconds: float = 5.0) -> Figure:
    """Activity of some regions beside the correlation of the signals as they are.

    Parameters
    ----------
    signals : array (time, region)
    fs : float
        In Hz.
    labels : sequence of str
    seconds : float
        Of the traces.
    """
    signals = np.asarray(signals)
    shown = np.linspace(0, len(labels) - 1, min(6, len(labels))).astype(int)
    part = signals[: max(2, round(seconds * fs)), shown]
    step = 1.2 * float(np.ptp(part, axis=0).max() or 1.0)
    with mpl.rc_context(STYLE):
        figure = new_figure(7.0, 2.9)
        left, right = figure.subplots(1, 2, width_ratios=(1.6, 1))
        time = np.arange(len(part)) / fs
        for row in range(len(shown)):
            left.plot(time, part[:, row] - part[:, row].mean() - row * step, color=BLUE, lw=0.8)
        left.set_yticks(-step * np.arange(len(shown)), [labels[i] for i in shown])
        left.set_xlabel("time (s)")
        plain = np.asarray(fc_matrix(jnp.asarray(signals))).copy()
        np.fill_diagonal(plain, np.nan)
        image = right.imshow(plain, cmap="PuOr_r", vmin=-1, vmax=1, interpolation="nearest")
        right.set_xticks([])
        right.set_yticks([])
        right.set_title("correlation of the signals")
        figure.colorbar(image, ax=right, shrink=0.8)
    return figure


def _envelopes(signals, observation: Observation):
    """Analytic signals in the band, and a function that smooths envelopes, at the observation's rate."""
    how = (observation.fs, observation.band, observation.order, observation.filter)
    z = np.asarray(analytic_signal(jnp.asarray(signals), *how))

    def smooth(envelope):
        if observation.low_pass is None:
            return envelope
        return np.asarray(observation.envelope_low_pass(jnp.asarray(envelope)))

    return z, smooth


def _part(observation: Observation, length: int, seconds: float) -> tuple[slice, np.ndarray]:
    """Samples to show, from where filters have settled, and their times."""
    start = min(round(observation.trim * observation.fs), length // 4)
    stop = min(length, start + max(2, round(seconds * observation.fs)))
    return slice(start, stop), np.arange(start, stop) / observation.fs


def envelope(signals, observation: Observation, labels, region: int, what: str, seconds: float = 10.0) -> Figure:
    """The band-passed signal of a region with its envelope, and the envelope smoothed.

    Parameters
    ----------
    signals : array (time, region)
        At the observation's rate.
    observation : Observation
    labels : sequence of str
    region : int
    what : str
        Whose signals these are.
    seconds : float
    """
    z, smooth = _envelopes(signals, observation)
    part, time = _part(observation, len(z), seconds)
    size = np.abs(z[:, region])
    low, high = observation.band
    with mpl.rc_context(STYLE):
        figure = new_figure(7.0, 2.0)
        ax = figure.subplots()
        ax.plot(time, z.real[part, region], color=GREY, lw=0.6, label=f"{low:g}-{high:g} Hz")
        ax.plot(time, size[part], color=BLUE, lw=1, label="envelope")
        if observation.low_pass is not None:
            ax.plot(time, smooth(size)[part], color=ORANGE, lw=1.5, label=f"envelope below {observation.low_pass:g} Hz")
        ax.set_title(f"{what}: {labels[region]}")
        ax.set_xlabel("time (s)")
        ax.legend(frameon=False, ncols=3, loc="upper right", fontsize=7)
        ax.set_ylim(top=1.5 * float(size[part].max() or 1.0))
    return figure


def raw_and_band(signals, observation: Observation, labels, region: int, what: str, seconds: float = 10.0) -> Figure:
    """The signal of a region as it is, above its band-passed version with the envelope; see :func:`envelope`."""
    signals = np.asarray(signals)
    z, _ = _envelopes(signals, observation)
    part, time = _part(observation, len(z), seconds)
    low, high = observation.band
    with mpl.rc_context(STYLE):
        figure = new_figure(7.0, 2.8)
        above, below = figure.subplots(2, 1, sharex=True)
        above.plot(time, signals[part, region], color=BLUE, lw=0.6)
        above.set_title(f"{what}: {labels[region]}")
        above.set_ylabel("signal")
        below.plot(time, z.real[part, region], color=GREY, lw=0.6)
        below.plot(time, np.abs(z[part, region]), color=BLUE, lw=1)
        below.set_ylabel(f"{low:g}-{high:g} Hz, envelope")
        below.set_xlabel("time (s)")
    return figure


def _orthogonalized(z, reference: int, region: int):
    """The envelope of a region without what is in phase with the reference (Hipp et al. 2012, equation 1)."""
    size = np.abs(z[:, reference])
    unit = np.where(size > 0, z[:, reference].conj() / np.where(size > 0, size, 1.0), 0.0)
    return np.abs((z[:, region] * unit).imag)


def orthogonalization(
    signals, observation: Observation, labels, reference: int, region: int, what: str, seconds: float = 10.0
) -> Figure:
    """A reference region with its envelope, above a region with its envelope and the part that is not in phase."""
    z, _ = _envelopes(signals, observation)
    part, time = _part(observation, len(z), seconds)
    with mpl.rc_context(STYLE):
        figure = new_figure(7.0, 2.8)
        above, below = figure.subplots(2, 1, sharex=True)
        for ax, index in ((above, reference), (below, region)):
            ax.plot(time, z.real[part, index], color=GREY, lw=0.6)
            ax.plot(time, np.abs(z[part, index]), color=BLUE, lw=1, label="envelope")
        above.set_title(f"{what}: reference {labels[reference]}")
        below.set_title(f"{labels[region]}")
        orthogonal = _orthogonalized(z, reference, region)[part]
        below.plot(time, orthogonal, color=ORANGE, lw=1, label="orthogonalised to the reference")
        below.legend(frameon=False, ncols=2, loc="upper right", fontsize=7)
        below.set_ylim(top=1.5 * float(np.abs(z[part, region]).max() or 1.0))
        below.set_xlabel("time (s)")
    return figure


def smoothed_pair(
    signals, observation: Observation, labels, reference: int, region: int, what: str, seconds: float = 60.0
) -> Figure:
    """The two envelopes whose correlation is one entry of the connectivity: smoothed, the second as it is compared.

    It is orthogonalised where ``what``, a ``"recording"`` or a ``"simulation"``, is orthogonalised pairwise.
    """
    z, smooth = _envelopes(signals, observation)
    part, time = _part(observation, len(z), seconds)
    how = observation.orthogonalize if what == "recording" else observation.orthogonalizes_simulation
    pairwise = how in (True, "pairwise")
    second = _orthogonalized(z, reference, region) if pairwise else np.abs(z[:, region])
    first, second = smooth(np.abs(z[:, reference])), smooth(second)
    kept = slice(round(observation.trim * observation.fs), len(z) - round(observation.trim * observation.fs))
    r = float(np.corrcoef(first[kept], second[kept])[0, 1])
    with mpl.rc_context(STYLE):
        figure = new_figure(7.0, 2.0)
        left, right = figure.subplots(1, 2)
        left.plot(time, first[part], color=BLUE, lw=1)
        left.set_title(f"{what}: {labels[reference]}, smoothed envelope")
        right.plot(time, second[part], color=ORANGE, lw=1)
        right.set_title(f"{labels[region]}, {'orthogonalised' if pairwise else 'as it is'}; r = {r:.2f}")
        for ax in (left, right):
            ax.set_xlabel("time (s)")
    return figure


def spectra(
    simulated, observation: Observation, recordings: Sequence[xr.DataArray] = (), window: float = 2.0
) -> Figure:
    """Power of all regions of the simulation, and of the first recording, each relative to its mean over the band."""
    sides = [("fitted model", np.asarray(simulated), observation.fs, ORANGE)]
    if len(recordings):
        piece = good_pieces(recordings[0], observation.shortest)[0][0]
        sides.insert(0, ("recording", piece.values, float(piece.attrs["fs"]), BLUE))
    low, high = observation.band
    with mpl.rc_context(STYLE):
        figure = new_figure(3.6, 2.6)
        ax = figure.subplots()
        for name, signals, fs, color in sides:
            frequencies, density = welch(
                jnp.asarray(signals - np.mean(signals, axis=0)), fs, min(window, len(signals) / fs)
            )
            power = np.asarray(density)
            inside = (frequencies >= low) & (frequencies <= high)
            seen = (frequencies > 0) & (frequencies <= min(60.0, observation.fs / 2))
            scale = float(power[inside].mean()) or 1.0
            middle = np.median(power[seen], axis=1) / scale
            lower, upper = (np.quantile(power[seen], q, axis=1) / scale for q in (0.1, 0.9))
            ax.semilogy(frequencies[seen], middle, color=color, lw=1.2, label=name)
            ax.fill_between(frequencies[seen], lower, upper, color=color, alpha=0.2, lw=0)
        ax.axvspan(low, high, color=GREY, alpha=0.15, lw=0)
        ax.set_xlabel("frequency (Hz); bands: 80 % of the regions")
        ax.set_ylabel("power / mean in the band")
        ax.legend(frameon=False)
    return figure

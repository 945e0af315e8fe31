"""Figures of a fit. Colour-blind-safe, readable at the width of a journal column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure

from fitting.data import good_pieces, lobe_order
from fitting.data.atlas import lobe_of
from fitting.evaluate.nulls import KINDS
from fitting.report.compare import short_names
from fitting.report.summary import ParameterSummary, Summary
from fitting.signal import welch

STYLE: Any = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "savefig.dpi": 200,
    "figure.constrained_layout.use": True,
}
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches in the style of all."""
    with mpl.rc_context(STYLE):
        return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG and as PDF; returns the PNG's path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.set_dpi(200)
    with mpl.rc_context(STYLE):
        # Figure.savefig draws everything twice, for boxes that these figures do not ask for.
        FigureCanvasAgg(figure).print_png(path.with_suffix(".png"))
        # Laid out once for both, which takes as long as drawing.
        figure.set_layout_engine("none")
        FigureCanvasPdf(figure).print_pdf(path.with_suffix(".pdf"))
    return path.with_suffix(".png")


def fc_matrices(target, fitted, labels) -> Figure:
    """Target and fitted connectivity, ordered by hemisphere and lobe: on one scale, and each on its own.

    One scale shows the level, each on its own the pattern.

    Parameters
    ----------
    target, fitted : array (region, region)
    labels : sequence of str
    """
    order = lobe_order(list(labels))
    upper = np.triu_indices(len(order), 1)
    target, fitted = (np.asarray(m)[np.ix_(order, order)].copy() for m in (target, fitted))
    limits = [float(np.percentile(np.abs(m[upper]), 99)) or 1.0 for m in (target, fitted)]
    sides = [label[-1] for label in np.asarray(labels)[order]]
    ticks = [np.mean([i for i, s in enumerate(sides) if s == side]) for side in "LR" if side in sides]
    names = [name for side, name in (("L", "left"), ("R", "right")) if side in sides]
    with mpl.rc_context(STYLE):
        figure = new_figure(7.0, 6.2)
        axes = figure.subplots(2, 2, sharex=True, sharey=True)
        for row, scale in enumerate((2 * [max(limits)], limits)):
            for ax, matrix, limit in zip(axes[row], (target, fitted), scale, strict=True):
                np.fill_diagonal(matrix, np.nan)
                image = ax.imshow(matrix, cmap="PuOr_r", vmin=-limit, vmax=limit, interpolation="nearest")
                ax.set_xticks(ticks, names)
                ax.set_yticks(ticks, names, rotation=90, va="center")
                ax.tick_params(length=0)
                if row:
                    figure.colorbar(image, ax=ax, shrink=0.8, label="envelope correlation, own scale")
            if not row:
                figure.colorbar(image, ax=axes[row], shrink=0.8, label="envelope correlation, one scale")
        axes[0, 0].set_title("target")
        axes[0, 1].set_title("fitted model, mean of fresh seeds")
    return figure


def fc_scatter(target, fitted, r: float) -> Figure:
    """Fitted against target connectivity, one point per pair of regions."""
    upper = np.triu_indices(len(target), 1)
    with mpl.rc_context(STYLE):
        figure = new_figure(3.4, 3.2)
        ax = figure.subplots()
        ax.plot(np.asarray(target)[upper], np.asarray(fitted)[upper], ".", ms=2, alpha=0.4, color=BLUE)
        ax.set_xlabel("target connectivity")
        ax.set_ylabel("fitted model's connectivity,\nmean over fresh seeds")
        ax.set_title(f"r = {r:.3f} over {len(upper[0])} pairs")
    return figure


def convergence(history: Mapping[str, np.ndarray]) -> Figure:
    """Loss, FC correlation and every parameter at each step."""
    names = [name for name in history if name.startswith("parameter_")]
    with mpl.rc_context(STYLE):
        figure = new_figure(7.0, 1.7 * ((len(names) + 3) // 2))
        axes = np.ravel(figure.subplots((len(names) + 3) // 2, 2, sharex=True))
        steps = np.arange(1, len(history["loss"]) + 1)
        for ax, name in zip(axes, ["loss", "fc_correlation", *names], strict=False):
            values = history[name].reshape(len(steps), -1)
            ax.plot(steps, values, color=BLUE, lw=1, marker="." if values.shape[1] == 1 else None, ms=3, alpha=0.8)
            ax.set_ylabel(name.removeprefix("parameter_").replace("_", " "))
        for ax in axes[len(names) + 2 :]:
            ax.set_axis_off()
        for ax in axes[-2:]:
            ax.set_xlabel("step")
            ax.tick_params(labelbottom=True)
    return figure


def parameters(summaries: Mapping[str, ParameterSummary]) -> Figure | None:
    """True against fitted values relative to the truth, with intervals; None without a truth.

    Parameters
    ----------
    summaries : mapping
        The ``parameters`` of a summary.
    """
    rows = {name: p for name, p in summaries.items() if p.true is not None and not isinstance(p.fitted, list)}
    if not rows:
        return None
    with mpl.rc_context(STYLE):
        figure = new_figure(3.6, 0.9 + 0.45 * len(rows))
        ax = figure.subplots()
        for i, p in enumerate(rows.values()):
            true = float(p.true or np.nan)
            ax.plot(p.initial / true, i, "o", mfc="none", color=GREY, label="initial" if i == 0 else None)
            if p.interval:
                ax.plot([v / true for v in p.interval], [i, i], color=ORANGE, lw=2, alpha=0.6)
            ax.plot(p.fitted / true, i, "o", color=ORANGE, label="fitted" if i == 0 else None)
            ax.text(1.02, i, f"{p.fitted:.3g} {'' if p.unit == '1' else p.unit} (true {true:.3g})",
                    transform=ax.get_yaxis_transform(), va="center", fontsize=7)  # fmt: skip
        ax.axvline(1, color="black", lw=0.8, ls="--", label="true")
        ax.set_yticks(range(len(rows)), [name.replace("_", " ") for name in rows])
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set_xlabel("value / true value")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, 1.3), ncols=3, frameon=False, fontsize=7)
    return figure


def scores(summary: Summary, names: Mapping[str, str]) -> Figure:
    """The score on fresh noise beside baselines and nulls, with the noise ceiling; on what was held out, if so.

    Parameters
    ----------
    summary : Summary
    names : mapping
        What to call baselines.
    """
    scores, held_out = summary.fc_correlation, summary.fc_correlation.held_out
    bars: list[tuple[str, float | None, float | None, str]]
    bars = [("fitted model, mean FC", held_out.r if held_out else scores.mean_fc.r, None, ORANGE)]
    if held_out:
        bars.append(("fitted model, as fitted", held_out.own, None, ORANGE))
    else:
        bars.append(("fitted model, single seeds", scores.fresh_seeds.mean, scores.fresh_seeds.sd, ORANGE))
    bars.append(("initial parameters", scores.initial, None, GREY))
    for name, r in summary.nulls.items():
        bars.append((f"sensitivity: {name.replace('_', ' ')}", r, None, GREY))
    for kind, test in summary.surrogates.items():
        bars.append((KINDS.get(kind, kind), test.mean, test.sd, GREY))
    for name, r in (held_out.baselines if held_out else summary.baselines).items():
        bars.append((names.get(name, name), r, None, BLUE))
    with mpl.rc_context(STYLE):
        figure = new_figure(5.4, 0.6 + 0.22 * len(bars))
        ax = figure.subplots()
        for row, (_, value, sd, color) in enumerate(bars):
            value = 0.0 if value is None else value
            ax.barh(row, value, color=color, height=0.75)
            if sd is not None:
                ax.errorbar(value, row, xerr=sd, color="black", capsize=2, lw=1)
        ax.set_yticks(range(len(bars)), [name for name, *_ in bars])
        ax.invert_yaxis()
        ax.axvline(0, color="black", lw=0.8)
        if scores.reliability.data:
            ceiling = scores.reliability.data**0.5
            ax.axvline(ceiling, color="black", lw=0.8, ls="--")
            ax.text(ceiling, -0.75, "noise ceiling", ha="center", fontsize=7)
        ax.set_xlabel(f"FC correlation, {'held-out pairs' if held_out else 'all pairs'}")
    return figure


def comparison(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Scores of several runs, with their intervals; see :func:`fitting.report.read_runs`.

    Parameters
    ----------
    rows : sequence of mapping
    """
    with mpl.rc_context(STYLE):
        figure = new_figure(5.4, 0.7 + 0.24 * len(rows))
        ax = figure.subplots()
        names, short = [], short_names([name for name in rows[0] if "." in name] if rows else [])
        for row, run in enumerate(rows):
            settings = [f"{short[key]}={value}" for key, value in run.items() if key in short]
            # Cut between settings: a value that is cut is another value.
            shown = [", ".join(settings[:n]) for n in range(len(settings), 0, -1)]
            names.append(next((text for text in shown if len(text) <= 60), str(run["run"])[-40:]))
            if run["r"] is None:
                ax.text(0.01, row, run["status"], va="center", fontsize=7, color=GREY)
                continue
            ax.barh(row, run["r"], color=ORANGE, height=0.7)
            if run.get("r_low") is not None:
                ends = [[max(run["r"] - run["r_low"], 0)], [max(run["r_high"] - run["r"], 0)]]
                ax.errorbar(run["r"], row, xerr=ends, color="black", capsize=2, lw=1)
            if run.get("best_baseline") is not None:
                ax.plot([run["best_baseline"]] * 2, [row - 0.4, row + 0.4], color=BLUE, lw=2)
        ax.set_yticks(range(len(rows)), names)
        ax.invert_yaxis()
        ax.axvline(0, color="black", lw=0.8)
        ax.set_xlabel("FC correlation (blue: best baseline)")
    return figure


def regional(maps: Mapping[str, Any], labels) -> Figure:
    """Fitted parameters of every region, ordered by hemisphere and lobe.

    Parameters
    ----------
    maps : mapping
        One DataArray (region) per parameter.
    labels : sequence of str
    """
    order = lobe_order(list(labels))
    lobes = {label: lobe_of(label) or "other" for label in labels}
    groups = [f"{labels[i][-1]} {lobes[labels[i]]}" for i in order]
    edges = [i for i in range(1, len(groups)) if groups[i] != groups[i - 1]]
    with mpl.rc_context(STYLE):
        figure = new_figure(7.0, 1.1 * len(maps) + 0.9)
        axes = np.ravel(figure.subplots(len(maps), 1, sharex=True))
        for ax, (name, values) in zip(axes, maps.items(), strict=True):
            ax.bar(range(len(order)), values.values[order] - values.values.mean(), color=BLUE, width=0.8)
            ax.axhline(0, color="black", lw=0.6)
            unit = values.attrs.get("units", "1")
            title = name.removeprefix("fitted_") + (f"\n({unit})" if unit != "1" else "")
            ax.set_ylabel(title)
            ax.text(0.995, 0.92, f"mean {values.values.mean():.3g}", transform=ax.transAxes, ha="right", fontsize=7)
            for edge in edges:
                ax.axvline(edge - 0.5, color=GREY, lw=0.4, ls=":")
        starts = [0, *edges]
        middles = [(a + b - 1) / 2 for a, b in zip(starts, [*edges, len(groups)], strict=True)]
        axes[-1].set_xticks(middles, [groups[a] for a in starts], rotation=60, ha="right", fontsize=6)
        axes[0].set_title("deviation from the mean over regions")
    return figure


def standardized_difference(target, fitted):
    """Target minus fitted connectivity (region, region), each standardised over pairs, as a correlation does."""
    upper, difference = np.triu_indices(len(target), 1), np.zeros(np.shape(target))
    for sign, matrix in ((1, target), (-1, fitted)):
        values = np.asarray(matrix, float)[upper]
        difference[upper] += sign * (values - values.mean()) / (values.std() or 1.0)
    return difference + difference.T


def residuals(target, fitted, lengths, labels) -> Figure:
    """Where the model fails: target minus fitted connectivity, standardised, by distance and by lobe."""
    upper = np.triu_indices(len(target), 1)
    difference = standardized_difference(target, fitted)[upper]
    lobes = {label: lobe_of(label) or "other" for label in labels}
    names = [lobes[label] for label in labels]
    kinds = sorted(set(names))
    means = np.full((len(kinds), len(kinds)), np.nan)
    kind = np.array([kinds.index(name) for name in names])
    for a in range(len(kinds)):
        for b in range(len(kinds)):
            of = ((kind[upper[0]] == a) & (kind[upper[1]] == b)) | ((kind[upper[0]] == b) & (kind[upper[1]] == a))
            if of.any():
                means[a, b] = difference[of].mean()
    length = np.asarray(lengths, float)[upper]
    edges = np.quantile(length, np.linspace(0, 1, 11))
    bins = np.clip(np.searchsorted(edges, length, side="right") - 1, 0, 9)
    with mpl.rc_context(STYLE):
        figure = new_figure(7.0, 3.2)
        left, right = figure.subplots(1, 2)
        left.plot(length, difference, ".", ms=1.5, alpha=0.25, color=GREY)
        centres = [length[bins == b].mean() for b in range(10) if (bins == b).any()]
        left.plot(centres, [difference[bins == b].mean() for b in range(10) if (bins == b).any()], "o-", color=ORANGE)
        left.axhline(0, color="black", lw=0.6)
        left.set_xlabel("fibre length (mm)")
        left.set_ylabel("target - fitted (standardised)")
        left.set_title("residual by distance, mean of tenths")
        # Of one lobe the mean is zero but for rounding.
        limit = float(np.abs(means[np.isfinite(means)]).max(initial=0.01))
        image = right.imshow(means, cmap="PuOr_r", vmin=-limit, vmax=limit)
        right.set_xticks(range(len(kinds)), kinds, rotation=45, ha="right")
        right.set_yticks(range(len(kinds)), kinds)
        right.set_title("mean residual by lobe")
        figure.colorbar(image, ax=right, shrink=0.8)
    return figure


def profiles(curves: Mapping[str, Any], fitted: Mapping[str, float], level: float) -> Figure:
    """Profile likelihood of each parameter: its deviance along the parameter, and the level of the 95 % interval.

    Parameters
    ----------
    curves : mapping
        One DataArray of deviances per parameter, over a coordinate of the parameter's values.
    fitted : mapping
        Fitted value by parameter.
    level : float
    """
    with mpl.rc_context(STYLE):
        figure = new_figure(max(3.4, 2.3 * len(curves)), 2.4)
        axes = np.ravel(figure.subplots(1, len(curves), sharey=True))
        for ax, (name, curve) in zip(axes, curves.items(), strict=True):
            coordinate = curve[curve.dims[0]]
            ax.plot(coordinate, curve, "o-", ms=3, color=BLUE)
            ax.axhline(level, color="black", lw=0.8, ls="--")
            ax.axvline(fitted[name], color=ORANGE, lw=1)
            unit = coordinate.attrs.get("units", "1")
            ax.set_xlabel(name.replace("_", " ") + (f" ({unit})" if unit != "1" else ""))
            ax.set_ylim(-0.3, 5 * level)
        axes[0].set_ylabel("deviance")
        axes[0].text(0.02, level + 0.3, "95 %", fontsize=7, transform=axes[0].get_yaxis_transform())
    return figure


def profiles_against_truth(
    curves: Sequence[Mapping[str, Any]],
    true: np.ndarray,
    fitted: np.ndarray,
    name: str,
    unit: str,
    level: float,
) -> Figure:
    """Intervals of one parameter against its true values, and the deviance curves behind them.

    Parameters
    ----------
    curves : sequence of mapping
        Of each draw: ``values``, ``deviance`` and ``interval``.
    true, fitted : array (draw,)
    name, unit : str
    level : float
        Deviance that ends an interval.
    """
    with mpl.rc_context(STYLE):
        figure = new_figure(7.0, 2.8)
        left, right = figure.subplots(1, 2)
        for rank, i in enumerate(np.argsort(true)):
            low, high = curves[i]["interval"]
            left.plot([rank, rank], [low, high], color=BLUE, lw=3, alpha=0.4, solid_capstyle="butt")
            left.plot(rank, fitted[i], "o", ms=3.5, color=ORANGE, label="fitted" if rank == 0 else None)
            left.plot(rank, true[i], "_", ms=8, mew=1.5, color="black", label="true" if rank == 0 else None)
            right.plot(np.asarray(curves[i]["values"]) / true[i], curves[i]["deviance"], lw=0.9, color=BLUE, alpha=0.6)
        label = name.replace("_", " ")
        left.set_yscale("log")
        _plain_ticks(left.yaxis)
        left.set_xticks([])
        left.set_xlabel("draws, by true value (bars: 95 %)")
        left.set_ylabel(label + (f" ({unit})" if unit != "1" else ""))
        left.legend(frameon=False)
        right.axhline(level, color="black", lw=0.8, ls="--")
        right.text(0.02, level + 0.2, "95 %", fontsize=7, transform=right.get_yaxis_transform())
        right.axvline(1, color="black", lw=0.8)
        right.set_xscale("log")
        _plain_ticks(right.xaxis)
        right.set_ylim(-0.3, 5 * level)
        right.set_xlabel(f"{label} / true {label}")
        right.set_ylabel("deviance")
    return figure


def _plain_ticks(axis):
    """A logarithmic axis labelled with plain numbers, few enough not to touch."""
    axis.set_major_locator(mpl.ticker.LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
    axis.set_major_formatter(mpl.ticker.StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(mpl.ticker.NullFormatter())


def recovery(true: Mapping[str, np.ndarray], fitted: Mapping[str, np.ndarray], units: Mapping[str, str]) -> Figure:
    """Fitted against true values of every parameter, one point per draw; on logarithmic axes where all are positive."""
    with mpl.rc_context(STYLE):
        figure = new_figure(2.3 * len(true), 2.5)
        for ax, name in zip(np.ravel(figure.subplots(1, len(true))), true, strict=True):
            both = np.concatenate([true[name], fitted[name]])
            low, high = both.min(), both.max()
            positive, margin = low > 0, 0.1 * (high - low)
            ends = np.array([low / 1.15, high * 1.15] if positive else [low - margin, high + margin])
            if positive:
                ax.set(xscale="log", yscale="log")
                ax.fill_between(ends, ends / 1.2, ends * 1.2, color=GREY, alpha=0.2, lw=0)
                for axis in (ax.xaxis, ax.yaxis):
                    _plain_ticks(axis)
            ax.plot(ends, ends, color="black", lw=0.8, ls="--")
            ax.plot(true[name], fitted[name], "o", ms=3.5, color=ORANGE)
            ax.set(xlim=ends, ylim=ends, aspect="equal")
            unit = units.get(name, "1")
            ax.set_title(name.replace("_", " ") + (f" ({unit})" if unit != "1" else ""))
            ax.set_xlabel("true (band: 20 %)" if positive else "true")
        figure.axes[0].set_ylabel("fitted")
    return figure


def connectome_overview(connectome, speed: float) -> Figure:
    """Weights and lengths ordered by hemisphere and lobe, weights against lengths, and delays at a speed in m/s."""
    order = lobe_order(connectome["target"].values.tolist())
    weights, lengths = (connectome[name].values[np.ix_(order, order)].copy() for name in ("weights", "lengths"))
    linked = (weights > 0) & ~np.eye(len(weights), dtype=bool)
    with mpl.rc_context(STYLE):
        figure = new_figure(7.0, 5.6)
        axes = figure.subplots(2, 2)
        for ax, matrix, label in (
            (axes[0, 0], np.log10(np.where(linked, weights, np.nan)), "log10 weight"),
            (axes[0, 1], np.where(linked, lengths, np.nan), "length (mm)"),
        ):
            image = ax.imshow(matrix, cmap="viridis", interpolation="nearest")
            ax.set_xlabel("source region")
            ax.set_ylabel("target region")
            figure.colorbar(image, ax=ax, shrink=0.8, label=label)
        axes[1, 0].plot(lengths[linked], weights[linked], ".", ms=2, alpha=0.4, color=BLUE)
        axes[1, 0].set_yscale("log")
        axes[1, 0].set_xlabel("length (mm)")
        axes[1, 0].set_ylabel("weight")
        axes[1, 1].hist(lengths[linked] / speed, bins=40, color=BLUE)
        axes[1, 1].set_xlabel(f"delay at {speed:g} m/s (ms)")
        axes[1, 1].set_ylabel("connections")
    return figure


def relative_leakage(mixing, centres) -> tuple[np.ndarray, np.ndarray]:
    """What a resolution matrix leaks relative to its diagonal, and how far apart regions are, in mm: by pair."""
    own = np.abs(np.asarray(mixing)) / np.abs(np.diag(mixing))[:, None]
    return own, np.linalg.norm(centres[:, None] - centres, axis=2)


def leakage(mixing, centres, labels) -> Figure:
    """A resolution matrix relative to its diagonal, ordered by hemisphere and lobe, and against distance."""
    own, distances = relative_leakage(mixing, centres)
    others = ~np.eye(len(own), dtype=bool)
    order = lobe_order(list(labels))
    with mpl.rc_context(STYLE):
        figure = new_figure(6.0, 2.6)
        matrix, decay = figure.subplots(1, 2)
        image = matrix.imshow(own[np.ix_(order, order)], cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
        matrix.set_xticks([])
        matrix.set_yticks([])
        matrix.set_xlabel("source, by hemisphere and lobe")
        matrix.set_ylabel("estimate")
        figure.colorbar(image, ax=matrix, shrink=0.8, label="relative to the region itself")
        decay.scatter(distances[others], own[others], s=2, color=BLUE, alpha=0.3, lw=0, rasterized=True)
        decay.set_yscale("log")
        decay.set_ylim(1e-4, 3)
        decay.set_xlabel("distance (mm)")
        decay.set_ylabel("leakage")
    return figure


def data_overview(recordings, fc, labels, observation) -> Figure:
    """Connectivity ordered by hemisphere and lobe, its values, and the spectra of the first recording."""
    order = lobe_order(list(labels))
    fc = np.asarray(fc)[np.ix_(order, order)].copy()
    values = fc[np.triu_indices(len(fc), 1)]
    limit = float(np.percentile(np.abs(values), 99)) or 1.0
    with mpl.rc_context(STYLE):
        count = 3 if recordings else 2
        figure = new_figure(2.4 * count + 0.6, 2.6)
        axes = figure.subplots(1, count)
        np.fill_diagonal(fc, np.nan)
        image = axes[0].imshow(fc, cmap="PuOr_r", vmin=-limit, vmax=limit, interpolation="nearest")
        axes[0].set_xticks([])
        axes[0].set_yticks([])
        axes[0].set_xlabel("regions, by hemisphere and lobe")
        figure.colorbar(image, ax=axes[0], shrink=0.8, label="connectivity")
        axes[1].hist(values, bins=40, color=BLUE)
        axes[1].set_xlabel("connectivity")
        axes[1].set_ylabel("pairs of regions")
        if recordings:
            piece = good_pieces(recordings[0], observation.shortest)[0][0]
            fs = float(piece.attrs["fs"])
            window = min(2.0, piece.sizes["time"] / fs)
            frequencies, power = welch(jnp.asarray(piece.values, float), fs, window)
            shown = (frequencies > 0) & (frequencies <= min(45.0, fs / 2))
            decibels = 10 * np.log10(np.maximum(np.asarray(power)[shown], 1e-300))
            axes[2].plot(frequencies[shown], decibels, color=GREY, lw=0.4, alpha=0.5)
            axes[2].plot(frequencies[shown], np.median(decibels, axis=1), color=ORANGE, lw=1.5)
            axes[2].axvspan(*observation.band, color=BLUE, alpha=0.15, lw=0)
            axes[2].set_xlabel("frequency (Hz)")
            axes[2].set_ylabel("power (dB); median and all regions")
    return figure

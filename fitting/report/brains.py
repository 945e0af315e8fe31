"""Regions and connections on brains: glass brains by nilearn (the extra ``brain``), dots without it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Num
from matplotlib.figure import Figure

from fitting.errors import InputError
from fitting.report.figures import GREY, STYLE, new_figure

#: Axes that are seen from the left, from above, and from the right.
VIEWS = {"left": (1, 2), "above": (0, 1), "right": (1, 2)}


def has_nilearn() -> bool:
    """Whether glass brains can be drawn."""
    return importlib.util.find_spec("nilearn") is not None


def on_brain(centres: Float[np.ndarray, "region 3"], quantities: Mapping[str, Num[np.ndarray, " region"]]) -> Figure:
    """Values of regions at their centres, a row for each quantity.

    Parameters
    ----------
    centres : array (region, 3)
        In mm: to the right, to the front, upwards.
    quantities : mapping
        Values of all regions by what they are called.

    Examples
    --------
    >>> from fitting.data import centres_of, hcp_aal2
    >>> from fitting.report.brains import on_brain
    >>> connectome = hcp_aal2()
    >>> figure = on_brain(centres_of(connectome), {"strength": connectome.weights.values.sum(1)})
    """
    centres = np.asarray(centres, float)
    with mpl.rc_context(STYLE):
        figure = _rows(len(quantities))
        for row, (name, values) in enumerate(quantities.items()):
            values = np.asarray(values, float)
            low, high = float(values.min()), float(values.max())
            # Colours around zero where there are both signs.
            colours, limit = ("PuOr_r", max(-low, high)) if low < 0 < high else ("viridis", None)
            scale = mpl.colors.Normalize(low if limit is None else -limit, high if limit is None else limit)
            box = (0.01, 1 - (row + 1) / len(quantities), 0.84, 1 / len(quantities))
            if has_nilearn():
                from nilearn.plotting import plot_markers

                plot_markers(
                    values, centres, node_size=25, node_cmap=colours, node_vmin=scale.vmin, node_vmax=scale.vmax,
                    display_mode="lzr", figure=figure, axes=box, colorbar=False, annotate=False,
                )  # fmt: skip
            else:
                for axis, chosen, (a, b) in _views(figure, box, centres):
                    order = chosen[np.argsort(values[chosen])]
                    axis.scatter(
                        centres[order, a], centres[order, b], c=values[order], s=22, cmap=colours, norm=scale,
                        edgecolors=GREY, lw=0.3,
                    )  # fmt: skip
            _bar(figure, box, mpl.cm.ScalarMappable(scale, colours), name)
    return figure


def strongest_connections(
    centres: Float[np.ndarray, "region 3"],
    matrices: Mapping[str, Num[np.ndarray, "region region"]],
    share: float = 0.02,
) -> Figure:
    """The strongest pairs of regions of each matrix, a row for each.

    Parameters
    ----------
    centres : array (region, 3)
        In mm: to the right, to the front, upwards.
    matrices : mapping
        Symmetric, by what they are called.
    share : float
        Of all pairs.

    Examples
    --------
    >>> from fitting.data import centres_of, hcp_aal2
    >>> from fitting.report.brains import strongest_connections
    >>> connectome = hcp_aal2()
    >>> figure = strongest_connections(centres_of(connectome), {"weights": connectome.weights.values})
    """
    centres = np.asarray(centres, float)
    if not 0 < share <= 1:
        raise InputError(f"share of the pairs must be above 0 and at most 1; got {share:g}")
    rows, columns = np.triu_indices(len(centres), 1)
    with mpl.rc_context(STYLE):
        figure = _rows(len(matrices))
        for row, (name, matrix) in enumerate(matrices.items()):
            values = np.asarray(matrix, float)[rows, columns]
            kept = np.argsort(values)[::-1][: max(1, round(share * len(values)))]
            box = (0.01, 1 - (row + 1) / len(matrices), 0.84, 1 / len(matrices))
            scale = mpl.colors.Normalize(float(values[kept].min()), float(values[kept].max()))
            if has_nilearn():
                from nilearn.plotting import plot_connectome

                shown = np.zeros((len(centres), len(centres)))
                shown[rows[kept], columns[kept]] = values[kept]
                plot_connectome(
                    shown + shown.T, centres, node_color=GREY, node_size=4, edge_cmap="viridis",
                    edge_vmin=scale.vmin, edge_vmax=scale.vmax, edge_kwargs={"linewidth": 1.0},
                    display_mode="lzr", figure=figure, axes=box, colorbar=False, annotate=False,
                )  # fmt: skip
            else:
                for axis, chosen, (a, b) in _views(figure, box, centres):
                    inside = kept[np.isin(rows[kept], chosen) & np.isin(columns[kept], chosen)][::-1]
                    ends = centres[np.stack([rows[inside], columns[inside]], axis=1)][..., [a, b]]
                    axis.scatter(centres[chosen, a], centres[chosen, b], s=4, color=GREY)
                    lines = mpl.collections.LineCollection(list(ends), cmap="viridis", norm=scale, lw=1.0)
                    lines.set_array(values[inside])
                    axis.add_collection(lines)
            _bar(figure, box, mpl.cm.ScalarMappable(scale, "viridis"), name)
    return figure


def write_connectome_page(
    path: Path, centres: Float[np.ndarray, "region 3"], matrix: Num[np.ndarray, "region region"], share: float = 0.05
) -> Path:
    """A page with a brain to turn, and the strongest pairs of regions in it; it opens offline.

    Raises
    ------
    InputError
        If nilearn is not installed.
    """
    if not has_nilearn():
        raise InputError("a page of connections needs nilearn: pip install 'fitting[brain]'")
    from nilearn.plotting import view_connectome

    threshold = f"{100 * (1 - share):g}%"
    view_connectome(np.asarray(matrix, float), np.asarray(centres, float), edge_threshold=threshold).save_as_html(path)
    return path


def _rows(count: int) -> Figure:
    figure = new_figure(7.0, 2.1 * count)
    figure.set_layout_engine("none")
    return figure


def _views(figure: Figure, box, centres):
    """Empty axes of the three views, each with the regions and the two coordinates that it shows."""
    left, bottom, width, height = box
    low, high = centres.min(0) - 8, centres.max(0) + 8
    sides = {"left": centres[:, 0] <= 0, "above": np.ones(len(centres), bool), "right": centres[:, 0] >= 0}
    for number, (view, (a, b)) in enumerate(VIEWS.items()):
        axis = figure.add_axes((left + number * width / 3, bottom + 0.02, width / 3, height - 0.04))
        axis.set_aspect("equal")
        axis.set_axis_off()
        # From the left, the front is on the left.
        axis.set_xlim(*((high[a], low[a]) if view == "left" else (low[a], high[a])))
        axis.set_ylim(low[b], high[b])
        yield axis, np.flatnonzero(sides[view]), (a, b)


def _bar(figure: Figure, box, mappable, name: str):
    left, bottom, width, height = box
    axis = figure.add_axes((left + width + 0.01, bottom + 0.2 * height, 0.015, 0.6 * height))
    figure.colorbar(mappable, cax=axis, label=name)

"""Interactive figures: matrices to click on, a brain to turn. They need plotly (extra ``explore``)."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.figure import Figure

from fitting.data import lobe_order
from fitting.report.figures import BLUE, GREY, ORANGE
from fitting.report.page import STYLE, html_page

_TIGHT = {"l": 10, "r": 10, "t": 40, "b": 10}
_LAYOUT: dict[str, Any] = {
    "template": "simple_white",
    "font": {"size": 11},
    "margin": {"l": 50, "r": 10, "t": 40, "b": 40},
    "height": 320,
}


def matrix(fc, labels: Sequence[str], title: str, limit: float | None = None) -> go.Figure:
    """Connectivity as a map, ordered by hemisphere and lobe; pointing at an entry tells its two regions.

    Parameters
    ----------
    fc : array (region, region)
    labels : sequence of str
    title : str
    limit : float, optional
        End of the colour scale; the 99th percentile of the sizes unless given.

    Examples
    --------
    >>> from fitting.report.interactive import matrix
    >>> figure = matrix([[0, 0.1], [0.1, 0]], ["PreCG.R", "PreCG.L"], "recording")
    >>> figure.data[0].x
    ('PreCG.L', 'PreCG.R')
    """
    order = lobe_order(list(labels))
    names = [labels[i] for i in order]
    values = np.array(np.asarray(fc, float)[np.ix_(order, order)])
    np.fill_diagonal(values, np.nan)
    shown = np.abs(values[np.isfinite(values)])
    end = limit or (float(np.percentile(shown, 99)) if len(shown) else 0.0) or 1.0
    heat = go.Heatmap(
        z=values, x=names, y=names, zmin=-end, zmax=end, colorscale="PuOr_r", colorbar={"thickness": 10},
        hovertemplate="%{y} and %{x}: %{z:.3f}<extra></extra>",
    )  # fmt: skip
    figure = go.Figure(heat, layout=_LAYOUT | {"title": title, "width": 350, "margin": _TIGHT})
    figure.update_xaxes(showticklabels=False, ticks="")
    figure.update_yaxes(showticklabels=False, ticks="", autorange="reversed", scaleanchor="x", constrain="domain")
    figure.update_xaxes(constrain="domain")
    return figure


def brain(centres, values, labels: Sequence[str], title: str) -> go.Figure:
    """Values of regions at their centres, to be turned by the mouse or a finger.

    Parameters
    ----------
    centres : array (region, 3)
        In mm: to the right, to the front, upwards.
    values : array (region,)
    labels : sequence of str
    title : str
    """
    x, y, z = np.asarray(centres, float).T
    figure = go.Figure(go.Scatter3d(x=x, y=y, z=z, **_dots(values, labels, 6)), layout=_LAYOUT | {"title": title})
    hidden = {"visible": False}
    scene = {"xaxis": hidden, "yaxis": hidden, "zaxis": hidden, "aspectmode": "data"}
    return figure.update_layout(scene=scene, margin=_TIGHT)


def brain_from_above(centres, values, labels: Sequence[str], title: str, chosen: Sequence[str] = ()) -> go.Figure:
    """Values of regions at their centres, seen from above: a flat picture, whose regions can be clicked on.

    Parameters
    ----------
    centres : array (region, 3)
        In mm: to the right, to the front, upwards. The highest regions are drawn last.
    values : array (region,)
    labels : sequence of str
    title : str
    chosen : sequence of str
        Regions that get a ring.

    Examples
    --------
    >>> from fitting.report.interactive import brain_from_above
    >>> figure = brain_from_above([[-30, 0, 40], [30, 0, 10]], [1.0, 2.0], ["A.L", "A.R"], "strength", ["A.L"])
    >>> figure.data[0].text
    ('A.R', 'A.L')
    """
    upwards = np.argsort(np.asarray(centres, float)[:, 2], kind="stable")
    x, y, _ = np.asarray(centres, float)[upwards].T
    names = [labels[i] for i in upwards]
    dots = _dots(np.asarray(values, float)[upwards], names, 11)
    dots["marker"]["line"] = {"color": "black", "width": [3 if name in chosen else 0 for name in names]}
    figure = go.Figure(go.Scatter(x=x, y=y, **dots), layout=_LAYOUT | {"title": title, "margin": _TIGHT})
    figure.update_layout(clickmode="event+select")
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False, scaleanchor="x")
    return figure


def _dots(values, labels: Sequence[str], size: int) -> dict[str, Any]:
    """A dot for each region, coloured by its value; pointing at it tells both."""
    values = np.asarray(values, float)
    return {
        "mode": "markers",
        "text": list(labels),
        "customdata": values,
        "marker": {"size": size, "color": values, "colorscale": "Viridis", "colorbar": {"thickness": 10}},
        "hovertemplate": "%{text}: %{customdata:.3g}<extra></extra>",
    }


def spectra(frequencies, power, labels: Sequence[str], region: str, band: tuple[float, float]) -> go.Figure:
    """Power of all regions: the median, where 80 % of them lie, and one region.

    Parameters
    ----------
    frequencies : array (frequency,)
        In Hz.
    power : array (frequency, region)
    labels : sequence of str
    region : str
        The one that is drawn by itself.
    band : (float, float)
        Shaded.
    """
    low, middle, high = np.quantile(np.asarray(power, float), (0.1, 0.5, 0.9), axis=1)
    hz = np.asarray(frequencies, float)
    edge = {"mode": "lines", "line": {"width": 0}, "showlegend": False, "hoverinfo": "skip"}
    lines = [
        go.Scatter(x=hz, y=low, **edge),
        go.Scatter(x=hz, y=high, fill="tonexty", fillcolor="rgba(0,114,178,0.2)", **edge),
        go.Scatter(x=hz, y=middle, name="median", line={"color": BLUE}),
        go.Scatter(x=hz, y=np.asarray(power)[:, list(labels).index(region)], name=region, line={"color": ORANGE}),
    ]
    figure = go.Figure(lines, layout=_LAYOUT | {"title": "power by region", "legend": {"x": 0.6, "y": 1}})
    figure.add_vrect(x0=band[0], x1=band[1], fillcolor=GREY, opacity=0.15, line_width=0)
    figure.update_xaxes(title="frequency (Hz)")
    figure.update_yaxes(type="log", title="power (model's units)")
    return figure


def bars(scores: Mapping[str, float], title: str) -> go.Figure:
    """Scores beside each other, the first one the model's.

    Parameters
    ----------
    scores : mapping
        Correlation by name.
    title : str
    """
    names, values = list(scores), [float(value) for value in scores.values()]
    colors = [ORANGE, *[BLUE] * (len(names) - 1)]
    bar = go.Bar(
        x=values, y=names, orientation="h", marker_color=colors, text=[f"{v:.3f}" for v in values], cliponaxis=False
    )
    figure = go.Figure(bar, layout=_LAYOUT | {"title": title, "margin": {"l": 170, "r": 40, "t": 40, "b": 40}})
    figure.update_yaxes(autorange="reversed")
    return figure


def course(history: Sequence[Mapping[str, float]]) -> go.Figure:
    """Every parameter of a fit relative to where it began, step by step.

    Parameters
    ----------
    history : sequence of mapping
        Parameter values at each step.
    """
    lines = [
        go.Scatter(y=[float(np.mean(step[name] / history[0][name])) for step in history], name=name)
        for name in (history[0] if history else ())
    ]
    figure = go.Figure(lines, layout=_LAYOUT | {"title": "parameters relative to the start"})
    figure.update_xaxes(title="step")
    return figure


def write_page(title: str, sections: Mapping[str, Sequence[Any]], path: Path):
    """One self-contained page that opens without a network.

    Parameters
    ----------
    title : str
    sections : mapping
        Sentences, and figures of plotly or matplotlib, by heading.
    path : Path
        Where to write.
    """
    parts, script = [], True
    for heading, items in sections.items():
        parts.append(f"<h2>{html.escape(heading)}</h2>")
        for item in items:
            if isinstance(item, go.Figure):
                parts.append(item.to_html(full_html=False, include_plotlyjs=script, config={"responsive": True}))
                script = False
            elif isinstance(item, Figure):
                memory = io.BytesIO()
                item.savefig(memory, format="png", dpi=130)
                parts.append(f'<img alt="" src="data:image/png;base64,{base64.b64encode(memory.getvalue()).decode()}">')
            else:
                parts.append(f"<p>{html.escape(str(item))}</p>")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html_page(title, STYLE, "".join(parts)), encoding="utf-8")

"""Figures of a fit as files, and the page that shows them."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import xarray as xr

from fitting.data import good_pieces
from fitting.evaluate import DEVIANCE_95, pearson
from fitting.report import brains, figures, signals
from fitting.report.summary import BASELINE_NAMES, Summary, headline
from fitting.report.tables import parameter_rows, score_rows
from fitting.signal import Observation

#: What figures show, in the order of the page.
CAPTIONS = {
    "scores": "The score beside what needs no fit. Orange: the model, with its spread over noise seeds. Grey: one "
    "prediction with the fitted parameters, and the same with delays or the connectome destroyed. Blue: predictors "
    "without a model.",
    "fc_matrices": "Connectivity of the target and of the fitted model, mean over fresh noise seeds: on one scale, and "
    "each on its own.",
    "fc_scatter": "The same, pair by pair.",
    "true_and_fitted": "Fitted parameters relative to the true ones.",
    "regional_parameters": "Fitted parameters of every region.",
    "brain": "Mean connectivity of every region, what the model leaves of it, and parameters fitted for each region.",
    "connections": "The strongest 2 % of the connectivity of the target, and of the model.",
    "residuals": "Where the model fails: what is left by distance, and by lobe.",
    "profiles": "How much worse the best fit becomes as a parameter is moved away from its fitted value.",
    "convergence": "The fit, step by step.",
    "spectra": "Power spectra of all regions.",
    "traces": "Simulated activity, and its plain correlation.",
    "simulated_envelope": "How a simulated signal becomes an envelope.",
    "raw_and_band": "A signal, and what the band-pass filter leaves of it, with its envelope.",
    "orthogonalization": "What orthogonalisation leaves of an envelope.",
    "smoothed_pair": "The two envelopes that one entry of the connectivity correlates.",
}


def draw(
    summary: Summary,
    data: xr.Dataset,
    folder: Path,
    observation: Observation,
    recordings: Sequence[xr.DataArray] = (),
    region: str | None = None,
    reference: str | None = None,
    seconds: float = 10.0,
) -> list[Path]:
    """Write every figure of a fit into ``folder``, as PNG and PDF.

    Parameters
    ----------
    summary : Summary
    data : Dataset
        See :func:`fitting.report.to_dataset`.
    folder : Path
    observation : Observation
        Its band and low-pass are those of the figures of envelopes.
    recordings : sequence of DataArray, optional
        Where there are some, figures of envelopes show the first of them, otherwise the simulation.
    region, reference : str, optional
        Labels of the regions that these show; the second and the first unless given.
    seconds : float
        Stretch of signals that they show.

    Returns
    -------
    list of Path
        The PNG files.
    """
    labels = data["region"].values.tolist()
    target, fitted = data["target_fc"].values, data["fitted_fc"].values
    upper = np.triu_indices(len(labels), 1)
    history = {
        str(name).removeprefix("history_"): data[name].values
        for name in data.data_vars
        if str(name).startswith("history_")
    }
    drawn = {
        "scores": figures.scores(summary, BASELINE_NAMES),
        "fc_matrices": figures.fc_matrices(target, fitted, labels),
        "fc_scatter": figures.fc_scatter(target, fitted, pearson(target[upper], fitted[upper])),
    }
    if history:
        drawn["convergence"] = figures.convergence(history)
    maps = {name: data[name] for name in map(str, data.data_vars) if name.startswith("fitted_") and name != "fitted_fc"}
    curves = {
        str(name).removeprefix("deviance_"): data[name] for name in data.data_vars if str(name).startswith("deviance_")
    }
    if curves:
        values = {name: summary.parameters[name].fitted for name in curves}
        drawn["profiles"] = figures.profiles(curves, values, DEVIANCE_95)
    if maps:
        drawn["regional_parameters"] = figures.regional(maps, labels)
    if "lengths" in data:
        drawn["residuals"] = figures.residuals(target, fitted, data["lengths"].values, labels)
    if "centres" in data:
        centres, others = data["centres"].values, len(target) - 1
        residual = figures.standardized_difference(target, fitted)
        pairs = {"target: mean FC": target, "model: mean FC": fitted, "target - model\n(standardised)": residual}
        means = {name: fc.sum(1) / others for name, fc in pairs.items()}
        units = {name: f" ({v.attrs['units']})" if v.attrs.get("units", "1") != "1" else "" for name, v in maps.items()}
        own = {name.removeprefix("fitted_") + units[name]: v.values for name, v in maps.items()}
        drawn["brain"] = brains.on_brain(centres, means | own)
        drawn["connections"] = brains.strongest_connections(centres, {"target": target, "model": fitted})
    recovery = figures.parameters(summary.parameters)
    if recovery is not None:
        drawn["true_and_fitted"] = recovery

    simulated = data["traces"].values
    if np.isfinite(simulated).all() and len(simulated) > observation.fs * observation.shortest:
        first = signals.region_index(labels, reference, 0)
        second = signals.region_index(labels, region, 1)
        drawn["traces"] = signals.traces(simulated, observation.fs, labels)
        drawn["spectra"] = signals.spectra(simulated, observation, recordings)
        model = "simulation"
        drawn["simulated_envelope"] = signals.envelope(simulated, observation, labels, second, model, seconds)
        shown, what = simulated, model
        if len(recordings):
            piece = good_pieces(recordings[0], observation.shortest)[0][0]
            resampled = observation.resample(jnp.asarray(piece.values), float(piece.attrs["fs"]))
            shown, what = np.asarray(resampled), "recording"
        drawn["raw_and_band"] = signals.raw_and_band(shown, observation, labels, second, what, seconds)
        pair = (shown, observation, labels, first, second, what)
        drawn["orthogonalization"] = signals.orthogonalization(*pair, seconds)
        drawn["smoothed_pair"] = signals.smoothed_pair(*pair, 6 * seconds)
    order = [name for name in CAPTIONS if name in drawn]
    return [figures.save(drawn[name], folder / name) for name in order]


STYLE = """
:root{color-scheme:light}*{box-sizing:border-box}
body{font:16px/1.55 system-ui,sans-serif;color:#222;max-width:62rem;margin:auto;padding:1rem}
h1{font-size:1.5rem;margin:.5rem 0}h2{font-size:1.15rem;margin:2rem 0 .5rem}
.headline{font-size:1.15rem;border-left:4px solid #D55E00;padding:.4rem 0 .4rem .9rem;margin:1rem 0}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem;width:100%}
th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #ddd;vertical-align:top}
td.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
tr.first td{border-top:2px solid #999}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(26rem,100%),1fr));gap:1rem}
figure{margin:0}img{max-width:100%;height:auto}figcaption{font-size:.85rem;color:#444}
pre{overflow-x:auto;font-size:.8rem;background:#f6f6f6;padding:.6rem}details{margin:.6rem 0}
"""


def write_html(summary: Summary, pictures: Sequence[Path], command: str, settings: str, path: Path):
    """One self-contained page: what the fit means in a sentence, scores, parameters, figures, how to reproduce.

    Parameters
    ----------
    summary : Summary
    pictures : sequence of Path
        PNG files, see :func:`draw`.
    command : str
        That made the fit.
    settings : str
        All of them, as text.
    path : Path
        Where to write.
    """
    escape = html.escape

    def rows(sections):
        lines = []
        for section in sections:
            for number, (name, value) in enumerate(section):
                kind = ' class="first"' if number == 0 else ""
                lines.append(f'<tr{kind}><td>{escape(name)}</td><td class="number">{escape(value)}</td></tr>')
        return "".join(lines)

    head, *body = parameter_rows(summary)
    parameters = "<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"
    parameters += "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in body)
    reasons, notes = (
        "".join(f"<li>{escape(text)}</li>" for text in sentences) for sentences in (_reasons(summary), summary.notes)
    )
    images = "".join(
        f'<figure><img alt="{escape(p.stem.replace("_", " "))}" src="data:image/png;base64,'
        f'{base64.b64encode(p.read_bytes()).decode()}">'
        f"<figcaption>{escape(CAPTIONS.get(p.stem, p.stem))}</figcaption></figure>"
        for p in pictures
    )
    shown = f'<h2>Figures</h2><div class="figures">{images}</div>' if pictures else ""
    versions = "".join(
        f'<tr><td>{escape(name)}</td><td class="number">{escape(str(version))}</td></tr>'
        for name, version in summary.versions.items()
    )
    content = (
        f'<p class="headline">{escape(headline(summary))}</p>'
        f"<p>Status: {escape(summary.status)} after {summary.steps} steps; seed {summary.seed}; "
        f"{summary.wall_seconds:.0f} s.</p><ul>{notes}</ul>"
        "<h2>Scores: correlation with the target's connectivity</h2>"
        f'<div class="scroll"><table>{rows(score_rows(summary))}</table></div>'
        f'<h2>Parameters</h2><div class="scroll"><table>{parameters}</table></div><ul>{reasons}</ul>'
        f"{shown}"
        f"<h2>How to reproduce</h2><pre>{escape(command)}</pre>"
        f"<details><summary>Settings</summary><pre>{escape(settings)}</pre></details>"
        f'<details><summary>Versions</summary><div class="scroll"><table>{versions}</table></div></details>'
    )
    path.write_text(html_page("Fit report", STYLE, content), encoding="utf-8")


def html_page(title: str, style: str, body: str) -> str:
    """A page of its own: its title in plain text, its style sheet, and what stands below the title as HTML."""
    title = html.escape(title)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><link rel="icon" href="data:,">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{style}</style></head><body><h1>{title}</h1>{body}</body></html>"
    )


def _reasons(summary: Summary) -> list[str]:
    """Why parameters are identifiable or not, and what else the search came by."""
    sentences = [f"{name}: {p.reason}." for name, p in summary.parameters.items() if p.identifiable is not None]
    for name, p in summary.parameters.items():
        for other, r in p.correlations.items():
            if name < other and abs(r) > 0.5:
                sentences.append(
                    f"The estimates of {name} and {other} correlate by {r:.2f}: their combination is seen better."
                )
        if p.found_again is not None and np.ndim(p.fitted) == 0:
            again = ", ".join(f"{value:.4g}" for value in p.found_again)
            sentences.append(
                f"{name} of the fitted model's own recordings is found again as {again} (truth {p.fitted:.4g})."
            )
    candidates = summary.search.candidates if summary.search else []
    if len(candidates) > 1:
        basins = "; ".join(
            f"loss {c.loss:.3f} at " + ", ".join(f"{name} {value:.3g}" for name, value in c.parameters.items())
            for c in candidates
            if c.loss is not None and np.isfinite(c.loss)
        )
        sentences.append(f"The search found {basins}.")
    return sentences

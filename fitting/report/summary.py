"""The numbers of a fit as one dictionary, one netCDF file, one table and one page."""

from __future__ import annotations

import base64
import html
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr
from rich.console import Console, Group
from rich.table import Table

from fitting.evaluate import DEVIANCE_95, Identifiability, Profile, SeedScores
from fitting.objective import Target
from fitting.optimize import FitResult, Parameters, SearchResult, Solution
from fitting.report import figures

PACKAGES = ("fitting", "jax", "jaxlib", "brainmass", "brainstate", "optax", "numpy", "scipy", "xarray")


def versions() -> dict[str, str]:
    """Versions of what decides the numbers, and the device they were computed on."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return found | {"python": platform.python_version(), "device": jax.devices()[0].device_kind}


def _number(value) -> Any:
    value = np.asarray(value, float)
    return float(value) if value.ndim == 0 else [float(v) for v in value]


def summarize(
    result: FitResult,
    parameters: Parameters,
    true: Mapping[str, float],
    initial_correlation: float,
    fresh: SeedScores,
    baselines: Mapping[str, float],
    identified: Mapping[str, Identifiability],
    seed: int,
    notes: Sequence[str] = (),
    wall_seconds: float | None = None,
    held_out: Mapping[str, Any] | None = None,
    solution: Solution | None = None,
) -> dict[str, Any]:
    """Everything a reader of a fit needs, ready for JSON.

    Parameters
    ----------
    result : FitResult
    parameters : Parameters
    true : mapping
        True values where they are known.
    initial_correlation : float
        Mean FC correlation of the starting point on fresh noise.
    fresh : SeedScores
    baselines : mapping
    identified : mapping
        By parameter, see :func:`fitting.evaluate.identifiability`.
    seed : int
    notes : sequence of str
        Sentences a reader must know.
    wall_seconds : float, optional
        Time of the whole job; of the fit alone unless given.
    held_out : mapping, optional
        Score over pairs that the fit has not seen: ``r``, ``split``, and baselines of the same split.
    solution : Solution, optional
        The stages that led to the result: what the search found and what gradients were worth.

    Returns
    -------
    dict
    """
    rows = {}
    for p in parameters.free:
        found = identified.get(p.name)
        rows[p.name] = {
            "initial": _number(result.initial[p.name]),
            "fitted": _number(result.fitted[p.name]),
            "unit": p.unit,
            "true": float(true[p.name]) if p.name in true else None,
            "interval": list(found.interval) if found and found.interval else None,
            "identifiable": found.identifiable if found else None,
            "reason": found.reason if found else "not measured",
        }
    good = result.history["fc_correlation"][result.history["finite"]] if result.history else np.array([])
    last = good[-10:]
    summary = {
        "status": result.status,
        "parameters": rows,
        "fc_correlation": {
            "initial": initial_correlation,
            "training": float(last.mean()) if len(last) else None,
            "held_out": dict(held_out) if held_out else None,
            "fresh_seeds": {
                "mean": fresh.mean,
                "sd": fresh.sd if len(fresh.fc_correlation) > 1 else None,
                "n": len(fresh.fc_correlation),
                "seconds": fresh.seconds,
                "drop": float(last.mean()) - fresh.mean if len(last) else None,
            },
        },
        "baselines": dict(baselines),
        "wall_seconds": wall_seconds if wall_seconds is not None else result.seconds,
        "compile_seconds": result.compile_seconds,
        "steps": len(result.history.get("loss", [])),
        "chosen": result.chosen,
        "search": _search(solution),
        "gradients": solution.health._asdict() if solution else None,
        "bad_steps": result.bad_steps,
        "notes": [*result.notes, *notes],
        "versions": versions(),
        "seed": seed,
    }
    return _without_nan(summary)


def _search(solution: Solution | None) -> dict[str, Any] | None:
    if solution is None or solution.searched is None:
        return None
    searched = solution.searched
    return {
        "evaluations": searched.evaluations,
        "seconds": searched.seconds,
        "candidates": [
            {
                "loss": candidate.loss,
                "fc_correlation": candidate.fc_correlation,
                "parameters": {
                    p.name: float(p.bounded(candidate.point[p.name]))
                    for p in solution.problem.parameters.free
                    if not p.per_region
                },
            }
            for candidate in searched.candidates
        ],
        "winner": solution.raced.winner if solution.raced else 0,
    }


def _without_nan(value):
    """JSON has no NaN: numbers that are not finite become None."""
    if isinstance(value, dict):
        return {key: _without_nan(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def to_dataset(
    result: FitResult,
    target: Target,
    fresh: SeedScores,
    labels: Sequence[str],
    fs: float,
    dropped: Sequence[str] = (),
    profiles: Mapping[str, Profile] | None = None,
    searched: SearchResult | None = None,
) -> xr.Dataset:
    """Target and fitted connectivity, traces of the fitted model, the history of the fit, and profile likelihoods.

    Parameters
    ----------
    result : FitResult
    target : Target
    fresh : SeedScores
    labels : sequence of str
    fs : float
        Rate of the traces in Hz.
    dropped : sequence of str
        Regions of the data that the connectome does not have.
    profiles : mapping, optional
        By parameter, see :func:`fitting.evaluate.profile_likelihood`.
    searched : SearchResult, optional

    Returns
    -------
    Dataset
    """
    pair = ("region", "other")
    data: dict[str, Any] = {
        "target_fc": (pair, np.asarray(target.fc)),
        "fitted_fc": (pair, np.asarray(fresh.fc), {"description": "mean over fresh noise seeds"}),
        "traces": (("time", "region"), np.asarray(fresh.signals), {"description": "one fresh run"}),
        "fresh_fc_correlation": (("seed",), fresh.fc_correlation),
    }
    for name, values in result.history.items():
        values = values.astype(np.int8) if values.dtype == bool else values
        data[f"history_{name}"] = (("step", "region") if values.ndim == 2 else ("step",), values)
    coords: dict[str, Any] = {
        "region": list(labels),
        "other": list(labels),
        "time": ("time", np.arange(len(fresh.signals)) / fs, {"units": "s"}),
    }
    for name, profile in (profiles or {}).items():
        coords[f"profile_{name}"] = (f"profile_{name}", profile.values, {"units": profile.unit})
        data[f"deviance_{name}"] = ((f"profile_{name}",), profile.deviance)
        data[f"profile_fc_correlation_{name}"] = ((f"profile_{name}",), profile.fc_correlation)
    for name, values in (searched.history if searched else {}).items():
        data[f"search_{name}"] = (("generation", "candidate"), values)
    return xr.Dataset(
        data,
        coords=coords,
        attrs={"dropped_regions": ", ".join(dropped), "status": result.status},
    )


def _show(value, unit: str = "") -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return f"{np.mean(value):.4g} ({np.min(value):.3g} to {np.max(value):.3g})"
    return f"{value:.4g}{'' if unit in ('', '1') else ' ' + unit}"


def _score(value) -> str:
    return "-" if value is None else f"{value:.3f}"


def table(summary: Mapping[str, Any]) -> Group:
    """The final tables for the terminal: parameters, and scores beside the baselines."""
    fitted = Table(title="Parameters", title_justify="left")
    for column in ("parameter", "initial", "fitted", "true", "unit", "95 % interval", "identifiable"):
        fitted.add_column(column)
    for name, p in summary["parameters"].items():
        interval = f"{p['interval'][0]:.3g} to {p['interval'][1]:.3g}" if p["interval"] else "-"
        answer = {True: "yes", False: "not identifiable", None: "not measured"}[p["identifiable"]]
        unit = "" if p["unit"] == "1" else p["unit"]
        fitted.add_row(name, _show(p["initial"]), _show(p["fitted"]), _show(p["true"]), unit, interval, answer)
    scores = Table(title="FC correlation with the target", title_justify="left")
    scores.add_column("predictor")
    scores.add_column("r", justify="right")
    fresh = summary["fc_correlation"]["fresh_seeds"]
    spread = f" ± {fresh['sd']:.3f}" if fresh["sd"] is not None else ""
    scores.add_row(
        f"fitted model, {fresh['n']} fresh seeds of {fresh['seconds']:g} s", f"{_score(fresh['mean'])}{spread}"
    )
    scores.add_row("fitted model, last training steps", _score(summary["fc_correlation"]["training"]))
    scores.add_row("drop from training to fresh seeds", _score(fresh["drop"]))
    scores.add_row("initial parameters, fresh seeds", _score(summary["fc_correlation"]["initial"]))
    held_out = summary["fc_correlation"]["held_out"]
    if held_out:
        scores.add_section()
        spread = f" ± {held_out['sd']:.3f}" if held_out["sd"] is not None else ""
        if held_out.get("response") is not None:
            scores.add_row(f"held out ({held_out['split']}): linear response", f"{held_out['response']:.3f}")
        scores.add_row("held out: simulated, fresh seeds", f"{held_out['r']:.3f}{spread}")
        for name, value in held_out["baselines"].items():
            scores.add_row(f"held out, baseline: {name.replace('_', ' ')}", f"{value:.3f}")
        scores.add_section()
    for name, value in summary["baselines"].items():
        scores.add_row(f"baseline: {name.replace('_', ' ')}", f"{value:.3f}")
    lines = [
        f"{name}: not identifiable. {p['reason']}."
        for name, p in summary["parameters"].items()
        if p["identifiable"] is False
    ]
    if summary["search"]:
        lines.append(
            f"Search: {summary['search']['evaluations']} simulations in {summary['search']['seconds']:.0f} s; best "
            f"loss {_score(summary['search']['candidates'][0]['loss'])}."
        )
    if summary["gradients"]:
        lines.append(f"Gradients: {summary['gradients']['reason']}.")
    lines += list(summary["notes"])
    lines.append(
        f"Status: {summary['status']} after {summary['steps']} steps, {summary['wall_seconds']:.0f} s in all, "
        f"{summary['compile_seconds']:.0f} s of it compiling."
    )
    return Group(fitted, scores, *lines)


def _pearson(a, b) -> float:
    varies = np.ptp(a) > 0 and np.ptp(b) > 0
    return float(np.corrcoef(a, b)[0, 1]) if varies else float("nan")


def draw(summary: Mapping[str, Any], data: xr.Dataset, folder: Path) -> list[Path]:
    """Write every figure of a fit into ``folder``; returns the PNG files."""
    labels = data["region"].values.tolist()
    target, fitted = data["target_fc"].values, data["fitted_fc"].values
    upper = np.triu_indices(len(labels), 1)
    history = {
        str(name).removeprefix("history_"): data[name].values
        for name in data.data_vars
        if str(name).startswith("history_")
    }
    drawn = {
        "fc_matrices": figures.fc_matrices(target, fitted, labels),
        "fc_scatter": figures.fc_scatter(target, fitted, _pearson(target[upper], fitted[upper])),
        "scores": figures.scores(summary),
    }
    if history:
        drawn["convergence"] = figures.convergence(history)
    maps = {name: data[name] for name in map(str, data.data_vars) if name.startswith("fitted_") and name != "fitted_fc"}
    curves = {
        str(name).removeprefix("deviance_"): data[name] for name in data.data_vars if str(name).startswith("deviance_")
    }
    if curves:
        values = {name: summary["parameters"][name]["fitted"] for name in curves}
        drawn["profiles"] = figures.profiles(curves, values, DEVIANCE_95)
    if maps:
        drawn["regional_parameters"] = figures.regional(maps, labels)
    if "lengths" in data:
        drawn["residuals"] = figures.residuals(target, fitted, data["lengths"].values, labels)
    recovery = figures.parameters(summary["parameters"])
    if recovery is not None:
        drawn["true_and_fitted"] = recovery
    return [figures.save(figure, folder / name) for name, figure in drawn.items()]


def write_html(summary: Mapping[str, Any], pictures: Sequence[Path], command: str, settings: str, path: Path):
    """One self-contained page: the summary in a sentence, tables, figures, settings, how to reproduce."""
    console = Console(record=True, width=110, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table(summary))
    tables = console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")
    fresh = summary["fc_correlation"]["fresh_seeds"]
    best = max(summary["baselines"], key=lambda name: summary["baselines"][name], default=None)
    sentence = (
        f"The fitted model's connectivity correlates with the target at r = {_show(fresh['mean'])} on fresh noise"
    )
    if best is not None:
        sentence += f"; {best.replace('_', ' ')} alone reaches {summary['baselines'][best]:.3f}"
    images = "".join(
        f'<figure><img alt="{p.stem}" src="data:image/png;base64,{base64.b64encode(p.read_bytes()).decode()}">'
        f"<figcaption>{html.escape(p.stem.replace('_', ' '))}</figcaption></figure>"
        for p in pictures
    )
    path.write_text(
        "<!doctype html><html lang=en><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1"><title>fitting report</title>'
        "<style>body{font:16px/1.5 sans-serif;max-width:60rem;margin:auto;padding:1rem}img{max-width:100%}"
        "figure{margin:1rem 0}pre{overflow-x:auto;font-size:.8rem;background:#f6f6f6;padding:.5rem}</style>"
        f"<h1>Fit report</h1><p><strong>{html.escape(sentence)}.</strong></p>{tables}{images}"
        f"<h2>How to reproduce</h2><pre>{html.escape(command)}</pre>"
        f"<h2>Settings</h2><pre>{html.escape(settings)}</pre>"
        f"<h2>Versions</h2><pre>{html.escape(str(summary['versions']))}</pre></html>",
        encoding="utf-8",
    )

"""The numbers of a fit as one dictionary, one netCDF file and tables."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr
from rich.console import Group
from rich.table import Table

from fitting.errors import InputError
from fitting.evaluate import Evaluation, SeedScores
from fitting.objective import Target
from fitting.optimize import FitResult, Parameters, SearchResult, Solution

PACKAGES = ("fitting", "jax", "jaxlib", "brainmass", "brainstate", "optax", "numpy", "scipy", "xarray")


def versions() -> dict[str, str]:
    """Versions of what decides the numbers, and the device they were computed on."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return found | {"python": platform.python_version(), "device": jax.devices()[0].device_kind}


def _number(value) -> Any:
    return np.asarray(value, float).tolist()


def summarize(
    result: FitResult,
    parameters: Parameters,
    evaluation: Evaluation,
    *,
    seed: int,
    true: Mapping[str, float] | None = None,
    notes: Sequence[str] = (),
    wall_seconds: float | None = None,
    solution: Solution | None = None,
    split: str = "",
) -> dict[str, Any]:
    """Everything a reader of a fit needs, ready for JSON.

    Parameters
    ----------
    result : FitResult
    parameters : Parameters
    evaluation : Evaluation
    seed : int
    true : mapping, optional
        True values where they are known.
    notes : sequence of str
        Sentences a reader must know.
    wall_seconds : float, optional
        Time of the whole job; of the fit alone unless given.
    solution : Solution, optional
        The stages that led to the result: what the search found and what gradients were worth.
    split : str
        What was held out, in words.

    Returns
    -------
    dict
    """
    rows, true, fresh = {}, true or {}, evaluation.fresh
    for p in parameters.free:
        found = evaluation.identified.get(p.name)
        rows[p.name] = {
            "initial": _number(result.initial[p.name]),
            "fitted": _number(result.fitted[p.name]),
            "unit": p.unit,
            "true": float(true[p.name]) if p.name in true else None,
            "interval": list(found.interval) if found and found.interval else None,
            "identifiable": found.identifiable if found else None,
            "reason": found.reason if found else "not measured",
            "correlations": dict(found.correlations) if found else {},
            "found_again": _number(evaluation.found_again[p.name]) if p.name in evaluation.found_again else None,
        }
    good = result.history["fc_correlation"][result.history["finite"]] if result.history else np.array([])
    last = good[-10:]
    ceiling = evaluation.ceiling
    summary = {
        "status": result.status,
        "parameters": rows,
        "fc_correlation": {
            "initial": evaluation.initial,
            "training": float(last.mean()) if len(last) else None,
            "held_out": {"split": split} | evaluation.held_out if evaluation.held_out else None,
            "fresh_seeds": _fresh(fresh) | {"drop": float(last.mean()) - fresh.mean if len(last) else None},
            "views": evaluation.views,
        },
        "baselines": dict(evaluation.baselines),
        "nulls": dict(evaluation.nulls),
        "surrogates": {
            kind: {
                "score": test.score,
                "mean": float(np.mean(scored)) if len(scored) else None,
                "sd": float(np.std(scored, ddof=1)) if len(scored) > 1 else None,
                "n": len(test.surrogates),
                "without_score": len(test.surrogates) - len(scored),
                "p": test.p,
            }
            for kind, test in evaluation.surrogates.items()
            for scored in [test.surrogates[np.isfinite(test.surrogates)]]
        },
        "ceiling": ceiling._asdict() if ceiling else None,
        "group_ceiling": list(evaluation.group_ceiling) if evaluation.group_ceiling else None,
        "wall_seconds": wall_seconds if wall_seconds is not None else result.seconds,
        "compile_seconds": result.compile_seconds,
        "steps": len(result.history.get("loss", [])),
        "chosen": result.chosen,
        "search": _search(solution),
        "gradients": solution.health._asdict() if solution else None,
        "bad_steps": result.bad_steps,
        "notes": [*result.notes, *evaluation.notes, *notes],
        "versions": versions(),
        "seed": seed,
    }
    return _without_nan(summary)


def summarize_simulation(scores: SeedScores, baselines: Mapping[str, float], wall_seconds: float) -> dict[str, Any]:
    """What a simulation that was not fitted scores, ready for JSON, in the layout of :func:`summarize`.

    Parameters
    ----------
    scores : SeedScores
    baselines : mapping
        See :func:`fitting.evaluate.structural_baselines`.
    wall_seconds : float

    Returns
    -------
    dict
    """
    summary = {
        "status": "simulated" if np.isfinite(scores.mean) else "diverged",
        "parameters": {},
        "fc_correlation": {"held_out": None, "fresh_seeds": _fresh(scores)},
        "baselines": dict(baselines),
        "wall_seconds": wall_seconds,
        "versions": versions(),
    }
    return _without_nan(summary)


def _fresh(scores: SeedScores) -> dict[str, Any]:
    count = len(scores.fc_correlation)
    return {"mean": scores.mean, "sd": scores.sd if count > 1 else None, "n": count, "seconds": scores.seconds}


def headline(summary: Mapping[str, Any]) -> str:
    """The sentence that a summary comes down to: how much the model explains, and what does so without it.

    With a noise ceiling, shares of the variance that can be explained; without one, of all variance between pairs.
    """
    scores = summary["fc_correlation"]
    held_out, fresh = scores["held_out"], scores["fresh_seeds"]
    r, baselines = (held_out["r"], held_out["baselines"]) if held_out else (fresh["mean"], summary["baselines"])
    on = " on pairs that it has not seen" if held_out else ""
    if r is None:
        return "The fitted model has no score: its simulations are not finite."
    ceiling = summary["ceiling"]["ceiling"] if summary["ceiling"] else 1.0
    of = "of the explainable variance" if summary["ceiling"] else "of the variance between pairs of regions"

    def share(r):
        return f"{100 * max(r, 0.0) ** 2 / ceiling**2:.0f} %"

    sentence = f"The fitted model explains {share(r)} {of}{on} (r = {r:.3f} on fresh noise"
    sentence += f", where {ceiling:.3f} is the best possible)" if summary["ceiling"] else ")"
    best = max(baselines, key=lambda name: baselines[name])
    sentence += f"; fibre length alone explains {share(baselines['minus_length'])}"
    if best != "minus_length":
        sentence += (
            f", and the best predictor without a model, {BASELINE_NAMES.get(best, best)}, {share(baselines[best])}"
        )
    return sentence + "."


#: What baselines are called in tables and figures.
BASELINE_NAMES = {
    "structural_weights": "structural weights",
    "log_structural_weights": "log structural weights",
    "minus_length": "minus fibre length",
    "linear_regression": "regression on weights, log weights and length",
    "spatial_autoregression": "spatial autoregression",
    "region_effects": "an effect per region",
    "rank_one": "a loading per region",
    "rank_one_and_constant": "a loading per region and a constant",
    "rank_two": "two loadings per region",
    "region_effects_and_geometry": "an effect per region, and geometry",
}


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
    evaluation: Evaluation,
    connectome: xr.Dataset,
    fs: float,
    *,
    parameters: Parameters | None = None,
    dropped: Sequence[str] = (),
    searched: SearchResult | None = None,
) -> xr.Dataset:
    """Everything of a fit that figures are made of.

    Parameters
    ----------
    result : FitResult
    target : Target
    evaluation : Evaluation
    connectome : Dataset
        Its labels name the regions.
    fs : float
        Rate of the traces in Hz.
    parameters : Parameters, optional
        Those that are per region get a map.
    dropped : sequence of str
        Regions of the data that the connectome does not have.
    searched : SearchResult, optional

    Returns
    -------
    Dataset
        Target and fitted connectivity, traces of the fitted model, the history of the fit, profiles of the likelihood,
        scores of surrogates, and fitted maps.
    """
    fresh, labels = evaluation.fresh, connectome["target"].values.tolist()
    pair = ("region", "other")
    data: dict[str, Any] = {
        "target_fc": (pair, np.asarray(target.fc)),
        "fitted_fc": (pair, np.asarray(fresh.fc), {"description": "mean over fresh noise seeds"}),
        "traces": (("time", "region"), np.asarray(fresh.signals), {"description": "one fresh run"}),
        "fresh_fc_correlation": (("seed",), fresh.fc_correlation),
        "lengths": (pair, connectome.lengths.values, {"units": "mm"}),
    }
    if "centres" in connectome:
        data["centres"] = (("region", "axis"), connectome.centres.values, {"units": "mm"})
    for name, values in result.history.items():
        values = values.astype(np.int8) if values.dtype == bool else values
        data[f"history_{name}"] = (("step", "region") if values.ndim == 2 else ("step",), values)
    coords: dict[str, Any] = {
        "region": list(labels),
        "other": list(labels),
        "time": ("time", np.arange(len(fresh.signals)) / fs, {"units": "s"}),
    }
    for name, profile in evaluation.profiles.items():
        coords[f"profile_{name}"] = (f"profile_{name}", profile.values, {"units": profile.unit})
        data[f"deviance_{name}"] = ((f"profile_{name}",), profile.deviance)
        data[f"profile_fc_correlation_{name}"] = ((f"profile_{name}",), profile.fc_correlation)
    for kind, test in evaluation.surrogates.items():
        data[f"surrogate_{kind}"] = (("surrogate",), test.surrogates)
    for name, values in (searched.history if searched else {}).items():
        data[f"search_{name}"] = (("generation", "candidate"), values)
    for p in parameters.free if parameters else ():
        if p.per_region:
            data[f"fitted_{p.name}"] = ("region", np.asarray(result.fitted[p.name]), {"units": p.unit})
    return xr.Dataset(
        data,
        coords=coords,
        attrs={"dropped_regions": ", ".join(dropped), "status": result.status},
    )


def _show(value) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return f"{np.mean(value):.4g} ({np.min(value):.3g} to {np.max(value):.3g})"
    return f"{value:.4g}"


def _score(value) -> str:
    return "-" if value is None else f"{value:.3f}"


def table(summary: Mapping[str, Any]) -> Group:
    """The final tables for the terminal: parameters, and scores beside the baselines."""
    fitted = Table(title="Parameters", title_justify="left")
    head, *rows = parameter_rows(summary)
    for column in head:
        fitted.add_column(column)
    for row in rows:
        fitted.add_row(*row)
    scores = Table(title="FC correlation with the target", title_justify="left")
    scores.add_column("predictor")
    scores.add_column("r", justify="right")
    for section in score_rows(summary):
        for name, value in section:
            scores.add_row(name, value)
        scores.add_section()
    lines = [headline(summary)]
    lines += [
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


def parameter_rows(summary: Mapping[str, Any]) -> list[list[str]]:
    """Every free parameter as a row of text, the head first."""
    rows = [["parameter", "initial", "fitted", "true", "unit", "95 % interval", "identifiable"]]
    for name, p in summary["parameters"].items():
        interval = f"{p['interval'][0]:.3g} to {p['interval'][1]:.3g}" if p["interval"] else "-"
        answer = {True: "yes", False: "not identifiable", None: "not measured"}[p["identifiable"]]
        unit = "" if p["unit"] == "1" else p["unit"]
        rows.append([name, _show(p["initial"]), _show(p["fitted"]), _show(p["true"]), unit, interval, answer])
    return rows


def score_rows(summary: Mapping[str, Any]) -> list[list[tuple[str, str]]]:
    """Every score beside what it is worth, in sections, as text: for tables."""
    fresh = summary["fc_correlation"]["fresh_seeds"]

    def spread(value, sd):
        return _score(value) + (f" ± {sd:.3f}" if sd is not None and value is not None else "")

    def baselines(values, words=""):
        return [(f"baseline{words}: {BASELINE_NAMES.get(name, name)}", _score(r)) for name, r in values.items()]

    sections = [
        [
            (f"fitted model, {fresh['n']} fresh seeds of {fresh['seconds']:g} s", spread(fresh["mean"], fresh["sd"])),
            ("fitted model, last training steps", _score(summary["fc_correlation"]["training"])),
            ("drop from training to fresh seeds", _score(fresh["drop"])),
            ("initial parameters, fresh seeds", _score(summary["fc_correlation"]["initial"])),
        ]
    ]
    if summary["ceiling"]:
        sections[0].append(("best possible: the recording's noise ceiling", _score(summary["ceiling"]["ceiling"])))
    if summary["group_ceiling"]:
        low, high = summary["group_ceiling"]
        sections[0].append(("other subjects' mean with each; with each included", f"{low:.3f} to {high:.3f}"))
    held_out = summary["fc_correlation"]["held_out"]
    if held_out:
        rows = [("held out: simulated, fresh seeds", spread(held_out["r"], held_out["sd"]))]
        if held_out.get("response") is not None:
            rows.insert(0, (f"held out ({held_out['split']}): linear response", _score(held_out["response"])))
        sections.append(rows + baselines(held_out["baselines"], ", held out"))
    for name, view in summary["fc_correlation"]["views"].items():
        rows = [(f"{name}: fitted model, fresh seeds", spread(view["r"], view["sd"]))]
        sections.append(rows + baselines(view.get("baselines", {}), f", {name}"))
    nulls = [(f"same parameters, {name.replace('_', ' ')}", _score(r)) for name, r in summary["nulls"].items()]
    for kind, test in summary["surrogates"].items():
        lost = f", {test['without_score']} without a steady state" if test["without_score"] else ""
        words = f"same parameters, {test['n']} {kind.replace('_', ' ')} connectomes (p = {test['p']:.2g}{lost})"
        nulls.append((words, spread(test["mean"], test["sd"])))
    return [section for section in (*sections, nulls, baselines(summary["baselines"])) if section]


def read_result(folder: Path, parameters: Parameters) -> tuple[FitResult, dict[str, Any]]:
    """A fit that was written before, and its summary.

    Parameters
    ----------
    folder : Path
        With ``summary.json`` and ``result.nc``.
    parameters : Parameters
        Of the problem that was fitted.

    Returns
    -------
    FitResult
    dict

    Raises
    ------
    InputError
        If a file is missing or damaged, or the fit had other parameters.
    """
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        with xr.open_dataset(folder / "result.nc", engine="h5netcdf") as data:
            history = {
                str(name).removeprefix("history_"): data[name].values
                for name in data
                if str(name).startswith("history_")
            }
        rows = summary["parameters"]
        values = {which: {name: np.asarray(p[which]) for name, p in rows.items()} for which in ("initial", "fitted")}
    except FileNotFoundError as error:
        raise InputError(f"{folder} holds no finished fit: {Path(str(error.filename)).name} is missing") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"the fit in {folder} cannot be read: {error}") from None
    free = [p.name for p in parameters.free]
    if set(free) != set(rows):
        raise InputError(f"the fit in {folder} has the parameters {', '.join(rows)}, not {', '.join(free)}")
    if "finite" in history:
        history["finite"] = history["finite"].astype(bool)
    point = parameters.point(values["fitted"])
    fixed = {p.name: p.value for p in parameters.parameters if not p.free}
    fitted, initial = (
        {name: jax.numpy.asarray(v) for name, v in (fixed | values[w]).items()} for w in ("fitted", "initial")
    )
    result = FitResult(
        summary["status"],
        initial,
        fitted,
        point,
        history,
        summary["chosen"],
        summary["bad_steps"],
        summary["compile_seconds"],
        summary["wall_seconds"],
    )
    return result, summary

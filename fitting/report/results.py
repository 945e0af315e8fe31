"""A fit as one netCDF file, and read again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from fitting.data import centres_of
from fitting.errors import InputError
from fitting.evaluate import Evaluation
from fitting.optimize import Candidate, Fit, Problem
from fitting.report.summary import Summary


def to_dataset(fit: Fit, evaluation: Evaluation, dropped: Sequence[str] = ()) -> xr.Dataset:
    """Everything of a fit that figures are made of.

    Parameters
    ----------
    fit : Fit
    evaluation : Evaluation
    dropped : sequence of str
        Regions of the data that the connectome does not have.

    Returns
    -------
    Dataset
        Target and fitted connectivity, traces of the fitted model, the history of the fit, profiles of the likelihood,
        scores of surrogates, fitted maps, and the unconstrained points where the fit began and ended: values are
        computed from them, and would lead back to them only but for rounding.
    """
    fresh, connectome, labels = evaluation.fresh, fit.problem.network.connectome, list(fit.problem.network.labels)
    pair = ("region", "other")
    data: dict[str, Any] = {
        "target_fc": (pair, fresh.target),
        "fitted_fc": (pair, fresh.fc, {"description": "mean over fresh noise seeds"}),
        "traces": (("time", "region"), np.asarray(fresh.signals), {"description": "one fresh run"}),
        "fresh_fc_correlation": (("seed",), fresh.fc_correlation),
        "lengths": (pair, connectome.lengths.values, {"units": "mm"}),
    }
    centres = centres_of(connectome)
    if centres is not None:
        data["centres"] = (("region", "axis"), centres, {"units": "mm"})
    for name, values in fit.history.items():
        values = values.astype(np.int8) if values.dtype == bool else values
        data[f"history_{name}"] = (("step", "region") if values.ndim == 2 else ("step",), values)
    coords: dict[str, Any] = {
        "region": labels,
        "other": labels,
        "time": ("time", np.arange(len(fresh.signals)) / fit.problem.observation.fs, {"units": "s"}),
    }
    for name, profile in evaluation.profiles.items():
        coords[f"profile_{name}"] = (f"profile_{name}", profile.values, {"units": profile.unit})
        data[f"deviance_{name}"] = ((f"profile_{name}",), profile.deviance)
        data[f"profile_fc_correlation_{name}"] = ((f"profile_{name}",), profile.fc_correlation)
    for kind, test in evaluation.surrogates.items():
        data[f"surrogate_{kind}"] = (("surrogate",), test.surrogates)
    for name, values in (fit.search.history if fit.search else {}).items():
        data[f"search_{name}"] = (("generation", "candidate"), values)
    for p in fit.problem.parameters:
        if p.free and (p.per_region or p.maps):
            data[f"fitted_{p.name}"] = ("region", np.asarray(fit.fitted[p.name]), {"units": p.unit})
    for what, point in (("point", fit.point), ("start", fit.start)):
        for name, value in point.items():
            data[f"{what}_{name}"] = (("region",)[: np.ndim(value)], np.asarray(value))
    said = {"dropped_regions": ", ".join(dropped), "status": fit.status, "notes": "\n".join(fit.notes)}
    return xr.Dataset(data, coords=coords, attrs=said)


def read_fit(folder: Path, problem: Problem) -> tuple[Fit, Summary]:
    """A fit that was written before, and its summary.

    Parameters
    ----------
    folder : Path
        With ``summary.json`` and ``result.nc``.
    problem : Problem
        That was fitted.

    Returns
    -------
    Fit
    Summary

    Raises
    ------
    InputError
        If a file is missing or damaged, or the fit had other parameters.
    """
    summary = Summary.read(folder / "summary.json")
    try:
        with xr.open_dataset(folder / "result.nc", engine="h5netcdf") as data:
            stored = {str(name): variable.values for name, variable in data.data_vars.items()}
            # Earlier versions did not keep them.
            notes = str(data.attrs.get("notes", "")).splitlines()
    except FileNotFoundError:
        raise InputError(f"{folder} holds no finished fit: result.nc is missing") from None
    except (OSError, ValueError) as error:
        raise InputError(f"the fit in {folder} cannot be read: {error}") from None
    free = [p.name for p in problem.parameters.free]
    if set(free) != set(summary.parameters):
        raise InputError(
            f"the fit in {folder} has the parameters {', '.join(summary.parameters)}, not {', '.join(free)}"
        )
    history = {name.removeprefix("history_"): v for name, v in stored.items() if name.startswith("history_")}
    if "finite" in history:
        history["finite"] = history["finite"].astype(bool)
    points = []
    for which, what in (("fitted", "point"), ("initial", "start")):
        values = {name: np.asarray(getattr(summary.parameters[name], which)) for name in free}
        # Earlier versions kept the values only.
        exact = {name: stored[f"{what}_{name}"] for name in free if f"{what}_{name}" in stored}
        points.append({**problem.parameters.point(values), **exact})
    fit = replace(
        Fit.begin(problem),
        candidates=(Candidate(points[0]),),
        start=points[1],
        status=summary.status,
        chosen=summary.chosen,
        history=history,
        bad_steps=summary.bad_steps,
        notes=tuple(notes),
        seconds=summary.wall_seconds,
        compile_seconds=summary.compile_seconds,
    )
    return fit, summary

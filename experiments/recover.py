"""How well known parameters are found again: ``python experiments/recover.py experiment=recovery``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
import jax
import numpy as np
from omegaconf import DictConfig
from rich.console import Console
from scripting.build import setup
from scripting.command import run, sentences
from scripting.outcome import bars
from scripting.runs import kept, study_folder

from fitting import InputError
from fitting.evaluate import DEVIANCE_95, fresh_seeds, intervals, profile_loss, recovery
from fitting.progress import Progress, Reporter
from fitting.report import figures
from fitting.units import magnitude


def drawn(config: DictConfig, units: dict[str, str]) -> list[dict[str, float]]:
    """True values over the ranges of a study: log-uniform, or uniform where a range holds zero."""
    ranges = {n: pair for n, pair in config.study.range.items() if pair is not None}
    ends = {n: [float(magnitude(v, units.get(n, "1"), n)) for v in pair] for n, pair in ranges.items()}
    rng = np.random.default_rng(config.seed)

    def draw(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))) if low > 0 else rng.uniform(low, high))

    return [{name: draw(*pair) for name, pair in ends.items()} for _ in range(config.study.draws)]


def setup_of(config: DictConfig, number: int, true: dict[str, float], progress: Reporter):
    """The problem of one draw."""
    config.data.truth, config.data.seed = {**config.data.truth, **true}, 1000 + number
    return setup(config, progress=progress)


def fit_one(config: DictConfig, number: int, true: dict[str, float], progress: Reporter) -> dict[str, Any]:
    """Make a recording, fit it, score the fit, and measure intervals."""
    prepared = setup_of(config, number, true, progress)
    fit = prepared.fit(prepared.problem, config.seed + number, progress=progress)
    key = jax.random.fold_in(jax.random.key(config.seed + 1_000_000), number)
    verified = replace(fit.problem, predictor=prepared.verifier)
    fresh = fresh_seeds(verified, fit.fitted, key, config.evaluation.fresh_seeds, progress=progress)
    known, _, _ = intervals(fit, prepared.evaluation, key, progress)
    told = fit.reported(fit.point)
    return {
        "true": true,
        "fitted": {name: float(told[name]) for name in true},
        "intervals": {name: known[name].interval for name in true if name in known},
        "fc_correlation": fresh.agreement().r,
        "gradients": fit.gradients.reason if fit.gradients else "",
        "seconds": fit.seconds,
    }


def profile_one(config: DictConfig, number: int, row: dict[str, Any], name: str, progress: Reporter) -> dict[str, Any]:
    """The profile of the loss along a parameter of one draw, and whether its interval holds the true value."""
    prepared = setup_of(config, number, row["true"], progress)
    key = jax.random.fold_in(jax.random.key(config.seed + 1), number)
    point = prepared.problem.parameters.point(row["fitted"])
    profile = profile_loss(prepared.problem, point, name, key, progress=progress)
    low, high = profile.identifiability.interval or (-np.inf, np.inf)
    return {
        "values": profile.values.tolist(),
        "deviance": profile.deviance.tolist(),
        "interval": [low, high],
        "holds_truth": bool(low <= row["true"][name] <= high),
    }


def covered(rows, name: str) -> dict[str, int]:
    """How many intervals of a parameter there are, and how many hold its true value."""
    pairs = [(row["intervals"][name], row["true"][name]) for row in rows if row["intervals"].get(name)]
    return {"intervals": len(pairs), "covered": sum(low <= true <= high for (low, high), true in pairs)}


def report(rows, profiles, errors, config: DictConfig, units, folder: Path):
    """Write the table and the figures, and print what they say."""
    true, fitted = (
        {name: np.array([row[which][name] for row in rows]) for name in errors} for which in ("true", "fitted")
    )
    figures.save(figures.recovery(true, fitted, units), folder / "figures" / "recovery")
    console = Console()
    for name, row in errors.items():
        error, of = (
            (f"{row['median_error']:.2f}", "correlation")
            if "median_error" in row
            else (f"{100 * row['median_relative_error']:.1f} %", "correlation of logarithms")
        )
        console.print(
            f"{name}: median error {error}, {of} {row['correlation']:.2f}, {row['n']} draws; {row['covered']} of "
            f"{row['intervals']} intervals hold the truth"
        )
    for name, each in profiles.items():
        if each:
            chosen = list(each)
            shown = ([each[i] for i in chosen], true[name][chosen], fitted[name][chosen])
            picture = figures.profiles_against_truth(*shown, name, units[name], DEVIANCE_95)
            figures.save(picture, folder / "figures" / f"profiles_{name}")
        console.print(
            f"{name}: missed by more than {100 * config.study.aim:g} % in {len(each)} draws; the profile's 95 % "
            f"interval holds the truth in {sum(c['holds_truth'] for c in each.values())} of them"
        )
    console.print(f"Written: {folder}", soft_wrap=True)


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
@sentences
def main(config: DictConfig) -> float:
    """Draw, fit, and write a table and a figure; returns the median relative error of the first parameter."""
    if config.study is None:
        raise InputError("name a study: experiment=recovery")
    if config.study.draws < 2:
        raise InputError(f"study.draws must be at least 2, or there is nothing to correlate; got {config.study.draws}")
    folder = study_folder(config)
    units = {name: settings.get("unit", "1") for name, settings in config.parameters.items()}
    draws, rows, profiles = drawn(config, units), [], {name: {} for name in config.study.profile}
    with bars(Console()) as show:
        for number, true in enumerate(draws):
            rows.append(kept(folder / f"draw_{number:02d}.json", lambda: fit_one(config, number, true, show)))  # noqa: B023
            show(Progress("draws", number + 1, len(draws)))
        for name in config.study.profile:
            for number, row in enumerate(rows):
                if abs(row["fitted"][name] / row["true"][name] - 1) > config.study.aim:
                    file = folder / f"profile_{number:02d}_{name}.json"
                    profiles[name][number] = kept(file, lambda: profile_one(config, number, row, name, show))  # noqa: B023
    true, fitted = ({n: np.array([row[which][n] for row in rows]) for n in draws[0]} for which in ("true", "fitted"))
    signed = [name for name, pair in config.study.range.items() if pair is not None and name not in units]
    errors = recovery(true, fitted, signed)
    for name in errors:
        errors[name] |= covered(rows, name)
    (folder / "recovery.json").write_text(json.dumps(errors, indent=2) + "\n", encoding="utf-8")
    report(rows, profiles, errors, config, units, folder)
    return next(iter(errors.values()))["median_relative_error"]


if __name__ == "__main__":
    run(main)

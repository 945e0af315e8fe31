"""How well known parameters are found again: ``python experiments/recover.py experiment=recovery``."""

from __future__ import annotations

import json
from pathlib import Path

import hydra
import jax
import numpy as np
from build import optimizer_of, search_of, settings_of, setup
from command import run, sentences
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress

from fitting import InputError
from fitting.evaluate import DEVIANCE_95, fresh_seeds, profile_loss, recovery
from fitting.optimize import solve
from fitting.report import figures
from fitting.units import magnitude


def profile_of(problem, row: dict, name: str, key, averaged: int) -> dict:
    """The profile of the loss along a parameter of one draw, and whether its interval holds the true value."""
    profile = profile_loss(problem, problem.parameters.point(row["fitted"]), name, key, averaged=averaged)
    low, high = profile.identifiability.interval or (-np.inf, np.inf)
    return {
        "values": profile.values.tolist(),
        "deviance": profile.deviance.tolist(),
        "interval": [low, high],
        "holds_truth": bool(low <= row["true"][name] <= high),
    }


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
@sentences
def main(config: DictConfig) -> float:
    """Draw, fit, and write a table and a figure; returns the median relative error of the first parameter."""
    if config.study is None:
        raise InputError("name a study: experiment=recovery")
    folder = Path(HydraConfig.get().runtime.output_dir)
    units = {name: settings.get("unit", "1") for name, settings in config.parameters.items()}
    ends = {n: [float(magnitude(v, units[n], n)) for v in pair] for n, pair in config.study.range.items()}
    rng = np.random.default_rng(config.seed)
    draws = [
        {name: float(np.exp(rng.uniform(*np.log(pair)))) for name, pair in ends.items()}
        for _ in range(config.study.draws)
    ]
    rows = []
    with Progress() as bar:
        task = bar.add_task("recovery", total=len(draws))
        for number, true in enumerate(draws):
            file = folder / f"draw_{number:02d}.json"
            if not file.is_file():
                config.data.truth, config.data.seed = true, 1000 + number
                problem = setup(config).problem
                fit_key, fresh_key = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), number))
                solution = solve(
                    problem,
                    optimizer_of(config),
                    settings_of(config),
                    search_of(config),
                    key=fit_key,
                    on_report=lambda report: bar.update(task, description=f"{report.stage} {report.text}"),
                )
                duration = magnitude(config.evaluation.duration, "ms", "evaluation.duration")
                fresh = fresh_seeds(problem, solution.result.fitted, fresh_key, config.evaluation.fresh_seeds, duration)
                row = {
                    "true": true,
                    "fitted": {name: float(solution.result.fitted[name]) for name in true},
                    "fc_correlation": fresh.mean,
                    "gradients": solution.health.reason,
                    "seconds": solution.result.seconds,
                }
                file.write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")
            rows.append(json.loads(file.read_text(encoding="utf-8")))
            bar.update(task, completed=number + 1)
        missed = [
            (number, name)
            for number, row in enumerate(rows)
            for name in config.study.profile
            if abs(row["fitted"][name] / row["true"][name] - 1) > config.study.aim
        ]
        task = bar.add_task("profiles of what was missed", total=len(missed))
        for done, (number, name) in enumerate(missed):
            file = folder / f"profile_{number:02d}_{name}.json"
            if not file.is_file():
                config.data.truth, config.data.seed = rows[number]["true"], 1000 + number
                key = jax.random.fold_in(jax.random.key(config.seed + 1), number)
                found = profile_of(setup(config).problem, rows[number], name, key, max(1, config.fit.average))
                file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
            rows[number].setdefault("profiles", {})[name] = json.loads(file.read_text(encoding="utf-8"))
            bar.update(task, completed=done + 1)
    true = {name: np.array([row["true"][name] for row in rows]) for name in ends}
    fitted = {name: np.array([row["fitted"][name] for row in rows]) for name in ends}
    found = recovery(true, fitted)
    curves = {
        name: {i: row["profiles"][name] for i, row in enumerate(rows) if name in row.get("profiles", {})}
        for name in config.study.profile
    }
    for name, each in curves.items():
        found[name] |= {"missed": len(each), "missed_but_in_interval": sum(c["holds_truth"] for c in each.values())}
    (folder / "recovery.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    figures.save(figures.recovery(true, fitted, units), folder / "figures" / "recovery")
    for name, each in curves.items():
        if each:
            chosen = list(each)
            shown = ([each[i] for i in chosen], true[name][chosen], fitted[name][chosen])
            picture = figures.profiles_against_truth(*shown, name, units[name], DEVIANCE_95)
            figures.save(picture, folder / "figures" / f"profiles_{name}")
    console = Console()
    for name, row in found.items():
        console.print(
            f"{name}: median error {100 * row['median_relative_error']:.1f} %, "
            f"correlation of logarithms {row['correlation']:.2f}, {row['n']} draws"
        )
    for name in curves:
        console.print(
            f"{name}: missed by more than {100 * config.study.aim:g} % in {found[name]['missed']} draws; the profile's "
            f"95 % interval holds the truth in {found[name]['missed_but_in_interval']} of them"
        )
    console.print(f"Written: {folder}", soft_wrap=True)
    return next(iter(found.values()))["median_relative_error"]


if __name__ == "__main__":
    run(main)

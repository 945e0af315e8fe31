"""Which strategy survives a poor start: ``python experiments/poor_start.py experiment=poor_start``."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import hydra
import jax
import numpy as np
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from scripting.build import plain, setup
from scripting.command import run, sentences
from scripting.outcome import bars
from scripting.runs import kept, study_folder

from fitting import InputError
from fitting.evaluate import fresh_seeds
from fitting.optimize import Search, solve
from fitting.progress import Progress

COLUMNS = ("strategy", "start", "within 0.03", "median r", "worst r", "simulations", "gradients", "seconds")


def strategies(config: DictConfig, stages) -> dict[str, list]:
    """The stages of every strategy that is compared."""
    descent = [stage for stage in stages if stage.name == "descent"]
    wide = {name: Search(**plain(config.search) | plain(config.study[name])) for name in ("alone", "reference")}
    return {
        "default": list(stages),
        "Adam alone": descent,
        "CMA-ES alone": [wide["alone"]],
        "reference": [wide["reference"]],
    }


def attempt(config: DictConfig, name: str, drive: float, seed: int) -> dict[str, Any]:
    """Fit by one strategy from one start, and score the result on the same fresh noise as all others."""
    config.parameters.drive.value = drive
    prepared = setup(config)
    key = jax.random.fold_in(jax.random.key(config.seed), seed)
    fit = solve(prepared.problem, strategies(config, prepared.stages)[name], key=key)
    verified, fresh_key = replace(fit.problem, predictor=prepared.verifier), jax.random.key(config.seed + 1_000_000)
    raced = int(np.isfinite(fit.race.losses).sum()) if fit.race else 0
    return {
        "strategy": name,
        "drive": drive,
        "seconds": fit.seconds,
        "fitted": {name: float(value) for name, value in fit.fitted.items()},
        "score": fresh_seeds(verified, fit.fitted, fresh_key, config.evaluation.fresh_seeds).mean,
        "searched": fit.search.evaluations if fit.search else 0,
        "gradients": raced + len(fit.history.get("loss", ())),
    }


def line(rows: list[dict[str, Any]], best: float) -> tuple[str, ...]:
    """One line of the table: a strategy from a start."""
    scores = np.array([row["score"] for row in rows])
    means = [float(np.mean([row[key] for row in rows])) for key in ("searched", "gradients", "seconds")]
    good = int((scores > best - 0.03).sum())
    cells = (f"{good} of {len(rows)}", f"{np.median(scores):.3f}", f"{scores.min():.3f}")
    return rows[0]["strategy"], f"drive {rows[0]['drive']:g}", *cells, *(f"{mean:.0f}" for mean in means)


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
@sentences
def main(config: DictConfig) -> float:
    """Run every strategy from every start and write a table; returns the share of good ends of the default one."""
    if config.study is None:
        raise InputError("name a study: experiment=poor_start")
    folder = study_folder(config)
    drives = [float(drive) for drive in config.study.drives]
    names = ("default", "Adam alone", "CMA-ES alone")
    jobs = [("reference", drives[0], 0)]
    jobs += [(name, drive, seed) for seed in range(config.study.seeds) for drive in drives for name in names]
    rows = []
    with bars(Console()) as show:
        for number, (name, drive, seed) in enumerate(jobs):
            file = folder / f"{name.replace(' ', '_')}_{drive:g}_{seed:02d}.json"
            rows.append(kept(file, lambda: attempt(config, name, drive, seed)))  # noqa: B023
            show(Progress("fits", number + 1, len(jobs)))
    best = max(row["score"] for row in rows)
    table = Table(*COLUMNS, title=f"Best score found: {best:.3f}", title_justify="left")
    for name in names:
        for drive in drives:
            table.add_row(*line([row for row in rows if (row["strategy"], row["drive"]) == (name, drive)], best))
    (folder / "poor_start.json").write_text(json.dumps({"best": best, "rows": rows}, indent=2) + "\n")
    Console().print(table)
    scores = [row["score"] for row in rows if row["strategy"] == "default"]
    return float(np.mean(np.array(scores) > best - 0.03))


if __name__ == "__main__":
    run(main)

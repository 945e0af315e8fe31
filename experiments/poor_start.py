"""Which strategy survives a poor start: ``python experiments/poor_start.py experiment=poor_start``."""

from __future__ import annotations

import json
import time
from pathlib import Path

import hydra
import jax
import numpy as np
from build import optimizer_of, plain, search_of, settings_of, setup
from command import run, sentences
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from fitting import InputError
from fitting.evaluate import fresh_seeds
from fitting.optimize import SearchSettings, fit, search, solve
from fitting.units import magnitude


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
@sentences
def main(config: DictConfig) -> float:
    """Run every strategy from every start and write a table; returns the share of good ends of the default one."""
    if config.study is None:
        raise InputError("name a study: experiment=poor_start")
    folder = Path(HydraConfig.get().runtime.output_dir)
    settings, searching = settings_of(config), search_of(config)
    duration = magnitude(config.evaluation.duration, "ms", "evaluation.duration")
    fresh_key = jax.random.key(config.seed + 1_000_000)

    def default(problem, key):
        solution = solve(problem, optimizer_of(config), settings, searching, key=key)
        steps = len(solution.result.history.get("loss", []))
        racing = np.isfinite(solution.raced.losses).sum() if solution.raced else 0
        return solution.result.fitted, {"searched": solution.searched.evaluations, "gradients": int(racing) + steps}

    def gradients(problem, key):
        result = fit(problem, optimizer_of(config), settings, key=key)
        return result.fitted, {"searched": 0, "gradients": len(result.history["loss"])}

    def candidates(problem, key, which):
        found = search(problem, SearchSettings(**plain(config.search) | plain(config.study[which])), key=key)
        return problem.parameters.values(found.candidates[0].point), {"searched": found.evaluations, "gradients": 0}

    strategies = {
        "default": default,
        "Adam alone": gradients,
        "CMA-ES alone": lambda problem, key: candidates(problem, key, "alone"),
    }

    def run(name, strategy, drive, seed):
        file = folder / f"{name.replace(' ', '_')}_{drive:g}_{seed:02d}.json"
        if not file.is_file():
            config.parameters.drive.value = drive
            problem = setup(config).problem
            began = time.perf_counter()
            fitted, evaluations = strategy(problem, jax.random.fold_in(jax.random.key(config.seed), seed))
            row = {
                "strategy": name,
                "drive": drive,
                "seconds": time.perf_counter() - began,
                "fitted": {key: float(value) for key, value in fitted.items()},
                # The same fresh noise for all.
                "score": fresh_seeds(problem, fitted, fresh_key, config.evaluation.fresh_seeds, duration).mean,
            } | evaluations
            file.write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")
        return json.loads(file.read_text(encoding="utf-8"))

    drives = [float(drive) for drive in config.study.drives]
    rows = []
    with Progress() as bar:
        task = bar.add_task("studies", total=len(strategies) * len(drives) * config.study.seeds + 1)
        best = run("reference", lambda p, key: candidates(p, key, "reference"), drives[0], 0)["score"]
        bar.advance(task)
        for seed in range(config.study.seeds):
            for drive in drives:
                for name, strategy in strategies.items():
                    rows.append(run(name, strategy, drive, seed))
                    bar.advance(task)
    best = max(best, *(row["score"] for row in rows))
    table = Table(title=f"Best score found: {best:.3f}", title_justify="left")
    for column in ("strategy", "start", "within 0.03", "median r", "worst r", "simulations", "gradients", "seconds"):
        table.add_column(column)
    found = []
    for name in strategies:
        for drive in drives:
            of = [row for row in rows if row["strategy"] == name and row["drive"] == drive]
            scores = np.array([row["score"] for row in of])
            good = int((scores > best - 0.03).sum())
            means = [float(np.mean([row[key] for row in of])) for key in ("searched", "gradients", "seconds")]
            found.append({"strategy": name, "drive": drive, "good": good, "scores": scores.tolist()})
            table.add_row(
                name, f"drive {drive:g}", f"{good} of {len(of)}", f"{np.median(scores):.3f}", f"{scores.min():.3f}",
                *(f"{mean:.0f}" for mean in means),
            )  # fmt: skip
    (folder / "poor_start.json").write_text(json.dumps({"best": best, "rows": found}, indent=2) + "\n")
    Console().print(table)
    return sum(row["good"] for row in found if row["strategy"] == "default") / (len(drives) * config.study.seeds)


if __name__ == "__main__":
    run(main)

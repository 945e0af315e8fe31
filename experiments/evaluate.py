"""Evaluate a stored fit again: ``python experiments/evaluate.py run=FOLDER [evaluation.fresh_seeds=20 ...]``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
import jax
from build import Setup, evaluation_of, setup
from command import run, sentences
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from runs import RUN_FILE, begin

from fitting import InputError
from fitting.devices import first_process
from fitting.evaluate import evaluate
from fitting.optimize import FitResult, Solution
from fitting.report import draw, read_result, summarize, table, to_dataset, write_html


@contextmanager
def progress(console: Console):
    """A bar for each stage of long work, called with the stage, what is done of it, all of it, and words."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[info]}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        tasks: dict[str, Any] = {}

        def show(stage: str, done: int, total: int | None, text: str = ""):
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total, info="")
            bar.update(tasks[stage], completed=done, total=total, info=text)

        yield show


def announced(config: DictConfig, console: Console, fit: bool = True) -> Setup:
    """What a config describes; says what to expect of it, and shows how far a recording is that is simulated."""
    with progress(console) as show:
        return setup(
            config,
            announce=lambda expected: console.print(str(expected)),
            fit=fit,
            on_part=lambda done, total: show("simulating the recording", done, total),
        )


def evaluate_and_write(
    config: DictConfig,
    made: Setup,
    result: FitResult,
    folder: Path,
    console: Console,
    key,
    began: float,
    solution: Solution | None = None,
    earlier: dict[str, Any] | None = None,
    refit: Callable | None = None,
) -> float:
    """Evaluate a fit and write ``summary.json``, ``result.nc``, figures and ``report.html``; returns its score.

    ``refit`` fits a problem as this one was fitted. ``earlier`` is the summary of the fit itself, where that was not
    made now: its search and gradients are kept.
    """
    problem = made.problem
    with progress(console) as show:
        evaluation = evaluate(
            problem,
            result,
            made.connectome,
            evaluation_of(config),
            key=key,
            response=made.response if config.solver != "response_then_simulate" else None,
            recordings=made.recordings,
            views=made.views,
            refit=refit,
            on_progress=show,
        )
    if not first_process():
        return evaluation.fresh.mean
    notes = list(made.notes)
    if problem.objective.spectrum > 0 and problem.target.spectrum is None:
        notes.append("The target has no spectra in model units, so the loss is connectivity alone.")
    if made.dropped:
        notes.append(f"Regions of the data left out, because the connectome has none such: {', '.join(made.dropped)}.")
    summary = summarize(
        result,
        problem.parameters,
        evaluation,
        seed=config.seed,
        true=made.true,
        notes=notes,
        wall_seconds=time.perf_counter() - began,
        solution=solution,
        split=made.split,
    )
    if earlier:
        summary |= {name: earlier[name] for name in ("search", "gradients", "wall_seconds")}
    data = to_dataset(
        result,
        problem.target,
        evaluation,
        made.connectome,
        problem.observation.fs,
        parameters=problem.parameters,
        dropped=made.dropped,
        searched=solution.searched if solution else None,
    )
    data.to_netcdf(folder / "result.nc", engine="h5netcdf")
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    shown = OmegaConf.to_container(config.figures, resolve=True)
    pictures = draw(summary, data, folder / "figures", problem.observation, made.recordings, **shown)
    command = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))["command"]
    write_html(summary, pictures, command, OmegaConf.to_yaml(config), folder / "report.html")
    console.print(table(summary))
    console.print(f"Written: {folder}", soft_wrap=True)
    return summary["fc_correlation"]["fresh_seeds"]["mean"]


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
@sentences
def main(config: DictConfig) -> float:
    """Evaluate the fit in ``run``, into a folder of its own; returns its score on fresh noise."""
    began = time.perf_counter()
    if config.run is None:
        raise InputError("name the run to evaluate: run=FOLDER")
    source = Path(str(config.run)).expanduser()
    config, folder, console, score = begin(config)
    if score is not None:
        return score
    made = announced(config, console, fit=False)
    solved = made.response or made.problem
    result, earlier = read_result(source, solved.parameters)
    evaluation_key = jax.random.split(jax.random.key(config.seed))[1]
    return evaluate_and_write(config, made, result, folder, console, evaluation_key, began, earlier=earlier)


if __name__ == "__main__":
    run(main)

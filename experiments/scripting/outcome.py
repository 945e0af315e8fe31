"""Progress while a run goes on, and what it leaves in its folder."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from fitting.devices import first_process
from fitting.evaluate import Evaluation, evaluate
from fitting.optimize import Fit, Store
from fitting.progress import Progress
from fitting.report import Summary, draw, summarize, table, to_dataset, write_html
from fitting.report.brains import has_nilearn, write_connectome_page
from fitting.units import in_words
from scripting.build import Setup, evaluation_key, plain, setup
from scripting.runs import RUN_FILE, Run, record_run, resuming

#: Parts of an evaluation that are done where they are asked for, by setting.
SPARED = {
    "profile_points": "profiles of the likelihood",
    "surrogates": "the fitted parameters on other connectomes",
    "refitted_surrogates": "fits of other connectomes",
    "refitted_maps": "fits of random maps",
    "refitted_mixing": "fits of random mixing",
    "recoveries": "fits of the fitted model's own recordings",
}


#: Seconds between lines where output is not a terminal's.
LINE_SECONDS = 20.0


@contextmanager
def bars(console: Console):
    """A bar for each stage of long work, with the time left; yields what is told how far the stages are."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[info]}"), TimeElapsedColumn())
    # The time left follows from an hour's pace: some stages take minutes from one report to the next.
    with Bars(*columns, console=console, speed_estimate_period=3600) as bar:
        tasks: dict[str, Any] = {}
        texts: dict[str, str] = {}
        said = -math.inf

        def show(progress: Progress):
            nonlocal said
            if progress.stage not in tasks:
                # Stages follow one another: the clocks of those before stop, and nothing is left of them.
                for stage, task in tasks.items():
                    bar.stop_task(task)
                    bar.update(task, info=texts[stage])
                tasks[progress.stage] = bar.add_task(progress.stage, total=progress.total, info="")
            task, texts[progress.stage] = tasks[progress.stage], progress.text
            bar.update(task, completed=progress.done, total=progress.total)
            left = bar.tasks[task].time_remaining
            info = f"{progress.text} {in_words(float(left))} left".strip() if left else progress.text
            bar.update(task, info=info)
            # Bars do not move in a file: a line now and then does.
            if not console.is_terminal and time.monotonic() - said > LINE_SECONDS:
                said = time.monotonic()
                console.print(f"{progress.stage}: {progress.done} of {progress.total} {info}".strip())

        yield show


def announced(run: Run, fit: bool = True) -> Setup:
    """What a run's config describes; says what to expect of it, and shows how far a recording is that is simulated."""
    with bars(run.console) as show:
        return setup(run.config, lambda expected: run.console.print(str(expected)), fit, show)


def introduce(run: Run, prepared: Setup):
    """Say what will be fitted to what."""
    problem = prepared.problem
    run.console.print(f"{problem.network.regions} regions; {problem.observation}")
    if prepared.dropped:
        run.console.print(
            f"{len(prepared.dropped)} regions of the data are not in the connectome: {', '.join(prepared.dropped)}"
        )
    for note in prepared.notes:
        run.console.print(note)
    names = ", ".join(p.name for p in problem.parameters.free)
    run.console.print(f"Fitting {names}: {', '.join(stage.name for stage in prepared.stages)}. Compiling.")


def judge(run: Run, prepared: Setup, fit: Fit) -> Evaluation:
    """Evaluate a fit as a run's config has it; fits that it makes again are kept beside the fit's checkpoints."""
    seed, folder = run.config.seed, run.folder / "checkpoints"
    store = Store(folder, folder.is_dir() and resuming(run.config, run.folder))
    with bars(run.console) as show:
        return evaluate(
            fit,
            prepared.evaluation,
            key=evaluation_key(seed),
            predictor=prepared.verifier,
            recordings=prepared.recordings,
            views=prepared.views,
            refit=store.kept(lambda problem: prepared.refit(problem, seed), "refit", (prepared.stages, seed)),
            progress=show,
        )


def conclude(run: Run, prepared: Setup, fit: Fit, evaluation: Evaluation, earlier: Summary | None = None) -> float:
    """Write ``summary.json``, ``result.nc``, figures and ``report.html``; returns the correlation of the mean FC.

    ``earlier`` is the summary of the fit itself, where that was not made now: its search and gradients are kept.
    """
    score = evaluation.fresh.agreement().r
    if not first_process():
        return score
    notes, config, folder = list(prepared.notes), run.config, run.folder
    # A likelihood needs a prediction without noise.
    problem = fit.problem
    senseless = {"profile_points": problem.predictor.noisy, "refitted_maps": not problem.network.maps}
    senseless["refitted_mixing"] = problem.observation.mixing is None
    left = [n for n in SPARED if not getattr(prepared.evaluation, n) and not senseless.get(n)]
    spared = [f"{SPARED[name]} (evaluation.{name})" for name in left]
    if spared:
        notes.append(f"Not done, as it takes longer than the fit: {', '.join(spared)}.")
    if prepared.dropped:
        names = ", ".join(prepared.dropped)
        notes.append(f"Regions of the data left out, which the connectome that is used does not have: {names}.")
    seconds = time.perf_counter() - run.began
    summary = summarize(
        fit, evaluation, seed=config.seed, true=prepared.true, notes=notes, wall_seconds=seconds, split=prepared.split
    )
    if earlier:
        kept = {name: getattr(earlier, name) for name in ("search", "gradients", "wall_seconds")}
        summary = dataclasses.replace(summary, **kept)
    record_run(run)
    data = to_dataset(fit, evaluation, prepared.dropped)
    data.to_netcdf(folder / "result.nc", engine="h5netcdf")
    summary.write(folder / "summary.json")
    pictures, shown = [], plain(config.figures)
    if shown.pop("drawn"):
        pictures = draw(summary, data, folder / "figures", fit.problem.observation, prepared.recordings, **shown)
        if "centres" in data and has_nilearn():
            write_connectome_page(folder / "brain.html", data["centres"].values, data["fitted_fc"].values)
    write_html(summary, pictures, command_of(folder), OmegaConf.to_yaml(config), folder / "report.html")
    run.console.print(table(summary))
    run.console.print(f"Written: {folder}", soft_wrap=True)
    if fit.status == "interrupted":
        run.console.print(f"The same command with resume=auto hydra.run.dir={folder} goes on.", soft_wrap=True)
    return score


def command_of(folder: Path) -> str:
    """The command line of the run in a folder."""
    return json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))["command"]

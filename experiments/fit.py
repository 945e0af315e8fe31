"""Fit a network model: ``python experiments/fit.py [setting=value ...]``; ``--help`` lists the settings."""

from __future__ import annotations

import json
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path

import hydra
import jax
import optax
from build import optimizer_of, search_of, sentences, settings_of, setup
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from fitting.evaluate import (
    fresh_seeds,
    held_out_baselines,
    identifiability,
    profile_likelihood,
    response_information,
    structural_baselines,
)
from fitting.optimize import fit, solve
from fitting.report import draw, summarize, table, to_dataset, write_html
from fitting.response import departure, linearize, unstable_roots
from fitting.signal import fc_correlation
from fitting.units import magnitude


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
@sentences
def main(config: DictConfig) -> float:
    """Fit, evaluate, and write everything into the run's folder; returns the score on fresh noise."""
    began = time.perf_counter()
    console = Console()
    folder = Path(HydraConfig.get().runtime.output_dir)
    problem, response, connectome, labels, dropped, true, data_notes = setup(config)
    settings = settings_of(config)
    fit_key, fresh_key, initial_key, check_key = jax.random.split(jax.random.key(config.seed), 4)
    polish_key = jax.random.fold_in(fit_key, 1)
    names = ", ".join(p.name for p in problem.parameters.free)
    console.print(f"{len(labels)} regions; {problem.observation}")
    if dropped:
        console.print(f"{len(dropped)} regions of the data are not in the connectome: {', '.join(dropped)}")
    for note in data_notes:
        console.print(note)
    how = (
        "of linear response"
        if response
        else f"of {problem.duration / 1000:g} s simulated "
        f"({problem.duration / problem.dt:,.0f} steps of {problem.dt:g} ms)"
    )
    steps = f"up to {settings.steps} steps" if settings.steps else "a search"
    console.print(f"Fitting {names}: {steps} {how}. Compiling.")
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[info]}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        tasks = {}

        def on_report(report):
            if report.stage not in tasks:
                tasks[report.stage] = bar.add_task(report.stage, total=report.total or None, info="")
            bar.update(tasks[report.stage], completed=report.done, info=report.text)

        def on_step(p):
            info = f"step {p.step}/{p.steps} loss {p.loss:.4f} r {p.fc_correlation:.3f} {p.remaining:.0f} s left"
            bar.update(task, completed=p.step, info=info)

        def on_compiled(seconds, memory):
            bar.console.print(f"Compiled in {seconds:.1f} s; a step needs {memory / 1e6:.0f} MB.")

        common = {"key": fit_key, "on_compiled": on_compiled, "resume": config.resume}
        solution = None
        if response:
            task = bar.add_task("fitting", total=settings.steps, info="")
            checkpoints = folder / "checkpoints"
            result = fit(response, optimizer_of(config), settings, checkpoints=checkpoints, on_step=on_step, **common)
        else:
            solution = solve(
                problem,
                optimizer_of(config),
                settings,
                search_of(config),
                on_report=on_report,
                folder=folder / "checkpoints",
                **common,
            )
            result = solution.result
        first = result
        if config.solver == "response_then_simulate":
            polish = settings_of(config, "polish")
            task = bar.add_task("polishing", total=polish.steps, info="")
            problem = replace(problem, parameters=problem.parameters.at(result.fitted))
            result = fit(
                problem,
                optax.adam(config.polish.learning_rate),
                polish,
                key=polish_key,
                on_step=on_step,
                on_compiled=on_compiled,
                checkpoints=folder / "checkpoints_polish",
                resume=config.resume and (folder / "checkpoints_polish").is_dir(),
            )
        evaluation = config.evaluation
        seeds = evaluation.fresh_seeds
        initial = evaluation.initial_seeds
        task = bar.add_task("fresh noise", total=seeds + initial, info="")
        duration = None if evaluation.duration is None else magnitude(evaluation.duration, "ms", "evaluation.duration")
        fresh = fresh_seeds(problem, result.fitted, fresh_key, seeds, duration, lambda n: bar.update(task, completed=n))
        start = fresh_seeds(
            problem, first.initial, initial_key, initial, duration, lambda n: bar.update(task, completed=seeds + n)
        )
        identified, profiles = {}, {}
        if response and evaluation.profile_points:
            task = bar.add_task("profile likelihood", total=None, info="")
            profiles = profile_likelihood(
                response,
                response.parameters.point(result.fitted),
                points=evaluation.profile_points,
                steps=evaluation.profile_steps,
                on_fit=lambda n, total: bar.update(task, completed=n, total=total),
            )
            identified = {name: profile.identifiability for name, profile in profiles.items()}
        elif response:
            identified = response_information(response, response.parameters.point(result.fitted))
        elif evaluation.identifiability_seeds:
            task = bar.add_task("identifiability", total=None, info="")
            identified = identifiability(
                problem,
                result.point,
                check_key,
                evaluation.identifiability_seeds,
                on_evaluation=lambda n, total: bar.update(task, completed=n, total=total),
            )
    notes = list(data_notes)
    if problem.objective.spectrum > 0 and problem.target.spectrum is None:
        notes.append("The target has no spectra in model units, so the loss is connectivity alone.")
    responded = jax.jit(response.respond)(result.fitted) if response else None
    held_out, baselines = None, structural_baselines(connectome, problem.target.fc)
    if problem.target.held_out is not None:
        share = f"{100 * config.data.held_out:g} % of the pairs, seed {config.data.split_seed}"
        held_out = {
            "split": share,
            "r": float(fresh.held_out.mean()),
            "sd": float(fresh.held_out.std(ddof=1)) if len(fresh.held_out) > 1 else None,
        }
        if responded:
            held_out["response"] = float(fc_correlation(responded[0], problem.target.fc, problem.target.held_out))
        held_out["baselines"] = held_out_baselines(connectome, problem.target.fc, problem.target.pairs)
    if responded:
        slowest = float(responded[1].max())
        unstable = unstable_roots(linearize(problem.network, result.fitted, dt=problem.dt))
        notes.append(
            f"Linear response: the slowest mode decays at {-slowest:.1f} /s."
            if unstable == 0
            else f"The steady state is unstable ({unstable} roots): linear response does not hold at these parameters."
        )
        away = departure(problem.network, result.fitted, dt=problem.dt)
        if unstable == 0 and away > 0.01:
            notes.append(
                f"There is more than one attractor: from the node's initial values, the network without noise comes to "
                f"be {away:.2g} away from the steady state that linear response describes. Simulations start at the "
                + ("steady state." if problem.start == "steady" else "initial values; see simulation.start.")
            )
    if dropped:
        notes.append(f"Regions of the data left out, because the connectome has none such: {', '.join(dropped)}.")
    summary = summarize(
        result,
        problem.parameters,
        true,
        start.mean,
        fresh,
        baselines,
        identified,
        config.seed,
        notes,
        time.perf_counter() - began,
        held_out,
        solution,
    )
    searched = solution.searched if solution else None
    data = to_dataset(result, problem.target, fresh, labels, problem.observation.fs, dropped, profiles, searched)
    data = data.assign(lengths=(("region", "other"), connectome.lengths.values, {"units": "mm"}))
    for p in problem.parameters.free:
        if p.per_region:
            data[f"fitted_{p.name}"] = ("region", result.fitted[p.name], {"units": p.unit})
    data.to_netcdf(folder / "result.nc", engine="h5netcdf")
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    pictures = draw(summary, data, folder / "figures")
    command = " ".join(["python", "experiments/fit.py", *map(shlex.quote, HydraConfig.get().overrides.task)])
    write_html(summary, pictures, command, OmegaConf.to_yaml(config), folder / "report.html")
    console.print(table(summary))
    console.print(f"Written: {folder}", soft_wrap=True)
    return summary["fc_correlation"]["fresh_seeds"]["mean"]


if __name__ == "__main__":
    sys.exit(main())

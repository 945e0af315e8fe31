"""Fit a network model: ``python experiments/fit.py [setting=value ...]``; ``--help`` lists the settings."""

from __future__ import annotations

import time
from dataclasses import replace

import hydra
import jax
import optax
from build import optimizer_of, search_of, settings_of
from command import run, sentences
from evaluate import announced, evaluate_and_write, progress
from omegaconf import DictConfig
from runs import begin, resuming

from fitting.optimize import fit, solve


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
@sentences
def main(config: DictConfig) -> float:
    """Fit, evaluate, and write everything into the run's folder; returns the score on fresh noise."""
    began = time.perf_counter()
    config, folder, console, score = begin(config)
    if score is not None:
        return score
    resume = resuming(config, folder)
    made = announced(config, console)
    problem, response = made.problem, made.response
    settings = settings_of(config)
    fit_key, evaluation_key = jax.random.split(jax.random.key(config.seed))
    names = ", ".join(p.name for p in problem.parameters.free)
    console.print(f"{len(made.labels)} regions; {problem.observation}")
    if made.dropped:
        console.print(f"{len(made.dropped)} regions of the data are not in the connectome: {', '.join(made.dropped)}")
    for note in made.notes:
        console.print(note)
    how = (
        "of linear response"
        if response
        else f"of {problem.duration / 1000:g} s simulated "
        f"({problem.duration / problem.dt:,.0f} steps of {problem.dt:g} ms)"
    )
    steps = f"up to {settings.steps} steps" if settings.steps else "a search"
    console.print(f"Fitting {names}: {steps} {how}. Compiling.")
    solution = None
    with progress(console) as show:

        def on_step(p):
            text = f"step {p.step}/{p.steps} loss {p.loss:.4f} r {p.fc_correlation:.3f} {p.remaining:.0f} s left"
            show(stage, p.step, settings.steps, text)

        def on_compiled(seconds, memory):
            console.print(f"Compiled in {seconds:.1f} s; a step needs {memory / 1e6:.0f} MB.")

        stage = "fitting"
        common = {"key": fit_key, "on_compiled": on_compiled, "resume": resume}
        if response:
            checkpoints = folder / "checkpoints"
            result = fit(response, optimizer_of(config), settings, checkpoints=checkpoints, on_step=on_step, **common)
        else:
            solution = solve(
                problem,
                optimizer_of(config),
                settings,
                search_of(config),
                on_report=lambda r: show(r.stage, r.done, r.total or None, r.text),
                folder=folder / "checkpoints",
                **common,
            )
            result = solution.result
        if config.solver == "response_then_simulate":
            first, stage, settings = result, "polishing", settings_of(config, "polish")
            problem = replace(problem, parameters=problem.parameters.at(result.fitted))
            polished = fit(
                problem,
                optax.adam(config.polish.learning_rate),
                settings,
                key=jax.random.fold_in(fit_key, 1),
                on_step=on_step,
                on_compiled=on_compiled,
                checkpoints=folder / "checkpoints_polish",
                resume=resume and (folder / "checkpoints_polish").is_dir(),
            )
            result = replace(polished, initial=first.initial)
    made = made._replace(problem=problem)

    def refit(problem):
        settings = settings_of(config)
        if response:
            same = replace(response, target=problem.target)
            return fit(same, optimizer_of(config), settings, key=fit_key).fitted
        return solve(problem, optimizer_of(config), settings, search_of(config), key=fit_key).result.fitted

    return evaluate_and_write(config, made, result, folder, console, evaluation_key, began, solution, refit=refit)


if __name__ == "__main__":
    run(main)

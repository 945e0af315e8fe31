"""Simulate, compare with the data, fit nothing: ``python experiments/simulate.py [parameters.k.value=3 ...]``."""

from __future__ import annotations

import json
import time

import hydra
import jax
import numpy as np
import xarray as xr
from build import evaluation_of
from command import run, sentences
from evaluate import announced, progress
from omegaconf import DictConfig
from runs import begin

from fitting.devices import first_process
from fitting.evaluate import fresh_seeds, structural_baselines
from fitting.report import figures, signals, summarize_simulation


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
@sentences
def main(config: DictConfig) -> float:
    """Simulate the parameters' values, write ``simulation.nc`` and figures; returns the mean FC correlation."""
    began = time.perf_counter()
    config, folder, console, score = begin(config)
    if score is not None:
        return score
    made = announced(config, console, fit=False)
    problem, settings = made.problem, evaluation_of(config)
    values = problem.parameters.values(problem.parameters.start())
    key = jax.random.key(config.seed)
    with progress(console) as show:
        scores = fresh_seeds(
            problem,
            values,
            key,
            settings.fresh_seeds,
            settings.duration,
            lambda done: show("simulating", done, settings.fresh_seeds),
        )
    if not first_process():
        return scores.mean
    observation, labels = problem.observation, made.labels
    times = np.arange(len(scores.signals)) / observation.fs
    data = xr.Dataset(
        {
            "signals": (("time", "region"), scores.signals, {"units": "model", "fs": observation.fs}),
            "fc": (("region", "other"), scores.fc),
            "fc_correlation": (("seed",), scores.fc_correlation),
        },
        coords={"time": ("time", times, {"units": "s"}), "region": labels, "other": labels},
        attrs={name: np.asarray(value, float).tolist() for name, value in values.items()},
    )
    data.to_netcdf(folder / "simulation.nc", engine="h5netcdf")
    target = np.asarray(problem.target.fc)
    figures.save(figures.fc_matrices(target, scores.fc, labels), folder / "figures" / "fc_matrices")
    figures.save(signals.traces(scores.signals, observation.fs, labels), folder / "figures" / "traces")
    figures.save(signals.spectra(scores.signals, observation, made.recordings), folder / "figures" / "spectra")
    summary = summarize_simulation(scores, structural_baselines(made.connectome, target), time.perf_counter() - began)
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    spread = f" ± {scores.sd:.3f}" if len(scores.fc_correlation) > 1 else ""
    console.print(
        f"FC correlation with the target: {scores.mean:.3f}{spread}, {len(scores.fc_correlation)} seeds of "
        f"{scores.seconds:g} s"
    )
    console.print(f"Written: {folder}", soft_wrap=True)
    return scores.mean


if __name__ == "__main__":
    run(main)

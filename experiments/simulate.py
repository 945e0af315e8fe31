"""Simulate, compare with the data, fit nothing: ``python experiments/simulate.py [parameters.k.value=3 ...]``."""

from __future__ import annotations

import time
from dataclasses import replace

import hydra
import jax
import numpy as np
import xarray as xr
from omegaconf import DictConfig
from scripting.command import run, sentences
from scripting.outcome import announced, bars
from scripting.runs import begin, claimed

from fitting.devices import first_process
from fitting.evaluate import fresh_seeds, structural_baselines
from fitting.report import figures, signals, summarize_simulation


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
@sentences
def main(config: DictConfig) -> float:
    """Simulate the parameters' values, write ``simulation.nc`` and figures; returns the correlation of the mean FC."""
    job = begin(config)
    if job.score is not None:
        return job.score
    prepared = announced(job, fit=False)
    problem, folder = replace(prepared.problem, predictor=prepared.verifier), job.folder
    values = problem.parameters.values(problem.parameters.start())
    key = jax.random.key(job.config.seed)
    with claimed(job), bars(job.console) as show:
        scores = fresh_seeds(problem, values, key, prepared.evaluation.fresh_seeds, stage="simulating", progress=show)
    if not first_process():
        return scores.agreement().r
    observation, labels = problem.observation, list(problem.network.labels)
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
    figures.save(signals.spectra(scores.signals, observation, prepared.recordings), folder / "figures" / "spectra")
    summary = summarize_simulation(
        scores, structural_baselines(problem.network.connectome, target), time.perf_counter() - job.began
    )
    summary.write(folder / "summary.json")
    spread = f" ± {scores.sd:.3f}" if len(scores.fc_correlation) > 1 else ""
    job.console.print(
        f"FC correlation with the target: {scores.agreement().r:.3f} of the mean FC of {len(scores.fc_correlation)} "
        f"seeds, {scores.mean:.3f}{spread} of single ones, {scores.seconds:g} s each"
    )
    job.console.print(f"Written: {folder}", soft_wrap=True)
    return scores.agreement().r


if __name__ == "__main__":
    run(main)

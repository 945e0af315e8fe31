"""Fit a network model: ``python experiments/fit.py [setting=value ...]``; ``--help`` lists the settings."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig
from scripting.command import run, sentences
from scripting.outcome import announced, bars, conclude, introduce, judge
from scripting.runs import begin, claimed, resuming


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
@sentences
def main(config: DictConfig) -> float:
    """Fit, evaluate, and write everything into the run's folder; returns the correlation of the mean FC."""
    job = begin(config)
    if job.score is not None:
        return job.score
    resume = resuming(job.config, job.folder)
    prepared = announced(job)
    introduce(job, prepared)
    checkpoints = job.folder / "checkpoints"
    with claimed(job):
        with bars(job.console) as show:
            fit = prepared.fit(prepared.problem, job.config.seed, progress=show, folder=checkpoints, resume=resume)
        return conclude(job, prepared, fit, judge(job, prepared, fit))


if __name__ == "__main__":
    run(main)

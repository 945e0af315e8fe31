"""Evaluate a stored fit again: ``python experiments/evaluate.py run=FOLDER [evaluation.fresh_seeds=20 ...]``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import hydra
from omegaconf import DictConfig
from scripting.command import run, sentences
from scripting.outcome import announced, conclude, judge
from scripting.runs import begin, claimed

from fitting import InputError
from fitting.report import read_fit


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
@sentences
def main(config: DictConfig) -> float:
    """Evaluate the fit in ``run``, into a folder of its own; returns its score on fresh noise."""
    if config.run is None:
        raise InputError("name the run to evaluate: run=FOLDER")
    source = Path(str(config.run)).expanduser()
    job = begin(config)
    if job.score is not None:
        return job.score
    prepared = announced(job, fit=False)
    fit, earlier = read_fit(source, prepared.problem)
    polished = [stage for stage in prepared.stages if stage.name == "polish"]
    if polished:
        fit = replace(fit, problem=replace(fit.problem, predictor=polished[0].predictor))
    with claimed(job):
        return conclude(job, prepared, fit, judge(job, prepared, fit), earlier)


if __name__ == "__main__":
    run(main)

"""A small fit that reports are made of."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import xarray as xr

from fitting.data import connectome
from fitting.evaluate import (
    Ceiling,
    Evaluation,
    HeldOut,
    Identifiability,
    Profile,
    SeedScores,
    SurrogateTest,
    ViewScore,
)
from fitting.network import Network
from fitting.objective import Target
from fitting.optimize import Candidate, Fit, Parameter, Problem
from fitting.predict import Simulation
from fitting.report import Summary, summarize, to_dataset
from fitting.signal import Observation

LABELS = ["A.L", "A.R", "B.L"]


class Results(NamedTuple):
    fit: Fit
    evaluation: Evaluation
    summary: Summary
    data: xr.Dataset


def make(score: float = 0.5, finite: bool = True, held_out: bool = False, **others) -> Results:
    """Results of a fit of three regions, whose model has the target's connectivity times a score."""
    rng = np.random.default_rng(0)
    fc = np.array([[0, 0.1, 0.2], [0.1, 0, 0.3], [0.2, 0.3, 0]])
    brain = connectome(np.ones((3, 3)), np.full((3, 3), 50.0), LABELS, centres=rng.standard_normal((3, 3)))
    parameters = [Parameter("k", 1.0, 0.1, 5.0), Parameter("drive", 0.6, 0.4, 0.8, per_region=True)]
    simulation = Simulation(Network(brain), Observation(low_pass=1.0), duration="12 s", dt="1 ms")
    problem = Problem(simulation, parameters, Target(fc, LABELS))
    history = {name: np.full(4, score) for name in ("loss", "fc_correlation", "spectrum", "gradient_norm", "seconds")}
    history |= {"finite": np.full(4, finite), "parameter_k": np.ones(4), "parameter_drive": np.full((4, 3), 0.6)}
    fit = replace(
        Fit.begin(problem),
        candidates=(Candidate(problem.parameters.point({"k": 1.1, "drive": np.array([0.5, 0.6, 0.7])})),),
        status="max_steps" if finite else "diverged",
        chosen="best step",
        history=history,
        bad_steps=0 if finite else 4,
        seconds=2.0,
        compile_seconds=1.0,
    )
    matrices = np.stack([fc * score] * 3)
    signals = score * rng.standard_normal((1000, 3))
    fresh = SeedScores(fc, matrices, np.full(3, score), np.full(3, score), signals, 10.0)
    parts = {
        "initial": replace(fresh, matrices=matrices[:1]),
        "baselines": {"structural_weights": 0.2, "minus_length": 0.3},
        "identified": {"k": Identifiability(True, "seen", (0.9, 1.3), {"drive": 0.9})},
        "profiles": {
            "k": Profile(
                np.array([0.5, 1.0, 2.0]),
                np.array([0.1, 0.5, 0.2]),
                np.array([9.0, 0.0, 5.0]),
                "1",
                Identifiability(True, "seen", (0.7, 1.6)),
            )
        },
        "views": {"beta 13-30 Hz": ViewScore(np.full(3, score), {"minus_length": 0.1})},
        "nulls": {"as_fitted": score, "zero_delays": 0.1},
        "surrogates": {
            "rewired": SurrogateTest(score, np.array([0.1, 0.2, 0.6]), True),
            "distance_preserving": SurrogateTest(score, np.array([0.1, np.nan, 0.3]), False),
        },
        "ceiling": Ceiling(0.81, 0.9, "halves agree"),
        "notes": ["A note."],
    }
    if held_out:
        baselines = {"minus_length": 0.4, "rank_two": 0.7}
        leaks = {"minus_length": 0.01, "rank_two": 0.25}
        parts["held_out"] = HeldOut(0.5, np.array([0.4, 0.6]), 0.45, baselines, 0.22, leaks)
    evaluation = Evaluation(fresh, **(parts | others))
    summary = summarize(fit, evaluation, seed=3, true={"k": 1.2}, split="30 % of the pairs")
    return Results(fit, evaluation, summary, to_dataset(fit, evaluation, ["C.L"]))


@pytest.fixture
def results():
    """Make results: see above."""
    return make

"""Honest scores: fresh noise, baselines, and what the data can tell about each parameter."""

from fitting.evaluate.baselines import held_out_baselines, structural_baselines
from fitting.evaluate.identifiability import Identifiability, identifiability
from fitting.evaluate.information import response_information
from fitting.evaluate.seeds import SeedScores, fresh_seeds

__all__ = [
    "Identifiability",
    "SeedScores",
    "fresh_seeds",
    "held_out_baselines",
    "identifiability",
    "response_information",
    "structural_baselines",
]

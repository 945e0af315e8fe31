"""Honest scores: fresh noise, baselines, and what the data can tell about each parameter."""

from fitting.evaluate.baselines import held_out_baselines, structural_baselines
from fitting.evaluate.identifiability import Identifiability, identifiability
from fitting.evaluate.information import DEVIANCE_95, Profile, profile_likelihood, response_information
from fitting.evaluate.profile import profile_loss
from fitting.evaluate.recovery import recovery
from fitting.evaluate.seeds import SeedScores, fresh_seeds

__all__ = [
    "DEVIANCE_95",
    "Identifiability",
    "Profile",
    "SeedScores",
    "fresh_seeds",
    "held_out_baselines",
    "identifiability",
    "profile_likelihood",
    "profile_loss",
    "recovery",
    "response_information",
    "structural_baselines",
]

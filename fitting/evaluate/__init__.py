"""Honest scores: fresh noise, baselines, and what the data can tell about each parameter."""

from fitting.evaluate.baselines import structural_baselines
from fitting.evaluate.identifiability import Identifiability, identifiability
from fitting.evaluate.seeds import SeedScores, fresh_seeds

__all__ = ["Identifiability", "SeedScores", "fresh_seeds", "identifiability", "structural_baselines"]

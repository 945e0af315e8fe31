"""Honest scores: fresh noise, baselines, nulls, ceilings, and what the data can tell about each parameter."""

from fitting.evaluate.baselines import held_out_baselines, spatial_autoregression, structural_baselines
from fitting.evaluate.ceiling import Ceiling, split_half_ceiling, subject_ceiling
from fitting.evaluate.evaluation import Evaluation, EvaluationSettings, evaluate, orthogonalization_views
from fitting.evaluate.expected import Expectation, expect
from fitting.evaluate.identifiability import Identifiability, identifiability
from fitting.evaluate.information import DEVIANCE_95, Profile, profile_likelihood, response_information
from fitting.evaluate.nulls import SurrogateTest, delay_nulls, p_value, surrogate_connectomes, surrogate_test
from fitting.evaluate.profile import profile_loss
from fitting.evaluate.recovery import recovery, refit_synthetic
from fitting.evaluate.seeds import SeedScores, View, fresh_seeds

__all__ = [
    "DEVIANCE_95",
    "Ceiling",
    "Evaluation",
    "EvaluationSettings",
    "Expectation",
    "Identifiability",
    "Profile",
    "SeedScores",
    "SurrogateTest",
    "View",
    "delay_nulls",
    "evaluate",
    "expect",
    "fresh_seeds",
    "held_out_baselines",
    "identifiability",
    "orthogonalization_views",
    "p_value",
    "profile_likelihood",
    "profile_loss",
    "recovery",
    "refit_synthetic",
    "response_information",
    "spatial_autoregression",
    "split_half_ceiling",
    "structural_baselines",
    "subject_ceiling",
    "surrogate_connectomes",
    "surrogate_test",
]

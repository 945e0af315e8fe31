"""Honest scores: fresh noise, baselines, nulls, ceilings, and what the data can tell about each parameter."""

from fitting.evaluate.agreement import Agreement, agreement, pearson, region_interval, shared_variance
from fitting.evaluate.baselines import held_out_baselines, spatial_autoregression, structural_baselines
from fitting.evaluate.evaluation import (
    Evaluation,
    EvaluationSettings,
    HeldOut,
    ViewScore,
    evaluate,
    intervals,
    orthogonalization_views,
)
from fitting.evaluate.expectation import Expectation, expect
from fitting.evaluate.identifiability import LossProfile, identifiability, profile_loss
from fitting.evaluate.leak import chance_variance, independent_targets, leak_of_baselines, leak_of_fit
from fitting.evaluate.likelihood import fisher_information, profile_likelihood
from fitting.evaluate.nulls import (
    SurrogateTest,
    delay_nulls,
    p_value,
    surrogate_connectomes,
    surrogate_maps,
    surrogate_mixing,
    surrogate_problems,
    surrogate_sensitivity,
    surrogate_test,
)
from fitting.evaluate.recovery import recovery, refit_synthetic
from fitting.evaluate.reliability import Ceiling, group_ceiling, split_half_ceiling, subject_ceiling
from fitting.evaluate.scores import SeedScores, View, fresh_seeds
from fitting.evaluate.uncertainty import DEVIANCE_95, Identifiability, Profile

__all__ = [
    "DEVIANCE_95",
    "Agreement",
    "Ceiling",
    "Evaluation",
    "EvaluationSettings",
    "Expectation",
    "HeldOut",
    "Identifiability",
    "LossProfile",
    "Profile",
    "SeedScores",
    "SurrogateTest",
    "View",
    "ViewScore",
    "agreement",
    "chance_variance",
    "delay_nulls",
    "evaluate",
    "expect",
    "fisher_information",
    "fresh_seeds",
    "group_ceiling",
    "held_out_baselines",
    "identifiability",
    "independent_targets",
    "intervals",
    "leak_of_baselines",
    "leak_of_fit",
    "orthogonalization_views",
    "p_value",
    "pearson",
    "profile_likelihood",
    "profile_loss",
    "recovery",
    "refit_synthetic",
    "region_interval",
    "shared_variance",
    "spatial_autoregression",
    "split_half_ceiling",
    "structural_baselines",
    "subject_ceiling",
    "surrogate_connectomes",
    "surrogate_maps",
    "surrogate_mixing",
    "surrogate_problems",
    "surrogate_sensitivity",
    "surrogate_test",
]

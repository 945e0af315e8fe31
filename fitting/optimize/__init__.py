"""Parameters with units and bounds, problems, and the stages that fit them."""

from fitting.optimize.descent import Descent, Polish, adam
from fitting.optimize.fit import Candidate, Fit, Stage, stage_key
from fitting.optimize.gradients import GradientCheck, GradientHealth
from fitting.optimize.parameters import Parameter, Parameters
from fitting.optimize.problem import Problem
from fitting.optimize.race import Race, RaceResult
from fitting.optimize.search import Search, SearchResult
from fitting.optimize.solve import STAGES, solve
from fitting.optimize.storage import identity

__all__ = [
    "STAGES",
    "Candidate",
    "Descent",
    "Fit",
    "GradientCheck",
    "GradientHealth",
    "Parameter",
    "Parameters",
    "Polish",
    "Problem",
    "Race",
    "RaceResult",
    "Search",
    "SearchResult",
    "Stage",
    "adam",
    "identity",
    "solve",
    "stage_key",
]

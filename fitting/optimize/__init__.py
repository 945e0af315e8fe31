"""Parameters with units and bounds, problems, and the stages that fit them."""

from fitting.optimize.descent import Descent, Polish, adam, sgd
from fitting.optimize.expansion import Expansion, Linearized, Surroundings
from fitting.optimize.fit import Candidate, Fit, GradientHealth, RaceResult, SearchResult, Stage, stage_key
from fitting.optimize.gauss_newton import GaussNewton, Refine
from fitting.optimize.gradients import GradientCheck
from fitting.optimize.parameters import Parameter, Parameters
from fitting.optimize.problem import Problem
from fitting.optimize.race import Race
from fitting.optimize.search import Search
from fitting.optimize.solve import STAGES, solve
from fitting.optimize.start import StableStart
from fitting.optimize.storage import Store, identity

__all__ = [
    "STAGES",
    "Candidate",
    "Descent",
    "Expansion",
    "Fit",
    "GaussNewton",
    "GradientCheck",
    "GradientHealth",
    "Linearized",
    "Parameter",
    "Parameters",
    "Polish",
    "Problem",
    "Race",
    "RaceResult",
    "Refine",
    "Search",
    "SearchResult",
    "StableStart",
    "Stage",
    "Store",
    "Surroundings",
    "adam",
    "identity",
    "sgd",
    "solve",
    "stage_key",
]

"""Parameters with units and bounds, and the optimisers that fit them."""

from fitting.optimize.descent import FitResult, Progress, Settings, fit
from fitting.optimize.health import GradientHealth, gradient_health
from fitting.optimize.parameters import Parameter, Parameters
from fitting.optimize.problem import Problem, check_simulation
from fitting.optimize.race import RaceResult, race
from fitting.optimize.response import ResponseProblem, check_response
from fitting.optimize.search import Candidate, SearchResult, SearchSettings, search
from fitting.optimize.strategy import Report, Solution, solve

__all__ = [
    "Candidate",
    "FitResult",
    "GradientHealth",
    "Parameter",
    "Parameters",
    "Problem",
    "Progress",
    "RaceResult",
    "Report",
    "ResponseProblem",
    "SearchResult",
    "SearchSettings",
    "Settings",
    "Solution",
    "check_response",
    "check_simulation",
    "fit",
    "gradient_health",
    "race",
    "search",
    "solve",
]

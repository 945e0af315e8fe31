"""Parameters with units and bounds, and the optimisers that fit them."""

from fitting.optimize.descent import FitResult, Progress, Settings, fit
from fitting.optimize.parameters import Parameter, Parameters
from fitting.optimize.problem import Problem
from fitting.optimize.response import ResponseProblem

__all__ = ["FitResult", "Parameter", "Parameters", "Problem", "Progress", "ResponseProblem", "Settings", "fit"]

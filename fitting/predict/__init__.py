"""Predictors: from parameter values, and a key, to connectivity and spectra that can be compared with data."""

from fitting.predict.cost import Cost, measured_cost, simulation_cost
from fitting.predict.linear_response import LinearResponse
from fitting.predict.operating_point import OperatingPoint, operating_point
from fitting.predict.predictor import Prediction, Predictor
from fitting.predict.simulation import Simulation

__all__ = [
    "Cost",
    "LinearResponse",
    "OperatingPoint",
    "Prediction",
    "Predictor",
    "Simulation",
    "measured_cost",
    "operating_point",
    "simulation_cost",
]

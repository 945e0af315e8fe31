"""Fit whole-brain network models to MEG connectivity by derivatives of the simulation.

The names of daily use are here; everything else is in the packages ``data``, ``signal``, ``network``, ``response``,
``predict``, ``objective``, ``optimize``, ``evaluate`` and ``report``. Importing ``fitting`` makes every core a device
of JAX, unless JAX has computed before: see :mod:`fitting.environment`.
"""

import fitting.environment  # noqa: F401  isort: skip

from importlib.metadata import version as _version

from fitting.data import hcp_aal2, match, read_connectome, read_fc, read_recordings, scale_weights
from fitting.errors import InputError
from fitting.evaluate import EvaluationSettings, evaluate
from fitting.network import Network, simulate, simulated_recording
from fitting.objective import Objective, Target
from fitting.optimize import Descent, GaussNewton, GradientCheck, Parameter, Problem, Race, Refine, Search, solve
from fitting.predict import LinearResponse, Simulation
from fitting.signal import Observation

__all__ = [
    "Descent",
    "EvaluationSettings",
    "GaussNewton",
    "GradientCheck",
    "InputError",
    "LinearResponse",
    "Network",
    "Objective",
    "Observation",
    "Parameter",
    "Problem",
    "Race",
    "Refine",
    "Search",
    "Simulation",
    "Target",
    "__version__",
    "evaluate",
    "hcp_aal2",
    "match",
    "read_connectome",
    "read_fc",
    "read_recordings",
    "scale_weights",
    "simulate",
    "simulated_recording",
    "solve",
]
__version__ = _version("fitting")

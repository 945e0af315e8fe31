"""How delayed input from other regions becomes a current: functions of the weighted, delayed sum.

Each takes the delayed sum ``sum_j W_ij c_j(t - d_ij)``, the region's own coupled variable ``c_i(t)``,
the row sum ``sum_j W_ij`` and the parameters, all ``(regions,)``, and returns the current.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
from jaxtyping import Array, Float

Vector = Float[Array, " regions"]


def diffusive(delayed: Vector, own: Vector, row_sum: Vector, parameters: Mapping[str, Vector]) -> Vector:
    """``k sum_j W_ij (c_j(t - d_ij) - c_i(t))``, as brainmass.diffusive_coupling."""
    return parameters["k"] * (delayed - row_sum * own)


def additive(delayed: Vector, own: Vector, row_sum: Vector, parameters: Mapping[str, Vector]) -> Vector:
    """``k sum_j W_ij c_j(t - d_ij)``, as brainmass.additive_coupling without offset."""
    return parameters["k"] * delayed


def sigmoidal(delayed: Vector, own: Vector, row_sum: Vector, parameters: Mapping[str, Vector]) -> Vector:
    """``k S(slope (sum_j W_ij c_j(t - d_ij) - midpoint))``, S logistic, as brainmass.sigmoidal_coupling."""
    return parameters["k"] * jax.nn.sigmoid(parameters["slope"] * (delayed - parameters["midpoint"]))


#: Coupling functions by name.
COUPLINGS = {f.__name__: f for f in (diffusive, additive, sigmoidal)}

#: Parameters of each coupling with their defaults.
COUPLING_PARAMETERS = {
    "diffusive": {"k": 1.0},
    "additive": {"k": 1.0},
    "sigmoidal": {"k": 1.0, "slope": 1.0, "midpoint": 0.0},
}

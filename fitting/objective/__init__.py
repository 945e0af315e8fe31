"""What is compared with what: targets and losses."""

from fitting.objective.objective import (
    LEAST_RELIABILITY,
    MEASURES,
    Objective,
    Terms,
    concordance,
    disattenuated_correlation,
    spectral_distance,
    terms_of,
)
from fitting.objective.target import Target

__all__ = [
    "LEAST_RELIABILITY",
    "MEASURES",
    "Objective",
    "Target",
    "Terms",
    "concordance",
    "disattenuated_correlation",
    "spectral_distance",
    "terms_of",
]

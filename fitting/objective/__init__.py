"""What is compared with what: targets and losses."""

from fitting.objective.objective import (
    MEASURES,
    Objective,
    Terms,
    concordance,
    disattenuated_correlation,
    least_reliability,
    spectral_distance,
    terms_of,
)
from fitting.objective.target import Target, subject_connectivity

__all__ = [
    "MEASURES",
    "Objective",
    "Target",
    "Terms",
    "concordance",
    "disattenuated_correlation",
    "least_reliability",
    "spectral_distance",
    "subject_connectivity",
    "terms_of",
]

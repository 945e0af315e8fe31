"""What is compared with what: connectivity, spectra, and their weights."""

from fitting.objective.objective import Objective, Target, Terms, disattenuated_correlation

__all__ = ["Objective", "Target", "Terms", "disattenuated_correlation"]

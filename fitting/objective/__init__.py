"""What is compared with what: connectivity, spectra, and their weights."""

from fitting.objective.objective import Objective, Target, Terms

__all__ = ["Objective", "Target", "Terms"]

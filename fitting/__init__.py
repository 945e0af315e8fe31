"""Fit whole-brain network models to MEG connectivity by gradients through the simulation."""

from importlib.metadata import version as _version

from fitting.errors import InputError

__all__ = ["InputError", "__version__"]
__version__ = _version("fitting")

"""Linear response: a network's spectra, connectivity and stability in closed form, without noise."""

from fitting.response.linear import Linear, departure, linearize, steady_state
from fitting.response.spectra import (
    band_response,
    coherency,
    cross_spectra,
    envelope_connectivity,
    frequency_grid,
    mixed_spectra,
    orthogonalized_connectivity,
)
from fitting.response.stability import own_modes, rightmost_roots, unstable_roots

__all__ = [
    "Linear",
    "band_response",
    "coherency",
    "cross_spectra",
    "departure",
    "envelope_connectivity",
    "frequency_grid",
    "linearize",
    "mixed_spectra",
    "orthogonalized_connectivity",
    "own_modes",
    "rightmost_roots",
    "steady_state",
    "unstable_roots",
]

"""Signal processing in jax.numpy: exact against SciPy and MNE, differentiable, along time."""

from fitting.signal.connectivity import (
    analytic_signal,
    envelope_fc,
    fc_correlation,
    fc_dynamics,
    fc_matrix,
    modulus,
    pearson,
    phase_locking,
    upper_pairs,
    zscore,
)
from fitting.signal.decimate import Decimator
from fitting.signal.filters import band_pass, low_pass, sosfiltfilt
from fitting.signal.leakage import mix, symmetric_orthogonalization
from fitting.signal.observation import Observation
from fitting.signal.spectral import hilbert, resample, welch
from fitting.signal.zero_phase import FILTERS, fir_taps, zero_phase_band_pass, zero_phase_low_pass

__all__ = [
    "FILTERS",
    "Decimator",
    "Observation",
    "analytic_signal",
    "band_pass",
    "envelope_fc",
    "fc_correlation",
    "fc_dynamics",
    "fc_matrix",
    "fir_taps",
    "hilbert",
    "low_pass",
    "mix",
    "modulus",
    "pearson",
    "phase_locking",
    "resample",
    "sosfiltfilt",
    "symmetric_orthogonalization",
    "upper_pairs",
    "welch",
    "zero_phase_band_pass",
    "zero_phase_low_pass",
    "zscore",
]

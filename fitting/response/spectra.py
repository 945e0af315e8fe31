r"""Spectra and connectivity of a linearised network, in closed form.

The transfer from coupling input to the coupled variable of region i is :math:`h_i(f)`, that from its
noise ports :math:`g_i(f)`. Then

.. math::

    M(f) = 1 - \mathrm{diag}(h(f)) \, \big( W \circ e^{-2 \pi i f d} \big), \qquad
    S(f) = M^{-1} \, \mathrm{diag}\Big(\sum_p |g_{ip}|^2 N_{ip}(f)\Big) \, M^{-H}.

Signals of a linear network driven by Gaussian noise are jointly Gaussian. Squared envelopes of such
signals have the covariance :math:`|R_{ij}(\tau)|^2`, with :math:`R` the covariance of the analytic signals
(Isserlis), and correlations follow from S, the filters and nothing else.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import scipy.signal
from jax import lax
from jaxtyping import Array, Complex, Float

from fitting.errors import InputError
from fitting.response.linear import Linear
from fitting.signal import Observation, band_pass, low_pass
from fitting.signal.checks import check_band


def cross_spectra(
    linear: Linear, frequencies: Float[np.ndarray, " frequency"]
) -> Complex[Array, "frequency region region"]:
    """Cross-spectral density of the coupled variable, one-sided, per Hz.

    Parameters
    ----------
    linear : Linear
        From :func:`linearize`.
    frequencies : array (frequency,)
        In Hz.

    Returns
    -------
    complex array (frequency, region, region)
        Hermitian; ``S[f, i, i]`` is what :func:`fitting.signal.welch` estimates.

    Examples
    --------
    >>> import numpy as np
    >>> from fitting.network import Network
    >>> from fitting.response import cross_spectra, linearize
    >>> network = Network(np.ones((3, 3)), np.full((3, 3), 50.0), drive=0.6)
    >>> S = cross_spectra(linearize(network, {}, dt=0.25), np.array([10.0]))
    >>> S.shape, bool(S[0, 0, 0].real > 0)
    ((1, 3, 3), True)
    """
    frequencies = np.asarray(frequencies, dtype=float)
    if frequencies.ndim != 1 or len(frequencies) == 0 or (frequencies < 0).any():
        raise InputError(f"frequencies must be a list of numbers from 0 Hz; got {frequencies}")
    regions, variables = linear.entry.shape
    dt = linear.dt

    def one(f):
        turn = 2 * jnp.pi * f / 1000  # rad/ms
        # (z - 1) / dt for z on the unit circle, without cancellation.
        half = turn * dt / 2
        rate = (2j * jnp.sin(half) * jnp.exp(1j * half)) / dt
        own = rate * jnp.eye(variables) - linear.local
        entries = jnp.concatenate([linear.entry[:, :, None], linear.noise_entry], axis=2)
        through = jnp.linalg.solve(own, entries.astype(own.dtype))[:, linear.coupled]  # (region, 1 + port)
        transfer, from_noise = through[:, 0], through[:, 1:]
        next_by_past, out_by_past, next_by_normal, out_by_normal = jnp.moveaxis(linear.noise_process, -1, 0)
        back = jnp.exp(-1j * turn * dt)
        process = out_by_normal + out_by_past * back * next_by_normal / (1 - next_by_past * back)
        power = (jnp.abs(from_noise * process) ** 2).sum(1)
        delayed = linear.weights * jnp.exp(-1j * turn * linear.travel)
        matrix = jnp.eye(regions) - transfer[:, None] * delayed
        root = jnp.linalg.inv(matrix) * jnp.sqrt(power)
        density = jnp.matmul(root, root.conj().T, precision=lax.Precision.HIGHEST)
        return 2 * dt / 1000 * density

    return jax.vmap(one)(jnp.asarray(frequencies, linear.local.dtype))


def coherency(spectra: Complex[Array, "frequency region region"]) -> Complex[Array, "frequency region region"]:
    """Cross-spectra relative to the power of both signals; its modulus squared is the coherence."""
    power = jnp.diagonal(spectra, axis1=1, axis2=2).real
    return spectra / jnp.sqrt(power[:, :, None] * power[:, None, :])


def frequency_grid(observation: Observation, count: int = 17) -> Float[np.ndarray, " frequency"]:
    """Evenly spaced frequencies where the observation's zero-phase band-pass leaves over a hundredth of the power."""
    check_band(observation.band, observation.fs)
    fine = np.linspace(0, observation.fs / 2, 8001)
    passed = fine[band_response(observation, fine) > 0.01]
    return np.linspace(passed[0], passed[-1], count)


def band_response(observation: Observation, frequencies) -> Float[np.ndarray, " frequency"]:
    """What the observation's zero-phase band-pass leaves of a signal's power."""
    sos = band_pass(observation.band, observation.fs, observation.order)
    return np.abs(scipy.signal.sosfreqz(sos, frequencies, fs=observation.fs)[1]) ** 4


def _low_pass_pairs(observation: Observation, frequencies) -> Float[np.ndarray, "frequency frequency"]:
    """What the low-pass of envelopes leaves of the beat between two frequencies.

    An average over the beats that the two frequencies' neighbourhoods make (a triangle as wide as
    their spacing), so that a low-pass narrower than the spacing is the identity's multiple that it should be.
    """
    spacing = frequencies[1] - frequencies[0]
    if observation.low_pass is None:
        return np.ones((len(frequencies), len(frequencies)))
    sos = low_pass(observation.low_pass, observation.fs, observation.order)
    offset = np.linspace(-1, 1, 401)
    triangle = 1 - np.abs(offset)
    beat = np.arange(len(frequencies)) * spacing
    nearby = np.abs(beat[:, None] + offset * spacing)
    response = np.abs(scipy.signal.sosfreqz(sos, nearby.ravel(), fs=observation.fs)[1]) ** 4
    mean = (response.reshape(nearby.shape) * triangle).sum(1) / triangle.sum()
    step = np.abs(np.subtract.outer(np.arange(len(frequencies)), np.arange(len(frequencies))))
    return mean[step]


def envelope_connectivity(
    spectra: Complex[Array, "frequency region region"],
    frequencies: Float[np.ndarray, " frequency"],
    observation: Observation,
) -> Float[Array, "region region"]:
    r"""Expected correlation of band-limited envelopes, for infinitely long signals.

    With :math:`B` the power response of the zero-phase band-pass and :math:`\Lambda` that of the low-pass
    on envelopes at the beat of two frequencies,

    .. math::

        C_{ij} = \mathrm{Re} \sum_{f f'} B(f) S_{ij}(f) \, \Lambda(f - f') \, B(f') S_{ij}^*(f'), \qquad
        FC_{ij} = C_{ij} / \sqrt{C_{ii} C_{jj}}.

    This is exact for squared envelopes. Envelopes themselves have nearly the same (for Gaussian
    signals, without a low-pass, 0.915 to 1 times it, a nearly fixed factor). With a narrow low-pass
    :math:`\Lambda` is diagonal: the slow limit :math:`\sum_f |S_{ij}|^2`. The size of the noise cancels.

    Without orthogonalisation: see :func:`orthogonalized_connectivity`.

    Parameters
    ----------
    spectra : complex array (frequency, region, region)
        From :func:`cross_spectra`.
    frequencies : array (frequency,)
        Evenly spaced, see :func:`frequency_grid`.
    observation : Observation

    Returns
    -------
    array (region, region)
        Zero diagonal.
    """
    response = jnp.asarray(band_response(observation, frequencies), spectra.real.dtype)
    pairs = jnp.asarray(_low_pass_pairs(observation, frequencies), spectra.real.dtype)
    power = jnp.diagonal(spectra, axis1=1, axis2=2).real
    # Correlation ignores scale; without it 32-bit squares of small spectra would underflow.
    scale = lax.stop_gradient(1 / jnp.sqrt(power.max(0)))
    x = spectra * response[:, None, None] * scale[:, None] * scale
    mixed = jnp.einsum("fg,gij->fij", pairs, x, precision=lax.Precision.HIGHEST)
    covariance = (x.real * mixed.real + x.imag * mixed.imag).sum(0)
    variance = jnp.diagonal(covariance)
    fc = covariance / jnp.sqrt(variance[:, None] * variance[None, :])
    return fc * (1 - jnp.eye(len(fc), dtype=fc.dtype))


#: Gauss-Legendre nodes for the Rayleigh-distributed envelope: its quantiles from 0 to 1.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)


def orthogonalized_connectivity(
    spectra: Complex[Array, "frequency region region"],
    frequencies: Float[np.ndarray, " frequency"],
    observation: Observation,
) -> Float[Array, "region region"]:
    r"""Expected correlation of pairwise orthogonalised envelopes (Hipp et al., 2012) without a low-pass.

    Let :math:`c` be the coherency of two analytic signals of unit power. Then, with :math:`r = |z_j|` and a
    standard normal number n, the orthogonalised envelope is
    :math:`|\,\mathrm{Im}(c)\, r + \sqrt{(1 - |c|^2) / 2}\; n\,|`: a folded normal number given r, whose mean
    over the Rayleigh-distributed r is a one-dimensional integral (64 nodes; error below 1e-6 for
    :math:`|c| < 0.99`). Mean of both directions, zero diagonal.

    Returns
    -------
    array (region, region)
    """
    response = jnp.asarray(band_response(observation, frequencies), spectra.real.dtype)
    covariance = (spectra * response[:, None, None]).sum(0)
    power = jnp.diagonal(covariance).real
    c = covariance / jnp.sqrt(power[:, None] * power[None, :])
    off = 1 - jnp.eye(len(c), dtype=power.dtype)
    along = c.imag * off
    # Identical signals leave nothing: the floor keeps the division and its gradient finite.
    spread = jnp.sqrt(jnp.maximum((1 - (c.real**2 + c.imag**2) * off) / 2, 1e-12))
    # r by its quantiles; squared nodes crowd them where the Rayleigh quantile function is steep.
    u = (_NODES + 1) / 2
    quantile = 1 - (1 - u) ** 3
    r = np.sqrt(-np.log1p(-quantile))
    weight = _WEIGHTS / 2 * 3 * (1 - u) ** 2

    def moments(r, weight):
        mean = along * r
        ratio = mean / spread
        folded = spread * jnp.sqrt(2 / jnp.pi) * jnp.exp(-(ratio**2) / 2) + mean * jax.scipy.special.erf(
            ratio / np.sqrt(2)
        )
        return weight * folded, weight * folded * r

    first = jnp.zeros_like(along)
    (one, with_r), _ = lax.scan(
        lambda carry, x: (jax.tree.map(jnp.add, carry, moments(*x)), None),
        (first, first),
        (jnp.asarray(r, along.dtype), jnp.asarray(weight, along.dtype)),
    )
    mean_r = np.sqrt(np.pi) / 2
    fc = (with_r - one * mean_r) / jnp.sqrt((along**2 + spread**2 - one**2) * (1 - mean_r**2))
    return (fc + fc.T) / 2 * off

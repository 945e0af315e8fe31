r"""Spectra and connectivity of a linearised network, in closed form.

The transfer from coupling input to the coupled variable of region i is :math:`h_i(f)`, that from its
noise ports :math:`g_i(f)`. Then

.. math::

    M(f) = 1 - \mathrm{diag}(h(f)) \, \big( W \circ e^{-2 \pi i f d} \big), \qquad
    S(f) = M^{-1} \, \mathrm{diag}\Big(\sum_p |g_{ip}|^2 N_{ip}(f)\Big) \, M^{-H}.

Signals of a linear network driven by Gaussian noise are jointly Gaussian. Squared envelopes of such
signals have the covariance :math:`|R_{ij}(\tau)|^2`, with :math:`R` the covariance of the analytic signals
(Isserlis), and correlations follow from S, the filters and nothing else.

Common inputs, which region i receives with the strengths :math:`c_{mi}`, add to the matrix in the middle, for every
input m and port p, the outer product of :math:`c_{mi} g_{ip} n_{ip}` with itself, where :math:`|n_{ip}|^2 = N_{ip}`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import scipy.signal
import scipy.special
from jax import lax
from jaxtyping import Array, Complex, Float

from fitting.errors import InputError
from fitting.inverse import inverse
from fitting.response.linear import Linear, polynomial
from fitting.signal import Observation
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
    >>> from fitting.data import hcp_aal2
    >>> from fitting.network import Network
    >>> from fitting.response import cross_spectra, linearize
    >>> network = Network(hcp_aal2(regions=3), parameters={"drive": 0.6})
    >>> S = cross_spectra(linearize(network, {}, dt=0.25), np.array([10.0]))
    >>> S.shape, bool(S[0, 0, 0].real > 0)
    ((1, 3, 3), True)
    """
    frequencies = np.asarray(frequencies, dtype=float)
    if frequencies.ndim != 1 or len(frequencies) == 0 or (frequencies < 0).any():
        raise InputError(f"frequencies must be a list of numbers from 0 Hz; got {frequencies}")
    return _cross_spectra(linear, jnp.asarray(frequencies, linear.local.dtype))


@jax.jit
def _cross_spectra(linear, frequencies):
    regions, dt = len(linear.entry), linear.dt
    numerators, denominators = linear.transfers()

    def one(f):
        turn = 2 * jnp.pi * f / 1000  # rad/ms
        # (z - 1) / dt for z on the unit circle, without cancellation.
        half = turn * dt / 2
        rate = (2j * jnp.sin(half) * jnp.exp(1j * half)) / dt
        through = polynomial(numerators, rate) / polynomial(denominators, rate)[:, None]
        transfer, from_noise = through[:, 0], through[:, 1:]
        next_by_past, out_by_past, next_by_normal, out_by_normal = jnp.moveaxis(linear.noise_process, -1, 0)
        back = jnp.exp(-1j * turn * dt)
        # White noise has no past to speak of, and at 0 Hz nothing to divide by.
        kept, closed = out_by_past * next_by_normal, 1 - next_by_past * back
        process = out_by_normal + kept * back / jnp.where((kept == 0) & (closed == 0), 1.0, closed)
        entering = from_noise * process
        power = (jnp.abs(entering) ** 2).sum(1)
        delayed = linear.weights * jnp.exp(-1j * turn * linear.travel)
        matrix = jnp.eye(regions) - transfer[:, None] * delayed
        inverted = inverse(matrix)
        # Independent inputs of the regions' own noise, and of the ports of every common one.
        shared = (linear.common[:, :, None] * entering).swapaxes(0, 1).reshape(regions, -1)
        root = jnp.concatenate(
            [inverted * jnp.sqrt(power), jnp.matmul(inverted, shared, precision=lax.Precision.HIGHEST)], axis=1
        )
        density = jnp.matmul(root, root.conj().T, precision=lax.Precision.HIGHEST)
        return 2 * dt / 1000 * density

    return jax.vmap(one)(frequencies)


def mixed_spectra(
    spectra: Complex[Array, "frequency region region"], observation: Observation
) -> Complex[Array, "frequency region region"]:
    r"""Cross-spectra of what reconstruction makes of the activity: :math:`R S R^\top` (:func:`fitting.signal.mix`)."""
    once = observation.mixed(spectra)
    return observation.mixed(once.swapaxes(1, 2)).swapaxes(1, 2)


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
    return observation.band_pass.gain(np.asarray(frequencies)) ** 2


def _low_pass_pairs(observation: Observation, frequencies) -> Float[np.ndarray, "frequency frequency"]:
    """What the low-pass of envelopes leaves of the beat between two frequencies.

    An average over the beats that the two frequencies' neighbourhoods make (a triangle as wide as
    their spacing), so that a low-pass narrower than the spacing is the identity's multiple that it should be.
    """
    spacing = frequencies[1] - frequencies[0]
    step = np.abs(np.subtract.outer(np.arange(len(frequencies)), np.arange(len(frequencies))))
    return _beat_response(observation, spacing, len(frequencies))[step]


def _beat_response(observation: Observation, spacing: float, count: int) -> Float[np.ndarray, " beat"]:
    """What the low-pass leaves of beats of 0 to ``count - 1`` spacings, averaged over a triangle around each."""
    if observation.low_pass is None:
        return np.ones(count)
    offset = np.linspace(-1, 1, 401)
    triangle = 1 - np.abs(offset)
    nearby = np.abs(np.arange(count)[:, None] + offset) * spacing
    return (observation.envelope_low_pass.gain(nearby) ** 2 * triangle).sum(1) / triangle.sum()


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


#: Terms of the Fourier series of ``|sin|`` that are kept: together 99.9 % of the variance.
_HARMONICS = 3


def orthogonalized_connectivity(
    spectra: Complex[Array, "frequency region region"],
    frequencies: Float[np.ndarray, " frequency"],
    observation: Observation,
) -> Float[Array, "region region"]:
    r"""Expected correlation of pairwise orthogonalised envelopes (Hipp et al., 2012).

    Let :math:`c` be the coherency of two analytic signals of unit power, so that
    :math:`z_j = c z_i + s w` with w independent of :math:`z_i` and :math:`s^2 = 1 - |c|^2`. Then, with
    :math:`r = |z_i|` and a standard normal number n, the orthogonalised envelope of j is
    :math:`G = |\,\mathrm{Im}(c)\, r + s\, n / \sqrt 2\,|`: a folded normal number given r, whose moments
    over the Rayleigh-distributed r are elementary. Without a low-pass that is all: the result is exact.

    A low-pass makes the covariance over time count. It is taken from the part of G that is quadratic in the signals
    (its projection on the second Wiener chaos), a combination of :math:`|z_i|^2`, :math:`|w|^2` and :math:`w z_i^*`
    whose covariances with the envelope of i are products of covariances, so sums over pairs of
    frequencies give them as in :func:`envelope_connectivity`. Left out are higher chaoses, of
    fourth order in the coherency. The variance of the low-passed G is that for incoherent signals, from the Fourier
    series of :math:`|\sin|` of their phase difference and the hypergeometric moments of complex
    normal numbers (Middleton, Introduction to Statistical Communication Theory, 1960, section 9.1),
    times what coherency does to the variance without a low-pass. Together they miss the correlations of long Gaussian
    signals by less than 0.01 where the imaginary part of coherency is at most 0.4; they are 0.02 too large at 0.5, and
    0.03 at 0.6.

    Mean of both directions, zero diagonal.

    Returns
    -------
    array (region, region)
    """
    real = spectra.real.dtype
    power = jnp.diagonal(spectra, axis1=1, axis2=2).real
    response = jnp.asarray(band_response(observation, frequencies), real)
    scale = 1 / jnp.sqrt((power * response[:, None]).sum(0))
    x = spectra * response[:, None, None] * scale[:, None] * scale
    x = x.conj()  # of j with i
    c = x.sum(0) * (1 - jnp.eye(len(power[0]), dtype=real))
    # Identical signals leave nothing: the floor keeps the divisions and their gradients finite.
    rest = jnp.sqrt(jnp.maximum(1 - c.real**2 - c.imag**2, 2e-12))
    mean, with_r, with_r2, density, sign_r = _folded_moments(c.imag, rest / np.sqrt(2))
    variance = c.imag**2 + rest**2 / 2 - mean**2
    if observation.low_pass is None:
        mean_r = np.sqrt(np.pi) / 2
        fc = (with_r - mean * mean_r) / jnp.sqrt(variance * (1 - mean_r**2))
    else:
        pairs = jnp.asarray(_low_pass_pairs(observation, frequencies), real)
        own = jnp.diagonal(x, axis1=1, axis2=2).real
        mixed = jnp.matmul(pairs, own, precision=lax.Precision.HIGHEST)
        noise = x - c * own[:, :, None]  # of s w with i
        beating = jnp.einsum("fg,gij->fij", pairs, noise, precision=lax.Precision.HIGHEST)
        alone = (noise.real * beating.real + noise.imag * beating.imag).sum(0)
        turning = (noise.imag * mixed[:, :, None]).sum(0)
        covariance = (
            (with_r2 - mean) * (own * mixed).sum(0)[:, None] + density / (np.sqrt(8) * rest) * alone + sign_r * turning
        )
        envelope, incoherent = _low_passed_variances(own, frequencies, observation)
        total = incoherent * variance / (0.5 - 1 / np.pi)
        # The quadratic part of |z_i| is sqrt(pi) / 4 times |z_i|^2.
        fc = np.sqrt(np.pi) / 4 * covariance / jnp.sqrt(envelope[:, None] * total)
    return (fc + fc.T) / 2 * (1 - jnp.eye(len(fc), dtype=real))


def _folded_moments(along, spread):
    r"""Means over a standard normal n, and r of a Rayleigh law (mean square 1), for ``y = along r + spread n``.

    In this order: of ``|y|``, ``|y| r``, ``|y| r^2``, ``|y| (n^2 - 1) / spread`` and ``|y| r n / spread``. The mean of
    ``|y|`` given r is that of a folded normal number; integrals of its error function by r are elementary (Ng and
    Geller, Journal of Research of the National Bureau of Standards 73B, 1969, section 4.3).
    """
    ratio = along / (np.sqrt(2) * spread)
    total = 1 + ratio**2
    root = jnp.sqrt(total)
    # Means of the error function of ratio r, times r to the powers of 1, 2, 3.
    one = (jnp.arctan(ratio) + ratio / total) / np.sqrt(np.pi)
    two = ratio / root * (1 + 0.5 / total)
    three = 1.5 * one + ratio / (np.sqrt(np.pi) * total**2)
    density = np.sqrt(2 / np.pi) / total
    size = spread * density + along * one
    with_r = spread * density * np.sqrt(np.pi) / 2 / root + along * two
    return size, with_r, spread * density / total + along * three, density, one


def _low_passed_variances(power, frequencies, observation: Observation):
    """Variances of low-passed envelopes (region,) and, for incoherent signals, of j orthogonalised to i (i, j)."""
    count = len(frequencies)
    # Times within one period of the frequency grid, close enough for the fourth powers of the covariance.
    times = np.arange(4 * count) / (4 * count)
    beats = np.arange(1, 2 * count)
    passed = _beat_response(observation, frequencies[1] - frequencies[0], 2 * count)
    kernel = (passed[0] + 2 * np.cos(2 * np.pi * np.outer(times, beats)) @ passed[1:]) / len(times)
    kernel = jnp.asarray(kernel, power.dtype)
    # Seen from the band's first frequency: the phases of i and j turn against each other.
    turns = 2 * np.pi * np.outer(times, np.arange(count))
    rho = lax.complex(*(jnp.matmul(part(turns), power, precision=lax.Precision.HIGHEST) for part in (np.cos, np.sin)))
    square = rho.real**2 + rho.imag**2
    harmonics = range(1, _HARMONICS + 1)
    own, *others = _moments(square, [(0, 1), *((2 * k, power) for k in harmonics for power in (0, 1))])
    envelope = kernel @ (own - np.pi / 4)
    total = (2 / np.pi) ** 2 * envelope * jnp.ones((len(envelope), 1), power.dtype)
    for k, plain, weighted in zip(harmonics, others[::2], others[1::2], strict=True):
        share = 0.5 * (4 / np.pi / (4 * k**2 - 1)) ** 2
        turned = rho ** (2 * k)
        reference, other = turned * plain, kernel[:, None] * turned * weighted
        total = total + share * (reference.real.T @ other.real + reference.imag.T @ other.imag)
    return envelope, total


#: Degree of the polynomials that stand for moments.
_DEGREE = 24


def _moments(square, orders):
    """Means of ``|z w|^power exp(i m phase)`` over ``rho^m``, for the phase between normals z, w of correlation rho.

    For every (m, power), along the first axis: Chebyshev series in ``|rho|^2``, whose polynomials all share.
    """
    x = (np.cos(np.pi * (np.arange(64) + 0.5) / 64) + 1) / 2
    series = []
    for m, power in orders:
        a = (m - power) / 2
        values = scipy.special.gamma(1 + (power + m) / 2) ** 2 / scipy.special.gamma(m + 1)
        series.append(
            np.polynomial.chebyshev.chebfit(2 * x - 1, values * scipy.special.hyp2f1(a, a, m + 1, x), _DEGREE)
        )
    y = 2 * jnp.clip(square, 0.0, 1.0) - 1

    def next_polynomial(carry, _):
        before, now = carry
        return (now, 2 * y * now - before), now

    # A loop, written out, would be half of what a gradient has to be compiled of.
    _, polynomials = lax.scan(next_polynomial, (y, jnp.ones_like(y)), length=_DEGREE + 1)
    coefficients = jnp.asarray(np.array(series), y.dtype)
    return jnp.tensordot(coefficients, polynomials, 1, precision=lax.Precision.HIGHEST)

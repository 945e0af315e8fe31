"""Spatial leakage: what sensors mix, and its multivariate correction."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Num

from fitting.errors import InputError
from fitting.signal.checks import check_signals

#: Signals whose smallest singular value, of columns of length one, is below this depend on each other: recordings are
#: kept in 32 bits, which leave that much of what should be nothing.
DEPENDENT = 1e-5


def mix(x: Num[Array, "*series source"], mixing) -> Num[Array, "*series region"]:
    r"""What reconstruction makes of the activity of all regions: :math:`y_i = \sum_j R_{ij} x_j`.

    Sensors see every source, and no inverse operator undoes that. An estimate in region i is a mixture of all
    regions, whose weights are row i of the resolution matrix R, the inverse operator times the lead field.

    Parameters
    ----------
    x : array (..., source)
        Activity of regions, or complex spectra.
    mixing : array (region, source)
        R, see :func:`fitting.data.mixing_matrix`.

    Returns
    -------
    array (..., region)

    References
    ----------
    Hauk, Stenroos and Treder, NeuroImage 255 (2022), 119177.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from fitting.signal import mix
    >>> mix(jnp.array([[1.0, 0.0], [0.0, 1.0]]), [[1.0, 0.25], [0.5, 1.0]]).tolist()
    [[1.0, 0.5], [0.25, 1.0]]
    """
    return jnp.matmul(x, jnp.asarray(mixing, x.real.dtype).T, precision=lax.Precision.HIGHEST)


def symmetric_orthogonalization(
    x: Float[Array, "time region"], tolerance: float | None = None, steps: int = 1000
) -> Float[Array, "time region"]:
    """The mutually orthogonal signals closest to ``x``: no two of the result share anything without delay.

    Stronger signals are changed less, as in the reference: z-score them first where their power says nothing.
    Unlike pairwise orthogonalisation it also removes what a pair inherits from a third region.
    It needs more (effective) samples than regions, and is meant for recordings: it has no gradient.

    Parameters
    ----------
    x : array (time, region)
        Band-limited signals, not envelopes.
    tolerance : float, optional
        Relative change of the distance to ``x`` at which the iteration ends; a few roundings unless given.
    steps : int
        Most iterations.

    Returns
    -------
    array (time, region)
        Columns that are orthogonal to rounding; each keeps the length that brings it closest to its signal.

    Raises
    ------
    InputError
        If signals are linearly dependent: then no such set exists. Fewer samples than regions, average
        references and signal space projections make them so. A compiled program cannot raise, and gives NaN.

    References
    ----------
    Colclough, Brookes, Smith and Woolrich, NeuroImage 117 (2015), 439-448: the closest orthonormal
    matrix (equation 5) and the closest lengths (equation 7), in turns.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from fitting.signal import symmetric_orthogonalization
    >>> source = jax.random.normal(jax.random.key(0), (1000, 3))
    >>> y = symmetric_orthogonalization(source @ jnp.array([[1.0, 0.4, 0.0], [0.4, 1.0, 0.4], [0.0, 0.4, 1.0]]))
    >>> bool(jnp.abs(y[:, 0] @ y[:, 1]) < 1e-3 * (y[:, 0] @ y[:, 0]))
    True
    """
    check_signals(x)
    samples, regions = x.shape
    eps = float(jnp.finfo(x.dtype).eps)
    tolerance = 4 * eps if tolerance is None else tolerance
    length = jnp.sqrt((x**2).sum(0))
    typical = jnp.sqrt((length**2).mean())
    typical = jnp.where(typical > 0, typical, 1.0)
    # All that matters lies in the span of the signals: work on the small triangle.
    q, r = jnp.linalg.qr(x / typical)
    relative = length / typical
    independent = jnp.linalg.svd(r / jnp.where(relative > 0, relative, 1.0), compute_uv=False)[-1] >= DEPENDENT
    if regions > samples or (not isinstance(independent, jax.core.Tracer) and not independent):
        raise InputError(
            f"symmetric orthogonalisation needs linearly independent signals; these {regions} of {samples} samples "
            f"are not. Use longer recordings or fewer regions, or orthogonalise pairwise"
        )

    def closest(scale):
        u, _, v = jnp.linalg.svd(r * scale, full_matrices=False)
        return jnp.matmul(u, v, precision=lax.Precision.HIGHEST)

    def improve(carry):
        scale, last, _, step = carry
        basis = closest(scale)
        scale = (r * basis).sum(0)
        return scale, ((r - basis * scale) ** 2).sum(), last, step + 1

    def improving(carry):
        _, distance, last, step = carry
        return (step < steps) & (jnp.abs(last - distance) > tolerance * (1 + distance))

    first = (relative, jnp.asarray(jnp.inf, x.dtype), jnp.asarray(0.0, x.dtype), 0)
    scale, *_ = lax.while_loop(improving, improve, improve(first))
    result = jnp.matmul(q, closest(scale) * scale, precision=lax.Precision.HIGHEST) * typical
    return jnp.where(independent, result, jnp.nan)

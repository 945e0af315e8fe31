"""The inverse of a matrix, whose derivatives are matrix products."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact


@jax.custom_jvp
def inverse(matrix):
    """Inverse of square matrices, batched over leading axes, or by ``jax.vmap``.

    On a CPU one matrix is inverted after the other, and the derivative, ``-X dA X``, calls no LAPACK. JAX's own do
    neither: and in JAX before 0.11.2, a batch of LAPACK calls waits inside the very threads that it is to be computed
    in, so that as many batches side by side as there are threads, as on several devices, wait for ever.

    Parameters
    ----------
    matrix : array (..., n, n)

    Returns
    -------
    array (..., n, n)

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from fitting.inverse import inverse
    >>> inverse(jnp.array([[2.0, 0.0], [0.0, 4.0]])).tolist()
    [[0.5, 0.0], [0.0, 0.25]]
    """
    return lax.platform_dependent(matrix, cpu=_one_after_the_other, default=jnp.linalg.inv)


def _one_after_the_other(matrix):
    many = matrix.reshape(-1, *matrix.shape[-2:])
    return lax.map(jax.custom_batching.sequential_vmap(jnp.linalg.inv), many).reshape(matrix.shape)


@inverse.defjvp
def _(primals, tangents):
    inverted = inverse(*primals)
    product = jnp.matmul(
        jnp.matmul(inverted, tangents[0], precision=lax.Precision.HIGHEST), inverted, precision=lax.Precision.HIGHEST
    )
    return inverted, -product


def eliminate(matrix: Inexact[Array, "row n n"]) -> Inexact[Array, "row n n"]:
    """Inverses of many small matrices, side by side, by Gauss-Jordan elimination with pivots.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from fitting.inverse import eliminate
    >>> eliminate(jnp.array([[[0.0, 2.0], [4.0, 0.0]]])).tolist()
    [[[0.0, 0.25], [0.5, 0.0]]]
    """
    rows, size, _ = matrix.shape
    every = jnp.arange(rows)
    work = jnp.concatenate([matrix, jnp.broadcast_to(jnp.eye(size, dtype=matrix.dtype), matrix.shape)], -1)
    for i in range(size):
        pivot = i + jnp.abs(work[:, i:, i]).argmax(1)
        row = work[every, pivot]
        work = work.at[every, pivot].set(work[:, i])
        row = row / row[:, i, None]
        work = (work - work[:, :, i, None] * row[:, None]).at[:, i].set(row)
    return work[:, :, size:]

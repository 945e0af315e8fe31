"""The inverse of a matrix, whose derivatives are matrix products."""

import jax
import jax.numpy as jnp
from jax import lax


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
    >>> from fitting.response.inverse import inverse
    >>> inverse(jnp.array([[2.0, 0.0], [0.0, 4.0]])).tolist()
    [[0.5, 0.0], [0.0, 0.25]]
    """
    return lax.platform_dependent(matrix, cpu=_one_after_the_other, default=jnp.linalg.inv)


def _one_after_the_other(matrix):
    many = matrix.reshape(-1, *matrix.shape[-2:])
    return lax.map(jax.custom_batching.sequential_vmap(jnp.linalg.inv), many).reshape(matrix.shape)


@inverse.defjvp
def _(primals, tangents):
    found = inverse(*primals)
    product = jnp.matmul(
        jnp.matmul(found, tangents[0], precision=lax.Precision.HIGHEST), found, precision=lax.Precision.HIGHEST
    )
    return found, -product

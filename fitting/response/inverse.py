"""The inverse of a matrix, whose derivatives are matrix products."""

import jax
import jax.numpy as jnp
from jax import lax


@jax.custom_jvp
def inverse(matrix):
    """Inverse of square matrices, batched over leading axes.

    Its derivative, ``-X dA X``, calls no LAPACK. JAX's own would: and in JAX before 0.11.2, batches of LAPACK calls on
    a CPU wait inside the very threads that they are to be computed in, so that as many of them side by side as there
    are threads wait for ever. Programs with one chain of them, each needing the one before, are safe.

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
    return jnp.linalg.inv(matrix)


@inverse.defjvp
def _(primals, tangents):
    found = inverse(*primals)
    product = jnp.matmul(
        jnp.matmul(found, tangents[0], precision=lax.Precision.HIGHEST), found, precision=lax.Precision.HIGHEST
    )
    return found, -product

"""Noise is drawn as JAX draws it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fitting.network.noise import draw


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_draws_are_those_of_jax(impl, dtype):
    """Bit for bit, a key for each step."""
    key, shape = jax.random.key(3, impl=impl), (2, 9)
    drawn = jax.jit(lambda: draw(key, 70_000, 5, shape, dtype))()
    assert drawn.dtype == dtype
    keys = jax.vmap(lambda step: jax.random.fold_in(key, step))(70_000 + jnp.arange(5, dtype=jnp.uint32))
    np.testing.assert_array_equal(drawn, jax.vmap(lambda key: jax.random.normal(key, shape, dtype))(keys))


def test_an_old_key_is_a_key():
    np.testing.assert_array_equal(
        *(draw(key(3), 0, 2, (1, 4), jnp.float32) for key in (jax.random.key, jax.random.PRNGKey))
    )


def test_draws_in_32_bits(float32):
    key = jax.random.fold_in(jax.random.key(0), 7)
    np.testing.assert_array_equal(draw(jax.random.key(0), 7, 1, (2, 9), jnp.float32)[0], jax.random.normal(key, (2, 9)))

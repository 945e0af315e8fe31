"""Noise inputs: Ornstein-Uhlenbeck or white, one independent process per region and noise port.

Draws are made per absolute step from ``fold_in(key, step)``: one key gives the same noise whatever
the block size, the batch size, the length of the run or the way gradients are taken, so candidates
and finite differences share their random numbers.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def draw(key, start: Int[Array, ""] | int, count: int, shape: tuple[int, ...], dtype) -> Float[Array, ...]:
    """Standard normal numbers for ``count`` steps from the absolute step ``start``: ``(count, *shape)``."""
    keys = jax.vmap(lambda step: jax.random.fold_in(key, step))(start + jnp.arange(count, dtype=jnp.uint32))
    return jax.vmap(lambda key: jax.random.normal(key, shape, dtype))(keys)


def ornstein_uhlenbeck(x, normal, parameters, dt: float):
    """Advance ``tau dx = -x dt + sigma sqrt(tau) dW`` exactly over ``dt``; returns ``(x, input)``.

    The stationary standard deviation is ``sigma / sqrt(2)``, whatever ``dt`` and ``tau`` (the same
    process as brainmass.OUProcess; its exact solution, see Gillespie, Phys. Rev. E 54, 1996, eq. 1.9).
    """
    decay = jnp.exp(-dt / parameters["tau_noise"])
    # (1 - decay^2) / 2 written with expm1, which keeps its digits when dt is far below tau.
    spread = jnp.sqrt(-0.5 * jnp.expm1(-2 * dt / parameters["tau_noise"]))
    x = decay * x + parameters["sigma"] * spread * normal
    return x, x


def white(x, normal, parameters, dt: float):
    """White noise of intensity ``sigma`` (input units times sqrt(ms)), held over a step; returns ``(x, input)``."""
    return x, parameters["sigma"] * normal / dt**0.5


#: Noise processes by name.
NOISES = {f.__name__: f for f in (ornstein_uhlenbeck, white)}

#: Parameters of each noise process with their defaults: sigma in units of the input, tau in ms.
NOISE_PARAMETERS = {"ornstein_uhlenbeck": {"sigma": 0.01, "tau_noise": 10.0}, "white": {"sigma": 0.01}}

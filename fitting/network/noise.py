"""Noise inputs: Ornstein-Uhlenbeck or white, one independent process per region and noise port.

Draws are made per absolute step from ``fold_in(key, step)``: one key gives the same noise whatever
the block size, the batch size, the length of the run or the way gradients are taken, so candidates
and finite differences share their random numbers.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.random import define_prng_impl
from jaxtyping import Array, Float, Int, UInt


def draw(key, start: Int[Array, ""] | int, count: int, shape: tuple[int, ...], dtype) -> Float[Array, ...]:
    """Standard normal numbers for ``count`` steps from the absolute step ``start``: ``(count, *shape)``."""
    keys = jax.vmap(lambda step: jax.random.fold_in(key, step))(start + jnp.arange(count, dtype=jnp.uint32))
    if jax.random.key_impl(keys) == "threefry2x32":
        keys = jax.random.wrap_key_data(jax.random.key_data(keys), impl=_UNROLLED)
    return jax.vmap(lambda key: jax.random.normal(key, shape, dtype))(keys)


#: By how many bits Threefry turns its second word, in the first four rounds, the next four, and so on in turn; and the
#: number that makes a third word of its key.
TURNS, PARITY = ((13, 15, 26, 6), (17, 29, 16, 24)), 0x1BD11BDA


def threefry(key: UInt[Array, " word"], first: UInt[Array, "*n"], second: UInt[Array, "*n"]):
    """Twenty rounds of Threefry-2x32, two words to two words.

    Salmon, Moraes, Dror and Shaw, Proceedings of SC11 (2011), section 4. The bits are those of JAX, which on a CPU
    computes them in a loop over arrays: that takes twice as long, and three times as long to compile.
    """
    words = (key[0], key[1], key[0] ^ key[1] ^ np.uint32(PARITY))
    first, second = first + words[0], second + words[1]
    for group in range(5):
        for turn in TURNS[group % 2]:
            first = first + second
            second = ((second << np.uint32(turn)) | (second >> np.uint32(32 - turn))) ^ first
        first, second = first + words[(group + 1) % 3], second + words[(group + 2) % 3] + np.uint32(group + 1)
    return first, second


def _bits(key, width: int, shape: tuple[int, ...]):
    """Random bits as JAX has them: each element's number, encrypted."""
    number = lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    first, second = threefry(key, jnp.zeros_like(number), number)
    if width == 64:
        return (first.astype(jnp.uint64) << np.uint64(32)) | second.astype(jnp.uint64)
    return (first ^ second).astype(f"uint{width}")


def _unused(*_):
    raise NotImplementedError("keys of this generator are made from others, and only drawn from")


#: JAX's generator with the rounds written out.
_UNROLLED = define_prng_impl(
    key_shape=(2,),
    seed=_unused,
    split=_unused,
    random_bits=_bits,
    fold_in=_unused,
    name="threefry2x32 unrolled",
    tag="fryu",
)


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

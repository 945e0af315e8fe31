"""brainmass and brainstate, imported without their side effect on JAX.

Importing brainstate before its version 0.6 sets JAX's global precision to 32 bits. Precision is the
caller's choice: whatever was chosen before this import still holds after it.
"""

import jax

_x64 = jax.config.read("jax_enable_x64")

import brainmass  # noqa: E402
import brainstate  # noqa: E402

jax.config.update("jax_enable_x64", _x64)

__all__ = ["brainmass", "brainstate"]

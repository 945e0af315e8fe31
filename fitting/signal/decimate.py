"""Reduce the sampling rate of a signal that arrives in pieces."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import scipy.signal
from jax import lax
from jaxtyping import Array, Float

from fitting.errors import InputError


@dataclass(frozen=True, eq=False)
class Decimator:
    """Keeps every ``factor``-th sample of a signal, after a linear-phase anti-alias filter (Kaiser window).

    For simulations too long to hold at their own rate: feed the pieces one after the other, keep what
    comes out. Only the samples that are kept are computed.

    Parameters
    ----------
    factor : int
        Ratio of the two rates.
    attenuation : float
        Of everything above the new Nyquist frequency, in dB; the ripple below ``pass_band`` is as small.
    pass_band : float
        Fraction of the new Nyquist frequency up to which the signal passes unchanged.

    Raises
    ------
    InputError
        If the factor is not a whole number of at least 1, or the other values are out of range.

    References
    ----------
    Crochiere and Rabiner, Multirate Digital Signal Processing (1983), chapter 3; the Kaiser window's
    length by :func:`scipy.signal.kaiserord`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from fitting.signal import Decimator
    >>> t = jnp.arange(10_000) / 1000.0
    >>> x = jnp.sin(2 * jnp.pi * 10 * t)[:, None]
    >>> decimator = Decimator(10)
    >>> state = decimator.start(x[0])
    >>> state, first = decimator(state, x[:5000])
    >>> state, second = decimator(state, x[5000:])
    >>> y = jnp.concatenate([first, second, decimator.finish(state)])[decimator.delay :]
    >>> y.shape, bool(jnp.abs(y[50:-50] - x[::10][50:-50]).max() < 1e-3)
    ((1000, 1), True)
    """

    factor: int
    attenuation: float = 80.0
    pass_band: float = 0.8

    def __post_init__(self):
        if not isinstance(self.factor, int | np.integer) or self.factor < 1:
            raise InputError(f"the decimation factor must be a whole number of at least 1; got {self.factor!r}")
        if not 20 <= self.attenuation <= 200:
            raise InputError(f"attenuation must lie between 20 and 200 dB; got {self.attenuation}")
        if not 0 < self.pass_band < 1:
            raise InputError(
                f"pass_band is a fraction, between 0 and 1, of the new Nyquist frequency; got {self.pass_band}"
            )

    @property
    def taps(self) -> np.ndarray:
        """The filter: symmetric, its length one more than twice a multiple of ``factor``."""
        if self.factor == 1:
            return np.ones(1)
        length, beta = scipy.signal.kaiserord(self.attenuation, (1 - self.pass_band) / self.factor)
        half = -(-(length // 2) // self.factor) * self.factor
        cutoff = (1 + self.pass_band) / 2 / self.factor
        return scipy.signal.firwin(2 * half + 1, cutoff, window=("kaiser", beta))

    @property
    def delay(self) -> int:
        """Samples of the result by which it lags; what is put out first stands for times before the start."""
        return (len(self.taps) // 2) // self.factor

    def start(self, first: Float[Array, " region"]) -> Float[Array, "past region"]:
        """State of a signal that has always been at ``first``."""
        return jnp.repeat(jnp.asarray(first)[None], len(self.taps) - 1, axis=0)

    def __call__(
        self, state: Float[Array, "past region"], x: Float[Array, "time region"]
    ) -> tuple[Float[Array, "past region"], Float[Array, "samples region"]]:
        """Take a piece of a whole number of ``factor`` samples; returns the next state and the decimated piece."""
        if x.shape[0] % self.factor:
            raise InputError(f"pieces must be a multiple of {self.factor} samples; got {x.shape[0]}")
        taps = jnp.asarray(self.taps, x.dtype)
        x = jnp.concatenate([state, x])
        count = (x.shape[0] - len(taps) + 1) // self.factor
        y = lax.conv_general_dilated(
            x.T[:, None, : len(taps) + (count - 1) * self.factor],
            taps[None, None],
            (self.factor,),
            "VALID",
            precision=lax.Precision.HIGHEST,
        )
        return x[x.shape[0] - len(taps) + 1 :], y[:, 0].T

    def finish(self, state: Float[Array, "past region"]) -> Float[Array, "delay region"]:
        """The last samples, as if the signal stayed where it is."""
        if self.factor == 1:
            return state[:0]
        return self(state, jnp.repeat(state[-1:], self.delay * self.factor, axis=0))[1]

"""Where a network is at rest: all regions relax side by side, and Newton's method does the rest."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from fitting.inverse import eliminate, inverse

#: Implicit Euler steps in ms that regions take towards rest: of the coupled variable, and of the others, which follow
#: it at once; and their number.
SLOW, FAST, STEPS = 4.0, 1000.0, 150

#: Step in ms that holds a variable where it is.
HELD = 1e-6

#: Largest number of steps of Newton's method.
NEWTON = 20

#: Implicit Euler steps in ms that a search tries; the last one is Newton's. Parts of each of them that it tries.
PACES, FRACTIONS = (1.0, 10.0, 100.0, 1e9), (1.0, 0.5, 0.2, 0.05, 0.01)

#: Implicit Euler steps that a search takes in a row where no try helps, and all that it takes at most.
WALK, MOST = 24, 100

State = Float[Array, "region variable"]
Slope = Float[Array, "size size"]


def rest(
    change: Callable[[State], State],
    own: Callable[[State], Float[Array, "region variable variable"]],
    whole: Callable[[State], Slope],
    x: State,
    coupled: int,
    dt: float,
    pace: float = SLOW,
) -> State:
    """A steady state near ``x``, stable or not.

    Were all variables but the coupled one at once where it wants them, a region could not oscillate: what moves in one
    dimension comes to rest. Rates of change have the same zeros however much faster one variable is than another, so
    regions first take implicit Euler steps that are long for all but the coupled variable, each region as if the input
    from the others stood still. Input that excites keeps such a system in order (it is cooperative; Hirsch, SIAM
    Journal on Mathematical Analysis 16, 1985, 423-439): it rises from silence to its lowest steady state. Newton's
    method goes on from there, as long as it comes closer to rest. Where that does not arrive, a slow search does
    (:func:`search`).

    Parameters
    ----------
    change : callable
        Rate of change per ms of a state.
    own, whole : callable
        Its derivatives: of each region by itself, and all of them.
    x : array (region, variable)
    coupled : int
        Index of the coupled variable.
    dt : float
        Step in ms of the difference that ``change`` is made of, whose rounding is the best that can be reached.
    pace : float
        Of the coupled variable, in ms: :data:`HELD` finds the steady state that has it where it is, be it unstable.

    Returns
    -------
    array (region, variable)
        Wherever the search ended, where there is nothing to be found.
    """
    paces = jnp.full(x.shape[1], FAST, x.dtype).at[coupled].set(pace)

    def relax(_, x):
        inverses = eliminate(jnp.diag(1 / paces) - own(x))
        return x + jnp.einsum("rij,rj->ri", inverses, change(x), precision=lax.Precision.HIGHEST)

    x, size = newton(change, whole, lax.fori_loop(0, STEPS, relax, x))
    arrived = size < 1e3 * rounding(x, dt)
    return lax.cond(arrived, lambda x: x, lambda x: search(change, whole, x, dt), x)


def newton(change: Callable, whole: Callable, x: State) -> tuple[State, Float[Array, ""]]:
    """Newton's method as long as every step comes closer to rest; the state, and how fast it still changes."""

    def going(carry):
        _, _, size, before, count = carry
        return (count < NEWTON) & (size < before)

    def advance(carry):
        x, rate, size, _, count = carry
        new = x - _solve(whole(x), rate)
        new_rate = change(new)
        better = _size(new_rate) < size
        x, rate = jnp.where(better, new, x), jnp.where(better, new_rate, rate)
        return x, rate, _size(rate), size, count + 1

    rate = change(x)
    x, _, size, *_ = lax.while_loop(going, advance, (x, rate, _size(rate), jnp.asarray(jnp.inf, x.dtype), 0))
    return x, size


def search(change: Callable, whole: Callable, x: State, dt: float) -> State:
    """The best of several implicit Euler and (damped) Newton steps, again and again.

    Where no try comes closer to rest, a steady state has just vanished in a fold: implicit Euler steps walk on through
    time, with ever longer steps, towards one that is left (pseudo-transient continuation; Kelley and Keyes, SIAM
    Journal on Numerical Analysis 35, 1998).
    """
    dtype = x.dtype

    def going(carry):
        x, _, size, _, count = carry
        # NaN ends the loop too.
        return (count < MOST) & (size > 4 * rounding(x, dt)) & jnp.isfinite(size)

    def advance(carry):
        x, rate, size, walk, count = carry
        slope, walking = whole(x), walk > 0
        paces = jnp.where(walking, 10.0 * 1.3 ** (WALK - walk).astype(dtype), jnp.asarray(PACES, dtype))
        moves = lax.map(lambda pace: _solve(jnp.eye(len(slope), dtype=dtype) / pace - slope, rate), paces)
        tries = x + (moves[:, None] * jnp.asarray(FRACTIONS, dtype)[:, None, None]).reshape(-1, *x.shape)
        rates = jax.vmap(change)(tries)
        sizes = jax.vmap(_size)(rates)
        chosen = jnp.where(walking, 0, jnp.nanargmin(sizes))
        taken = walking | (sizes[chosen] < size)
        x, rate = jnp.where(taken, tries[chosen], x), jnp.where(taken, rates[chosen], rate)
        walk = jnp.where(walking, walk - 1, jnp.where(taken, 0, WALK))
        # At rest to within rounding nothing is closer, and there is nowhere to walk to.
        size = _size(rate)
        done = (walk == WALK) & (size < 1e3 * rounding(x, dt))
        return x, rate, size, walk, jnp.where(done, MOST, count + 1)

    rate = change(x)
    return lax.while_loop(going, advance, (x, rate, _size(rate), 0, 0))[0]


def rounding(x: State, dt: float) -> Float[Array, ""]:
    """Rate of change that rounding alone makes of a difference over a step of ``dt``."""
    return jnp.finfo(x.dtype).eps * _size(x) / dt


def _size(x) -> Float[Array, ""]:
    return jnp.sqrt((x**2).sum())


def _solve(matrix, rate):
    return jnp.matmul(inverse(matrix), rate.ravel(), precision=lax.Precision.HIGHEST).reshape(rate.shape)

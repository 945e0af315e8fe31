r"""Whether the steady state is stable, delays and all, and by how much.

The roots :math:`\lambda` of a network with delays solve
:math:`\det(\mu(\lambda) - L - K \circ e^{-\lambda d}) = 0`, with :math:`\mu = (e^{\lambda dt} - 1) / dt` for steps of
``dt``. There are infinitely many; the steady state is stable if all have negative real parts.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Complex, Float, ScalarLike

from fitting.inverse import eliminate, inverse
from fitting.response.linear import Linear, polynomial

#: Stands for a root that is not there (1/ms): so far to the left that no mode decays faster.
FAR_LEFT = -1e3

#: Eigenvalues are searched near points so far right of the imaginary axis (1/ms), in so many steps of Arnoldi's method:
#: nearest to them are those that grow, or decay the slowest.
RIGHT, KRYLOV = 0.03, 40


def _delayed(linear: Linear, root):
    return linear.weights * jnp.exp(-root * linear.travel)


def _characteristic(linear: Linear, transfers, root, delayed):
    """Matrix (region, region) that is singular at the characteristic roots of delayed weights, and nowhere infinite."""
    numerators, denominators = transfers
    rate = jnp.expm1(root * linear.dt) / linear.dt
    entering, own = polynomial(numerators[..., 0], rate), polynomial(denominators, rate)
    return jnp.diag(own) - entering[:, None] * delayed


def _eigenvalues(linear: Linear, target, delayed) -> Complex[Array, " eigenvalue"]:
    """Roots of a network with delayed weights held as they are, in 1/ms: those nearest to a target.

    Arnoldi's method (Quarterly of Applied Mathematics 9, 1951, 17-29) on the inverse of the shifted network. It takes
    one inverse of as many rows as there are regions. Of large networks, the eigenvalues furthest away are approximate.
    """
    regions, variables = linear.entry.shape
    rate = jnp.expm1(target * linear.dt) / linear.dt
    alone = eliminate(rate * jnp.eye(variables, dtype=rate.dtype) - linear.local)
    through = jnp.einsum("rij,rj->ri", alone, linear.entry.astype(rate.dtype))
    transfer = through[:, linear.coupled]
    together = inverse(jnp.eye(regions, dtype=rate.dtype) - transfer[:, None] * delayed)

    def solve(x):
        x = jnp.einsum("rij,rj->ri", alone, x.reshape(regions, variables))
        entering = delayed @ (together @ x[:, linear.coupled])
        return (x + through * entering[:, None]).ravel()

    size = regions * variables
    steps = min(KRYLOV, size)
    tiny = jnp.finfo(linear.local.dtype).tiny

    def step(number, carry):
        basis, projected = carry
        x = solve(basis[number])
        column = jnp.zeros(steps + 1, rate.dtype)
        # A second pass removes what rounding has left of the directions before.
        for _ in range(2):
            along = basis.conj() @ x
            x, column = x - along @ basis, column + along
        length = jnp.linalg.norm(x)
        return basis.at[number + 1].set(x / jnp.maximum(length, tiny)), projected.at[:, number].set(
            column.at[number + 1].add(length)
        )

    # No symmetry of a network hides from irregular numbers.
    start = jnp.sin(1.0 + jnp.arange(size) ** 2).astype(rate.dtype)
    basis = jnp.zeros((steps + 1, size), rate.dtype).at[0].set(start / jnp.linalg.norm(start))
    _, projected = lax.fori_loop(0, steps, step, (basis, jnp.zeros((steps + 1, steps), rate.dtype)))
    inverted = jnp.linalg.eigvals(projected[:steps])
    return jnp.log1p((rate - 1 / jnp.where(jnp.abs(inverted) > tiny, inverted, tiny)) * linear.dt) / linear.dt


class _Roots(NamedTuple):
    """Roots, vectors that the characteristic matrix takes to zero, and its derivative by the root between these."""

    root: Complex[Array, " root"]
    right: Complex[Array, "root region"]
    left: Complex[Array, "root region"]
    slope: Complex[Array, " root"]
    settled: Bool[Array, " root"]


@partial(jax.jit, static_argnames=("count", "steps"))
def rightmost_roots(
    linear: Linear, frequency: ScalarLike | Float[Array, "*frequency"], count: int = 4, steps: int = 30
) -> Complex[Array, "*frequency count"]:
    """Characteristic roots with the largest real parts, among those that oscillate at about ``frequency``.

    Candidates are eigenvalues of the network with its delays taken at that frequency: of those near to it, the ones
    with the largest real parts. Each is then refined with its own delays, by Newton's method on the eigenvalue and
    inverse iteration on its vectors (Ruhe, SIAM Journal on Numerical Analysis 10, 1973). Differentiable: the
    derivative of a simple root by its two vectors.

    Parameters
    ----------
    linear : Linear
    frequency : float, or array of any shape
        In Hz; 0 for roots that do not oscillate.
    count : int
        Roots to return for each frequency.
    steps : int
        Refinements at most.

    Returns
    -------
    complex array (*frequency, count)
        Roots in 1/s: real part the growth rate, imaginary part the angular frequency. In the place of
        a candidate that is missing, or that leads to no root or to one found before, stands -1e6.
    """
    fixed, frequency = jax.tree.map(lax.stop_gradient, linear), jnp.asarray(frequency, linear.local.dtype)
    found = lax.map(lambda frequency: _refined(fixed, frequency, count, steps), frequency.ravel())
    transfers = linear.transfers()

    def followed(found: _Roots):
        # At the root this subtracts zero, and carries the derivative by the network.
        matrix = _characteristic(linear, transfers, found.root, _delayed(linear, found.root))
        return found.root - (found.left @ matrix @ found.right) / found.slope

    roots = jnp.where(found.settled, jax.vmap(jax.vmap(followed))(found), FAR_LEFT)
    return 1000 * roots.reshape(*frequency.shape, roots.shape[-1])


def _refined(linear: Linear, frequency, count: int, steps: int) -> _Roots:
    """The rightmost roots at about one frequency, not to be differentiated."""
    still, root = frequency == 0, 2j * jnp.pi * frequency / 1000
    delayed, transfers = _delayed(linear, root), linear.transfers()
    values = _eigenvalues(linear, RIGHT + root, delayed)
    count = min(count, len(values))
    # Newton's method squares errors: a move this small leaves none.
    tolerance = jnp.sqrt(jnp.finfo(linear.local.dtype).eps)
    # Of each conjugate pair the one on the side of the frequency; delays were taken for that one.
    # At zero frequency, those that do not oscillate.
    tiny = tolerance * jnp.abs(values)
    eligible = jnp.where(still, jnp.abs(values.imag) <= tiny, values.imag >= -tiny)
    values = jnp.where(still, values.real, values)
    _, order = lax.top_k(jnp.where(eligible, values.real, -jnp.inf), count)
    nothing = jnp.zeros(len(linear.entry), values.dtype)

    def both(root, delayed):
        """The matrix and its derivative by the root, for weights that are delayed as a function of it says."""
        return jax.jvp(
            lambda root: _characteristic(linear, transfers, root, delayed(root)), (root,), (jnp.ones_like(root),)
        )

    def improve(right, left, factors, by_root):
        """Closer vectors."""
        right = jax.scipy.linalg.lu_solve(factors, by_root @ right)
        left = jax.scipy.linalg.lu_solve(factors, by_root.T @ left, trans=1)
        return right / jnp.linalg.norm(right), left / jnp.linalg.norm(left)

    def factored(matrix):
        return jax.scipy.linalg.lu_factor(matrix + jnp.eye(len(matrix)) * 1e-12)

    def going(carry):
        *_, move, taken = carry
        return (move > tolerance) & (taken <= steps)

    def advance(carry):
        root, right, left, *_, taken = carry
        # First the vectors with delays held, so that Newton's method sets out towards this root and no other.
        held = taken == 0
        beside = root + jnp.where(held, 1e-9 * (1 + jnp.abs(root)), 0.0)
        matrix, by_root = both(beside, lambda x: jnp.where(held, delayed, _delayed(linear, x)))
        factors = factored(matrix)
        closer = lambda _, pair: improve(pair[0], pair[1], factors, by_root)  # noqa: E731
        right, left = lax.fori_loop(0, jnp.where(held, 2, 1), closer, (right, left))
        slope = left @ by_root @ right
        move = (left @ matrix @ right) / slope
        size = jnp.where(held, jnp.inf, jnp.abs(move) / (jnp.abs(root) + 1e-3))
        return root - jnp.where(held, 0.0, move), right, left, slope, size, taken + 1

    def refine(value):
        start = jnp.sin(1.0 + jnp.arange(len(linear.entry)) ** 2).astype(value.dtype)
        first = (value, start, start, jnp.ones_like(value), jnp.asarray(jnp.inf, linear.local.dtype), 0)
        root, right, left, slope, move, _ = lax.while_loop(going, advance, first)
        found = _Roots(root, right, left, slope, move <= tolerance)  # NaN is not found either
        return jax.tree.map(lambda x, y: jnp.where(found.settled, x, y), found, missing(value))

    def missing(value):
        return _Roots(jnp.zeros_like(value), nothing, nothing, jnp.ones_like(value), jnp.asarray(False))

    # One root at a time: XLA's batches of LAPACK calls, side by side, can wait for each other for ever.
    found = lax.map(lambda each: lax.cond(each[1], refine, missing, each[0]), (values[order], eligible[order]))
    # Two candidates may lead to one root: it counts once.
    close = jnp.minimum(10 * tolerance, 1e-3)
    same = (jnp.abs(found.root[:, None] - found.root) < close * jnp.abs(found.root)) & found.settled
    repeated = (same & (jnp.arange(count) < jnp.arange(count)[:, None])).any(1)
    return found._replace(settled=found.settled & ~repeated)


def own_modes(linear: Linear) -> Complex[Array, " mode"]:
    """Characteristic roots of every region by itself, the input that it gets from others held still.

    Far from the frequencies that the network's roots are searched at, a mode that grows is most often one region's own:
    fast time constants make it oscillate.

    Parameters
    ----------
    linear : Linear

    Returns
    -------
    complex array (region * variable,)
        Roots in 1/s, as of :func:`rightmost_roots`. Differentiable where a region has no two equal ones.
    """
    # One region at a time, as the network's roots.
    values = lax.map(jnp.linalg.eigvals, linear.local)
    return 1000 * (jnp.log1p(values * linear.dt) / linear.dt).ravel()


@jax.jit
def _followed(frequencies, line, linear: Linear):
    """Sign of the determinant that :func:`unstable_roots` follows, and its rate of turning, at every frequency."""
    numerators, denominators = linear.transfers()

    def relative(f):
        root = line + 2j * jnp.pi * f / 1000
        rate = jnp.expm1(root * linear.dt) / linear.dt
        transfer = polynomial(numerators[..., 0], rate) / polynomial(denominators, rate)
        return jnp.eye(len(transfer)) - transfer[:, None] * _delayed(linear, root)

    def one(f):
        matrix, change = jax.jvp(relative, (f,), (jnp.ones_like(f),))
        # One after the other, for the reason that `inverse` gives.
        return lax.platform_dependent(
            matrix, change, cpu=jax.custom_batching.sequential_vmap(_turning), default=_turning
        )

    return lax.map(one, frequencies, batch_size=16)


def _turning(matrix, change):
    """Sign of a matrix's determinant, and how fast it turns where the matrix changes: by one factorisation."""
    factors, pivots = jax.scipy.linalg.lu_factor(matrix)
    diagonal = jnp.diagonal(factors)
    swaps = (pivots != jnp.arange(len(pivots))).sum()
    sign = (diagonal / jnp.abs(diagonal)).prod() * (1 - 2 * (swaps % 2))
    return sign, jnp.trace(jax.scipy.linalg.lu_solve((factors, pivots), change)).imag


def unstable_roots(linear: Linear, right_of: float = 0.0) -> int:
    """Number of characteristic roots right of a vertical line, all delays and all frequencies included.

    The argument principle for ``det M``, the determinant of the network relative to its uncoupled
    regions: its turns along the line count the network's roots less those of the regions alone. The
    determinant is followed in steps of less than a quarter turn, by its own rate of turning, so that
    no turn can hide between two frequencies.

    Parameters
    ----------
    linear : Linear
        Concrete, not traced.
    right_of : float
        Real part of the line in 1/s; 0 asks whether the steady state is unstable.

    Returns
    -------
    int
        Zero if the steady state is stable.

    Examples
    --------
    >>> from fitting.data import hcp_aal2
    >>> from fitting.network import Network
    >>> from fitting.response import linearize, unstable_roots
    >>> networks = [Network(hcp_aal2(regions=3), parameters={"drive": drive}) for drive in (0.6, 0.8)]
    >>> [unstable_roots(linearize(network, {"k": 0.5}, dt=0.25)) for network in networks]
    [0, 6]
    """
    dt, line = linear.dt, right_of / 1000
    alone = np.linalg.eigvals(np.asarray(linear.local, complex))
    regions_alone = int((np.abs(1 + alone * dt) > np.exp(line * dt)).sum())

    def at(frequencies):
        padded = np.pad(frequencies, (0, -len(frequencies) % 64), mode="edge")
        sign, rate = _followed(jnp.asarray(padded, linear.local.dtype), line, linear)
        return np.asarray(sign)[: len(frequencies)], np.asarray(rate)[: len(frequencies)]

    highest = 500 / dt
    most = min(100.0, highest)
    f = np.unique(np.concatenate([np.linspace(0, most, 256), np.geomspace(most, highest, 32)]))
    sign, rate = at(f)
    while True:
        width = np.diff(f)
        turned = np.angle(sign[1:] / sign[:-1])
        expected = (rate[1:] + rate[:-1]) / 2 * width
        fast = np.maximum(np.abs(rate[1:]), np.abs(rate[:-1])) * width
        coarse = np.flatnonzero(((fast > np.pi / 4) | (np.abs(turned - expected) > np.pi / 8)) & (width > 1e-5))
        if len(coarse) == 0 or len(f) > 50_000:
            break
        middle = (f[coarse] + f[coarse + 1]) / 2
        new_sign, new_rate = at(middle)
        f = np.insert(f, coarse + 1, middle)
        sign, rate = np.insert(sign, coarse + 1, new_sign), np.insert(rate, coarse + 1, new_rate)
    # The other half of the line, at negative frequencies, turns as far.
    return regions_alone - round(2 * turned.sum() / (2 * np.pi))

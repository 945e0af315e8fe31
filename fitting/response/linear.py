r"""A network's steady state, and the linear system that its small fluctuations obey.

What is linearised is the simulated difference equation itself: one step of brainmass's node, by
automatic differentiation. Only delays are what they are, neither interpolated between steps, which matters little, nor
rounded to steps: cross-spectra of networks with ``interpolation="nearest"`` differ by some percent. With state
deviations :math:`x_i` of region i, coupled variable :math:`c_i`, travel times :math:`d_{ij}` and noise :math:`n_i`,
and the step's own derivatives,

.. math::

    x_i(t + dt) = A_i x_i(t) + b_i \Big( \kappa_i \sum_j W_{ij} c_j(t - d_{ij}) + o_i c_i(t) \Big) + G_i n_i(t).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Complex, Float

from fitting.errors import InputError
from fitting.inverse import inverse
from fitting.network.network import Network
from fitting.network.simulate import NetworkState, initial_state, simulate_noise
from fitting.programs import compiled
from fitting.response.rest import HELD, SLOW, rest

#: What a linearisation holds that is computed; the rest is fixed by how the network is simulated.
ARRAYS = ("steady", "local", "entry", "noise_entry", "noise_process", "common", "weights", "travel", "residual")


@partial(jax.tree_util.register_dataclass, data_fields=ARRAYS, meta_fields=("coupled", "dt"))
@dataclass(frozen=True, eq=False)
class Linear:
    """Linearisation of a network around its steady state; see the module for the symbols.

    A tree of arrays for JAX's transformations, to which ``coupled`` and ``dt`` are constants.

    Attributes
    ----------
    steady : array (region, variable)
        Steady state.
    local : array (region, variable, variable)
        ``(A_i + b_i o_i e_c^T - 1) / dt`` in 1/ms: the region itself, its own coupled variable included.
    entry : array (region, variable)
        ``b_i kappa_i / dt`` in 1/ms: where coupling enters.
    noise_entry : array (region, variable, port)
        ``G_i / dt`` in 1/ms.
    noise_process : array (region, port, 4)
        Derivatives of the noise process: of its next state and of what it injects, by its state and
        by a standard normal number.
    common : array (input, region)
        How strongly regions receive each common input, in units of their own noise.
    weights, travel : array (target, source)
        Weights, and travel times in ms.
    coupled : int
        Index of the coupled variable.
    dt : float
        Step in ms.
    residual : array ()
        Largest rate of change that is left at the steady state, in units of a state variable per ms.
    """

    steady: Float[Array, "region variable"]
    local: Float[Array, "region variable variable"]
    entry: Float[Array, "region variable"]
    noise_entry: Float[Array, "region variable port"]
    noise_process: Float[Array, "region port 4"]
    common: Float[Array, "input region"]
    weights: Float[Array, "target source"]
    travel: Float[Array, "target source"]
    coupled: int
    dt: float
    residual: Float[Array, ""]

    def transfers(self) -> tuple[Float[Array, "power region input"], Float[Array, "degree region"]]:
        r"""How the coupled variable of a region by itself follows its inputs: coupling first, then each noise port.

        Responses are rational functions of :math:`\mu = (e^{\lambda dt} - 1) / dt`, the element of
        :math:`(\mu - L_i)^{-1}` that leads from the input to the coupled variable.

        Returns
        -------
        numerators, denominators : arrays (variable, region, input), (variable + 1, region)
            Coefficients of polynomials, the highest power first; see :func:`polynomial`. The denominators are the
            characteristic polynomials of the regions.

        References
        ----------
        The algorithm of Faddeev and Leverrier (Faddeev and Faddeeva, Computational Methods of Linear Algebra, 1963,
        section 47), which divides by no numbers but the powers.
        """
        regions, variables = self.entry.shape
        identity = jnp.broadcast_to(jnp.eye(variables, dtype=self.local.dtype), self.local.shape)
        adjugate, characteristic = [identity], [jnp.ones(regions, self.local.dtype)]
        for power in range(1, variables + 1):
            product = jnp.matmul(self.local, adjugate[-1], precision=lax.Precision.HIGHEST)
            characteristic.append(-jnp.trace(product, axis1=1, axis2=2) / power)
            adjugate.append(product + characteristic[-1][:, None, None] * identity)
        entries = jnp.concatenate([self.entry[:, :, None], self.noise_entry], axis=2)
        # The last adjugate is zero (Cayley and Hamilton).
        to_coupled = jnp.stack(adjugate[:-1])[:, :, self.coupled]
        numerators = jnp.einsum("prj,rji->pri", to_coupled, entries, precision=lax.Precision.HIGHEST)
        return numerators, jnp.stack(characteristic)


def polynomial(coefficients: Float[Array, "power ..."], x: Float[Array, ""] | Complex[Array, ""]):
    """Values of polynomials whose coefficients lie along the first axis, the highest power first.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from fitting.response.linear import polynomial
    >>> polynomial(jnp.array([[2.0, 1.0], [1.0, 0.0]]), jnp.asarray(3.0)).tolist()
    [7.0, 3.0]
    """
    return reduce(lambda value, coefficient: value * x + coefficient, coefficients)


def linearize(
    network: Network, parameters: Mapping[str, Any], *, dt: float, node: Mapping[str, Any] | None = None
) -> Linear:
    """Linearise a network around its steady state. Pure and differentiable.

    The steady state is that which the network comes to from its initial state where nothing oscillates (see
    :func:`fitting.response.rest.rest`), so that an unstable one is found as well; where a network has several, it is
    one near the initial state. Derivatives are those of the implicit function.

    Parameters
    ----------
    network, parameters
        See :func:`fitting.network.simulate`.
    dt : float
        Step in ms of the simulation that is linearised.
    node : mapping, optional
        State variables to start from, as in :func:`fitting.network.initial_state`.

    Returns
    -------
    Linear
        Whose ``residual`` tells whether a steady state was found.

    Raises
    ------
    InputError
        As :func:`fitting.network.simulate`, for parameters.

    Examples
    --------
    >>> from fitting.data import hcp_aal2
    >>> from fitting.network import Network
    >>> from fitting.response import linearize
    >>> network = Network(hcp_aal2(regions=3), parameters={"drive": 0.6})
    >>> linear = linearize(network, {"k": 0.5}, dt=0.25)
    >>> linear.steady.shape, bool(linear.residual < 1e-6)
    ((3, 2), True)
    """
    if not dt > 0:
        raise InputError(f"dt must be positive; got {dt} ms")
    network.check_parameters(parameters)
    dtype = jnp.result_type(float)
    names = list(network.node.variables)
    start = initial_state(network, dt, dtype, node).node
    guess = jnp.stack([start[name] for name in names], axis=1)
    return _linearize(network, float(dt), network.resolve(parameters, dtype), guess)


@partial(jax.jit, static_argnums=(0, 1))
def _linearize(network, dt, resolved, guess):
    dtype = guess.dtype
    weights, travel, by_region = resolved
    model, names = network.node, list(network.node.variables)
    coupled = names.index(model.coupled)
    silence = jnp.zeros((model.ports, network.regions), dtype)

    def step(x, current, noise):
        state = dict(zip(names, x.T, strict=True))
        new = network.move(state, current, noise, by_region, dt)
        return (jnp.stack([new[name] for name in names], axis=1) - x) / dt

    @jax.jit  # traced once, though most of what follows calls it
    def rate(x, delayed, noise):
        return step(x, network.current(delayed, x[:, coupled], by_region), noise)

    def change(x):
        return rate(x, weights @ x[:, coupled], silence)

    def derivatives(x):
        """Of the rate of change by the region's own state, by its delayed input and by its noise."""
        # Regions do not mix within a step: one direction at a time serves all of them.
        directions = jnp.eye(len(names) + 1 + model.ports, dtype=dtype)

        def along(direction):
            own, delayed, noise = jnp.split(direction, (len(names), len(names) + 1))
            tangents = jnp.broadcast_to(own, x.shape), jnp.broadcast_to(delayed, len(x)), noise[:, None] + silence
            return jax.jvp(rate, (x, weights @ x[:, coupled], silence), tangents)[1]

        every = jnp.moveaxis(jax.vmap(along)(directions), 0, -1)
        return every[..., : len(names)], every[..., len(names)], every[..., len(names) + 1 :]

    def whole(x):
        """Derivatives of all regions' rates of change by all states, (region * variable, region * variable)."""
        local, entry, _ = derivatives(x)
        every = jnp.arange(len(x))
        matrix = jnp.zeros((*x.shape, *x.shape), dtype).at[every, :, every, :].set(local)
        return matrix.at[..., coupled].add(entry[:, :, None] * weights[:, None, :]).reshape(x.size, x.size)

    def settle(_, guess):
        pace = SLOW
        if network.balance:
            # The steady state that was asked for, be it unstable: regions that relax would leave it for another one.
            guess, pace = guess.at[:, coupled].set(by_region["excitation"]), HELD
        return rest(change, lambda x: derivatives(x)[0], whole, guess, coupled, dt, pace)

    def tangent_solve(tangent, y):
        jacobian = jax.jacfwd(tangent)(jnp.zeros_like(y)).reshape(y.size, y.size)
        return jnp.matmul(inverse(jacobian), y.ravel(), precision=lax.Precision.HIGHEST).reshape(y.shape)

    steady = lax.custom_root(change, lax.stop_gradient(guess), settle, tangent_solve)
    local, entry, noise_entry = derivatives(steady)
    normal = jnp.zeros(network.noise_shape, dtype)
    by_past, by_normal = (
        jax.jvp(lambda past, normal: network.fluctuate(past, normal, by_region, dt), (silence, normal), direction)[1]
        for direction in ((jnp.ones_like(silence), normal), (silence, normal.at[:, : network.regions].set(1.0)))
    )
    noise_process = jnp.stack([*by_past, *by_normal], axis=-1).swapaxes(0, 1)
    return Linear(
        steady,
        local,
        entry,
        noise_entry,
        noise_process,
        jnp.array([by_region[name] for name in network.common_names], dtype).reshape(-1, network.regions),
        weights,
        travel,
        coupled,
        dt,
        jnp.abs(change(steady)).max(),
    )


def steady_state(
    network: Network, parameters: Mapping[str, Any], *, dt: float, node: Mapping[str, Any] | None = None
) -> NetworkState:
    """State of a network at rest: its steady state, silent noise, and a constant past. Pure and differentiable.

    Parameters
    ----------
    network, parameters, dt, node
        See :func:`linearize`.

    Returns
    -------
    NetworkState
        To start :func:`fitting.network.simulate` from. Where no steady state was found, wherever the search for it
        ended.

    Raises
    ------
    InputError
        As :func:`linearize`.

    Examples
    --------
    >>> import numpy as np
    >>> from fitting.data import hcp_aal2
    >>> from fitting.network import Network, simulate
    >>> from fitting.response import steady_state
    >>> network = Network(hcp_aal2(regions=3), parameters={"drive": 0.6})
    >>> rest = steady_state(network, {"k": 0.5}, dt=0.25)
    >>> rates = simulate(network, {"k": 0.5, "sigma": 0.0}, duration=100.0, dt=0.25, state=rest).rates
    >>> bool(np.ptp(rates) < 1e-5)
    True
    """
    steady = linearize(network, parameters, dt=dt, node=node).steady
    return initial_state(network, dt, steady.dtype, dict(zip(network.node.variables, steady.T, strict=True)))


def departure(
    network: Network,
    parameters: Mapping[str, Any],
    steady: Float[Array, "region variable"],
    *,
    dt: float,
    duration: float = 20_000.0,
) -> float:
    """How far from a steady state a network without noise comes to be, from the node's initial values.

    A network may have several attractors. Linear response describes one, and simulations that end in another have
    other connectivity.

    Parameters
    ----------
    network, parameters, dt
        See :func:`linearize`.
    steady : array (region, variable)
        The steady state that linear response describes (:attr:`Linear.steady`).
    duration : float
        In ms.

    Returns
    -------
    float
        Largest difference, over regions, of the coupled variable to its steady state, averaged over the last second;
        in the unit of the variable.

    Examples
    --------
    >>> from fitting.data import hcp_aal2
    >>> from fitting.network import Network
    >>> from fitting.response import departure, linearize
    >>> network = Network(hcp_aal2(regions=3), parameters={"drive": 0.6})
    >>> steady = linearize(network, {"k": 0.5}, dt=0.25).steady
    >>> departure(network, {"k": 0.5}, steady, dt=0.25, duration=2000.0) < 1e-3
    True
    """
    parts = max(1, round(duration / 1000.0))
    noise = jnp.zeros((round(1000.0 / dt), *network.noise_shape))
    advance = compiled(lambda state: simulate_noise(network, parameters, noise, dt=dt, state=state))
    state = initial_state(network, dt)
    for _ in range(parts):
        done = advance(state)
        state = done.state
    coupled = list(network.node.variables).index(network.node.coupled)
    return float(np.abs(np.asarray(done.rates).mean(0) - np.asarray(steady)[:, coupled]).max())

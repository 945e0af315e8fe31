"""A fitting problem: a network, what it is compared with, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fitting.devices import side_by_side
from fitting.errors import InputError
from fitting.network import Network, simulate
from fitting.network.estimate import memory
from fitting.network.simulate import ADJOINTS, steps_of
from fitting.objective import Objective, Target, Terms
from fitting.optimize.parameters import Parameters
from fitting.response import steady_state
from fitting.signal import Observation

#: Where simulations may start.
STARTS = ("node", "steady")


def check_simulation(
    observation: Observation,
    duration: float,
    dt: float,
    seeds: int = 1,
    adjoint: str = "block",
    horizon: float | None = None,
    start: str = "node",
):
    """Refuse simulations that cannot be observed, whatever their target is; see :class:`Problem`."""
    steps_of(duration, dt)
    if horizon is not None:
        steps_of(horizon, dt)
    if seeds < 1:
        raise InputError(f"at least one noise seed is needed; got {seeds}")
    for value, known, what in ((start, STARTS, "start"), (adjoint, ADJOINTS, "adjoint")):
        if value not in known:
            raise InputError(f"unknown {what} {value!r}; choose from {', '.join(known)}")
    if observation.band[1] >= 500.0 / dt:
        raise InputError(
            f"steps of {dt:g} ms hold nothing above {500.0 / dt:g} Hz, but the band reaches "
            f"{observation.band[1]:g} Hz. Lower simulation.dt"
        )
    kept = duration / 1000 - observation.transient
    needed = 2 * observation.trim + 2
    if kept < needed:
        raise InputError(
            f"a simulation of {duration / 1000:g} s leaves {kept:g} s after the transient of "
            f"{observation.transient:g} s; at least {needed:g} s are needed. Raise simulation.duration"
        )


@dataclass(frozen=True, eq=False)
class Problem:
    """What is fitted to what.

    Parameters
    ----------
    network : Network
    parameters : Parameters
    target : Target
    observation : Observation
        How both sides are processed.
    objective : Objective
    duration, dt : float
        Length and step of each simulation in ms, the transient included.
    seeds : int
        Noise seeds averaged in each evaluation of the loss.
    adjoint : str
        See :func:`fitting.network.simulate`.
    horizon : float, optional
        See :func:`fitting.network.simulate`.
    start : str
        Where simulations start: at the ``node``'s initial values, or at the network's ``steady`` state (see
        :func:`fitting.response.steady_state`). They differ where a network has several attractors.
    """

    network: Network
    parameters: Parameters
    target: Target
    observation: Observation
    objective: Objective = field(default_factory=Objective)
    duration: float = 30_000.0
    dt: float = 0.25
    seeds: int = 1
    adjoint: str = "block"
    horizon: float | None = None
    start: str = "node"

    def __post_init__(self):
        check_simulation(self.observation, self.duration, self.dt, self.seeds, self.adjoint, self.horizon, self.start)
        self.target.check_regions(self.network.regions)

    @property
    def fs(self) -> float:
        """Sampling rate of the simulation in Hz."""
        return 1000.0 / self.dt

    def simulate(self, values: Mapping[str, Any], key, duration: float | None = None) -> Float[Array, "time region"]:
        """Simulated activity at every step."""
        steady = self.start == "steady"
        return simulate(
            self.network,
            values,
            duration=duration or self.duration,
            dt=self.dt,
            key=key,
            state=steady_state(self.network, values, dt=self.dt) if steady else None,
            adjoint=self.adjoint,
            horizon=self.horizon,
        ).rates

    def bytes(self, gradient: bool = False, duration: float | None = None) -> int:
        """Memory that a simulation needs, within a factor of about two."""
        return memory(self.network, steps_of(duration or self.duration, self.dt), gradient)

    def side_by_side(self, gradient: bool = False, duration: float | None = None) -> int:
        """Simulations that a device runs at once: see :func:`fitting.devices.side_by_side`."""
        return side_by_side(self.bytes(gradient, duration))

    def evaluate(
        self, values: Mapping[str, Any], key, duration: float | None = None
    ) -> tuple[Terms, Float[Array, "region region"]]:
        """Terms of the loss and connectivity for one noise seed."""
        rates = self.simulate(values, key, duration)
        return self.objective.compare(rates, self.fs, self.observation, self.target)

    def loss(self, point: Mapping[str, Any], key) -> tuple[Float[Array, ""], Terms]:
        """Loss at an unconstrained point, priors included, averaged over noise seeds derived from ``key``."""
        if self.seeds == 1:
            return self.loss_of_seed(point, self.keys(key)[0])
        each = jax.lax.map(lambda key: self.loss_of_seed(point, key), self.keys(key))
        return jax.tree.map(jnp.mean, each)

    def keys(self, key):
        """Keys of the noise seeds that follow from one key."""
        return jax.random.split(key, self.seeds)

    def loss_of_seed(self, point: Mapping[str, Any], key) -> tuple[Float[Array, ""], Terms]:
        """As :meth:`loss`, for the one noise seed of this very key."""
        terms = self.evaluate(self.parameters.values(point), key)[0]
        terms = terms._replace(loss=terms.loss + self.parameters.penalty(point))
        return terms.loss, terms

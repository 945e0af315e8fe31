"""Small problems that many tests share, and the one test double: a predictor whose loss is a formula."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from fitting.network import NODES, DelayBounds, Network
from fitting.objective import Objective, Target
from fitting.optimize import Problem
from fitting.predict import Cost, LinearResponse, Prediction, Predictor, Simulation
from fitting.signal import Observation

#: Every node model; all but two of them in tests that are marked slow.
EVERY_NODE = [
    name if name in ("wilson_cowan_alpha", "jansen_rit") else pytest.param(name, marks=pytest.mark.slow)
    for name in NODES
]


def labels_of(count: int) -> list[str]:
    """Names of so many regions."""
    return [f"R{i}.L" for i in range(count)]


def connectome_of(weights, lengths) -> xr.Dataset:
    """A connectome that is not checked, so that tests can give a network what the library's own refuses."""
    names, pair = labels_of(len(weights)), ("target", "source")
    data = {"weights": (pair, np.asarray(weights, float)), "lengths": (pair, np.asarray(lengths, float))}
    return xr.Dataset(data, coords={"target": names, "source": names[: data["weights"][1].shape[1]]})


def network_of(
    weights, lengths, *, drive=None, speed_bounds=(1.0, 20.0), largest_block=128, parameters=None, **settings
):
    """A network of arrays. Its speed is in the middle of the bounds, its drive zero, unless given."""
    own = {"signal_speed": float(np.sqrt(speed_bounds[0] * speed_bounds[1]))} | dict(parameters or {})
    own |= {} if drive is None else {"drive": drive}
    bounds = DelayBounds(speed_bounds, largest_block=largest_block)
    return Network(connectome_of(weights, lengths), parameters=own, bounds=bounds, **settings)


def target_of(fc, **settings) -> Target:
    """A target of regions that are called as those of :func:`network_of`."""
    return Target(jnp.asarray(fc), labels_of(len(fc)), **settings)


def check_central_differences(kind: str, network: Network, parameters, entries, values=None, **observed):
    """The gradient of a small problem's loss is that of central differences, in 64 bits, the whole chain.

    ``kind`` is ``"response"`` or ``"simulation"``; ``entries`` are pairs of a parameter's name and of an index, or ();
    ``observed`` are settings of the observation.
    """
    observation = Observation(**{"orthogonalize": False, "transient": 0.5, "trim": 0.5} | observed)
    predictor = (
        LinearResponse(network, observation, dt=0.5, frequencies=5)
        if kind == "response"
        else Simulation(network, observation, duration=4500.0, dt=0.5)
    )
    fc = np.random.default_rng(0).uniform(size=(network.regions, network.regions))
    target = Target(jnp.asarray((fc + fc.T) / 2), network.labels)
    problem = Problem(predictor, parameters, target, Objective(spectrum=0.0))
    point, step = problem.parameters.point(values) if values else problem.parameters.start(), 1e-5
    both = jax.jit(jax.value_and_grad(lambda point: problem.value(point, jax.random.key(1))[0]))
    gradient = both(point)[1]
    for name, index in entries:
        moved = [both(point | {name: jnp.asarray(point[name]).at[index].add(s * step)})[0] for s in (1, -1)]
        np.testing.assert_allclose(gradient[name][index], (moved[0] - moved[1]) / (2 * step), rtol=1e-5, atol=1e-8)


@dataclass(frozen=True, eq=False)
class Formula(Predictor):
    """A predictor that predicts no connectivity, and whose penalty is a function of parameter values and a key."""

    network: Network
    observation: Observation
    function: Callable[[dict[str, Any], Any], Any]
    noisy: bool = True
    dt: float = 0.5
    seconds: float = 8.0

    def activity(self, values, key):
        return jnp.asarray(self.function(values, key))

    def observe(self, activity, observation, spectrum=False):
        regions = self.network.regions
        return Prediction(jnp.zeros((1, regions, regions)), None, activity)

    def traces(self, activity):
        return jnp.zeros((0, self.network.regions))

    def cost(self, gradient=False):
        return Cost(1e-4, 1000)

    def horizons(self):
        return {"whole": self}

    def forward_mode(self):
        return self

    def unstable(self, values):
        return 0

    def remarks(self, values):
        return []


def problem_of_formula(network: Network, parameters, function, noisy: bool = True, **settings) -> Problem:
    """A problem whose loss is ``function(values, key)``; ``seconds`` of the target are those of one prediction."""
    predictor = Formula(network, Observation(orthogonalize=False), function, noisy)
    target = Target(jnp.ones((network.regions, network.regions)), network.labels, seconds=predictor.seconds)
    return Problem(predictor, parameters, target, loss=lambda prediction, target: jnp.zeros(()), **settings)


@dataclass(frozen=True, eq=False)
class Powers(Formula):
    """A connectome's weights to the power k: a model whose one parameter can make up for some of a connectome."""

    function: Callable[[dict[str, Any], Any], Any] = lambda values, key: values["k"]
    noisy: bool = False

    def activity(self, values, key):
        return jnp.asarray(values.get("weights", self.network.weights)) ** self.function(values, key)

    def observe(self, activity, observation, spectrum=False):
        return Prediction(activity[None], None, jnp.zeros(()))

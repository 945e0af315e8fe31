"""A fitting problem: what predicts, what may change, what is to be reproduced, and what a difference costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fitting.devices import over_own_devices, side_by_side
from fitting.errors import InputError
from fitting.objective import Objective, Target, Terms, terms_of
from fitting.optimize.parameters import Parameters
from fitting.predict import Prediction, Predictor
from fitting.programs import compiled


@dataclass(frozen=True, eq=False)
class Problem:
    """What is fitted to what.

    Parameters
    ----------
    predictor : Predictor
        Its network gets room for the signal speeds that the parameters can reach.
    parameters : sequence of Parameter
        Held as :class:`Parameters`.
    target : Target
        Of the network's regions, in its order.
    loss : callable
        Differentiable function of a :class:`fitting.predict.Prediction` and the target.
    seeds : int
        Noise seeds averaged in each evaluation of the loss.

    Raises
    ------
    InputError
        If the target has other regions than the network, or a parameter does not fit the network.

    Examples
    --------
    >>> import jax
    >>> from fitting.data import fc_target, hcp_aal2
    >>> from fitting.network import Network
    >>> from fitting.objective import Target
    >>> from fitting.optimize import Parameter, Problem
    >>> from fitting.predict import Simulation
    >>> from fitting.signal import Observation
    >>> c = hcp_aal2(regions=3)
    >>> target = Target.of_matrix(fc_target(c.weights.values, list(c.target.values)))
    >>> simulation = Simulation(Network(c), Observation(), duration="10 s", dt="1 ms")
    >>> problem = Problem(simulation, [Parameter("k", 1.0, 0.1, 5.0)], target)
    >>> loss, terms = problem.value(problem.parameters.start(), jax.random.key(0))
    >>> loss.shape
    ()
    """

    predictor: Predictor
    parameters: Any
    target: Target
    loss: Callable[[Prediction, Target], Float[Array, ""]] = field(default_factory=Objective)
    seeds: int = 1

    def __post_init__(self):
        if self.seeds < 1:
            raise InputError(f"at least one noise seed is needed; got {self.seeds}")
        network = self.predictor.network
        self.target.check_labels(network.labels)
        parameters = Parameters(tuple(self.parameters), network)
        if parameters.speeds != network.bounds.speed:
            network = network.for_speeds(*parameters.speeds)
            object.__setattr__(self, "predictor", replace(self.predictor, network=network))
        object.__setattr__(self, "parameters", replace(parameters, network=network))

    @property
    def network(self):
        """The predictor's network."""
        return self.predictor.network

    @property
    def observation(self):
        """The predictor's observation."""
        return self.predictor.observation

    def predict(self, values: Mapping[str, Any], key) -> Prediction:
        """Prediction of parameter values, with spectra if the target has some."""
        predictor = self.predictor
        # Not the predictor's own predict: a program within a program holds the connectome's numbers.
        activity = predictor.activity(values, key)
        return predictor.observe(activity, predictor.observation, self.target.spectrum is not None)

    @cached_property
    def compiled_predict(self) -> Callable[[Mapping[str, Any], Any], Prediction]:
        """:meth:`predict` as a program that is compiled once, for whoever calls it."""
        return compiled(self.predict)

    def evaluate(self, values: Mapping[str, Any], key) -> tuple[Terms, Prediction]:
        """Terms of the loss of parameter values, without any penalty, and the prediction, of one noise seed."""
        prediction = self.predict(values, key)
        return self.terms(prediction), prediction

    def terms(self, prediction: Prediction) -> Terms:
        """Terms of the loss of a prediction."""
        return terms_of(self.loss(prediction, self.target), prediction, self.target)

    def value_of_seed(self, point: Mapping[str, Any], key) -> tuple[Float[Array, ""], Terms]:
        """As :meth:`value`, for the one noise seed of this very key."""
        terms, prediction = self.evaluate(self.parameters.values(point), key)
        total = terms.loss + prediction.penalty + self.parameters.penalty(point)
        return total, terms._replace(loss=total)

    def value(self, point: Mapping[str, Any], key) -> tuple[Float[Array, ""], Terms]:
        """Loss at an unconstrained point, penalties and priors included, averaged over noise seeds from ``key``."""
        if self.seeds == 1:
            return self.value_of_seed(point, self.keys(key)[0])
        each = jax.lax.map(lambda key: self.value_of_seed(point, key), self.keys(key))
        return jax.tree.map(jnp.mean, each)

    def value_and_grad(self, point: Mapping[str, Any], key) -> tuple[tuple[Float[Array, ""], Terms], dict[str, Any]]:
        """Loss and terms, and the gradient; noise seeds are shared out among this process's devices."""
        if self.seeds == 1:
            return jax.value_and_grad(self.value, has_aux=True)(point, key)
        one = jax.value_and_grad(self.value_of_seed, has_aux=True)
        every = over_own_devices(lambda key, point: one(point, key), self.at_once(gradient=True))
        return jax.tree.map(lambda x: x.mean(0), every(self.keys(key), point))

    def keys(self, key):
        """Keys of the noise seeds that follow from one key."""
        return jax.random.split(key, self.seeds)

    def at_once(self, gradient: bool = False) -> int:
        """Predictions that a device computes side by side: see :func:`fitting.devices.side_by_side`."""
        return side_by_side(self.predictor.cost(gradient).bytes)

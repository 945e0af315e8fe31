"""What predictions cost: foretold before anything is compiled, or measured on the compiled program."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fitting.network import BLOCK, Adjoint, Network, simulate, steps_of
from fitting.signal import Observation


class Cost(NamedTuple):
    """What one call needs: one core of a CPU for so many seconds, without compiling, and so much memory."""

    seconds: float
    bytes: int

    def __str__(self):
        return f"{self.bytes / 1e6:,.0f} MB, about {self.seconds:.2g} s"


#: Seconds per step that does nothing but the nodes and noise, and per connection whose delay allows blocks, and is too
#: short for them; measured (one thread, 32 bits) on the machine whose :func:`pace` is one.
STEP_SECONDS, CONNECTION_SECONDS, SHORT_SECONDS = 1.5e-6, 0.5e-9, 3.0e-9

#: Shortest block that saves something.
SHORT_BLOCK = 4

#: What a gradient costs: times the seconds of a simulation, numbers kept of each region and step.
GRADIENT, KEPT, KEPT_FOR_GRADIENT = 3.3, 2.0, 5.3

#: Seconds of a value and gradient of orthogonalised envelope connectivity, per pair of regions and sample; which part
#: of them the value alone takes, and connectivity that is not orthogonalised; and how much longer it takes where
#: envelopes go through a finite impulse response.
CONNECTIVITY_SECONDS, VALUE, PLAIN, FIR = 1.1e-8, 0.25, 0.1, 3.0

#: Seconds of a value and gradient by linear response, per frequency: times regions squared, and cubed.
RESPONSE_SECONDS = (3.4e-7, 8.8e-10)

#: Seconds that :func:`pace` takes on the machine that the numbers above were measured on.
PACE_SECONDS = 2.4e-4


def pace() -> float:
    """How slow this machine is, from some milliseconds of arithmetic; 1 on the machine that costs were measured on."""
    x = np.linspace(-1.0, 1.0, 8192, dtype=np.float32)
    best = np.inf
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(100):
            np.tanh(x)
        best = min(best, time.perf_counter() - began)
    return float(best / PACE_SECONDS)


def memory(network: Network, steps: int, gradient: bool = False, dtype: Any = float) -> int:
    """Bytes that a simulation of so many steps needs, or its gradient, within a factor of about two.

    Examples
    --------
    >>> from fitting.data import hcp_aal2
    >>> from fitting.network import Network
    >>> from fitting.predict.cost import memory
    >>> network = Network(hcp_aal2(regions=3))
    >>> memory(network, 120_000) == 2 * memory(network, 60_000)
    True
    """
    kept = KEPT_FOR_GRADIENT if gradient else KEPT
    return int(kept * jnp.result_type(dtype).itemsize * steps * network.regions)


def connectivity_seconds(
    observation: Observation, regions: int, seconds: float, gradient: bool = False, simulated: bool = False
) -> float:
    """Seconds that envelope connectivity of so many seconds takes on one core, within a factor of about two.

    Parameters
    ----------
    observation : Observation
    regions : int
    seconds : float
        Of signals.
    gradient : bool
        Of value and gradient.
    simulated : bool
        Of a simulation, which may be orthogonalised differently.

    Returns
    -------
    float

    Examples
    --------
    >>> from fitting.predict.cost import connectivity_seconds
    >>> from fitting.signal import Observation
    >>> connectivity_seconds(Observation(), 80, 120.0) < connectivity_seconds(Observation(), 80, 120.0, gradient=True)
    True
    """
    each = CONNECTIVITY_SECONDS * pace() * (1.0 if gradient else VALUE)
    if not (observation.orthogonalizes_simulation if simulated else observation.orthogonalize):
        each *= PLAIN
    elif observation.filter == "fir" and observation.low_pass:
        each *= FIR
    return each * regions**2 * seconds * observation.fs


def simulation_cost(
    network: Network, *, duration: float, dt: float, gradient: bool = False, dtype: Any = float
) -> Cost:
    """What :func:`measured_cost` measures, within a factor of about two, in milliseconds and without compiling.

    Parameters
    ----------
    network : Network
    duration, dt : float
        In ms.
    gradient : bool
        Of value and gradient.
    dtype : dtype
        Of all numbers: JAX's default float unless given.

    Returns
    -------
    Cost

    Examples
    --------
    >>> from fitting.data import hcp_aal2
    >>> from fitting.network import Network
    >>> from fitting.predict.cost import simulation_cost
    >>> simulation_cost(Network(hcp_aal2(regions=3)), duration=60_000.0, dt=0.5).bytes > 1_000_000
    True
    """
    steps = steps_of(duration, dt)
    each = STEP_SECONDS
    for level in network.delays(dt).levels:
        cost = SHORT_SECONDS if level.block < SHORT_BLOCK else CONNECTION_SECONDS
        each += cost * float(level.incoming.real.sum())
    each *= pace() * (GRADIENT if gradient else 1.0) * (1.5 if jnp.result_type(dtype).itemsize == 8 else 1.0)
    return Cost(each * steps, memory(network, steps, gradient, dtype))


def measured_cost(
    network: Network,
    *,
    duration: float,
    dt: float,
    gradient: bool = True,
    adjoint: Adjoint = BLOCK,
    parameters: Mapping[str, Any] | None = None,
    candidates: int = 1,
) -> Cost:
    """Memory and time of a simulation or of its gradient, on the current device.

    Memory is read off the program, compiled for the whole duration but not run; time is measured on
    a short simulation (0.5 s, or less if the duration is).

    Parameters
    ----------
    network : Network
    duration, dt : float
        In ms.
    gradient : bool
        Value and gradient with respect to ``parameters``.
    adjoint : Adjoint
        Of kind ``"forward"``, forward-mode derivatives are measured.
    parameters : mapping, optional
        Values that the gradient is taken for; k, signal speed and sigma unless given.
    candidates : int
        Parameter sets simulated at once.

    Returns
    -------
    Cost

    Examples
    --------
    >>> from fitting.data import hcp_aal2
    >>> from fitting.network import Network
    >>> from fitting.predict.cost import measured_cost
    >>> cost = measured_cost(Network(hcp_aal2(regions=3)), duration=60_000.0, dt=0.5)
    >>> cost.bytes > 0, cost.seconds > 0
    (True, True)
    """
    if parameters is None:
        parameters = {name: network.default(name) for name in ("k", "signal_speed", "sigma")}
    dtype = jnp.result_type(float)
    shape = {name: jnp.zeros((candidates, *jnp.shape(value)), dtype) + value for name, value in parameters.items()}

    def program(duration):
        def total(values):
            run = simulate(network, values, duration=duration, dt=dt, key=jax.random.key(0), adjoint=adjoint)
            return (run.rates**2).mean()

        derivative = jax.jacfwd(total) if adjoint.kind == "forward" else jax.value_and_grad(total)
        return jax.jit(jax.vmap(derivative if gradient else total)).lower(shape).compile()

    steps = steps_of(duration, dt)
    analysis = program(duration).memory_analysis()
    short = min(steps, max(1, round(500 / dt)))
    run = program(short * dt)
    jax.block_until_ready(run(shape))
    began = time.perf_counter()
    jax.block_until_ready(run(shape))
    each = (time.perf_counter() - began) / short
    return Cost(each * steps, int(analysis.temp_size_in_bytes))

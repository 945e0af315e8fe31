"""Delayed networks of neural masses: a connectome and a brainmass node become a pure ``simulate``."""

from fitting.network.coupling import COUPLINGS
from fitting.network.decimate import simulate_decimated
from fitting.network.network import DelayBounds, Network
from fitting.network.nodes import NODES, Node
from fitting.network.noise import NOISES
from fitting.network.recording import simulated_recording
from fitting.network.simulate import (
    ADJOINTS,
    BLOCK,
    Adjoint,
    NetworkState,
    Trajectory,
    initial_state,
    simulate,
    simulate_noise,
    steps_of,
)

__all__ = [
    "ADJOINTS",
    "BLOCK",
    "COUPLINGS",
    "NODES",
    "NOISES",
    "Adjoint",
    "DelayBounds",
    "Network",
    "NetworkState",
    "Node",
    "Trajectory",
    "initial_state",
    "simulate",
    "simulate_decimated",
    "simulate_noise",
    "simulated_recording",
    "steps_of",
]

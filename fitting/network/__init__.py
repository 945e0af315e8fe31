"""Delayed networks of neural masses: a connectome and a brainmass node become a pure ``simulate``."""

from fitting.network.coupling import COUPLINGS
from fitting.network.nodes import NODES, Node
from fitting.network.noise import NOISES
from fitting.network.recording import simulated_recording
from fitting.network.simulate import ADJOINTS, Network, NetworkState, Simulation, initial_state, simulate

__all__ = [
    "ADJOINTS",
    "COUPLINGS",
    "NODES",
    "NOISES",
    "Network",
    "NetworkState",
    "Node",
    "Simulation",
    "initial_state",
    "simulate",
    "simulated_recording",
]

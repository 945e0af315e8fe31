"""Delayed networks of neural masses: a connectome and a brainmass node become a pure ``simulate``."""

from fitting.network.coupling import COUPLINGS
from fitting.network.decimated import simulate_decimated
from fitting.network.estimate import Estimate, estimate, foretell
from fitting.network.nodes import NODES, Node
from fitting.network.noise import NOISES
from fitting.network.recording import simulated_recording
from fitting.network.simulate import ADJOINTS, Network, NetworkState, Simulation, initial_state, simulate

__all__ = [
    "ADJOINTS",
    "COUPLINGS",
    "NODES",
    "NOISES",
    "Estimate",
    "Network",
    "NetworkState",
    "Node",
    "Simulation",
    "estimate",
    "foretell",
    "initial_state",
    "simulate",
    "simulate_decimated",
    "simulated_recording",
]

"""
A node model of your own
========================

Any model of brainmass can be the node of a network: say which of its variables is coupled, and where input and noise
enter. Simulation, gradients and linear response follow from that.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np

import fitting as ft
from fitting.network import Node
from fitting.predict import operating_point

node = Node(
    "FitzHughNagumoStep",
    coupled="V",
    input="V_inp",
    noise=("noise_V",),
    parameters={"tau": 250.0},  # ms: a resonance at 10 Hz
    initial={"V": 0.2, "w": 0.4},
)
network = ft.Network(ft.hcp_aal2(regions=20), node, parameters={"k": 0.02, "sigma": 0.0005})
observation = ft.Observation(orthogonalize=False)
response = ft.LinearResponse(network, observation, dt="0.5 ms")

# %%
# What the model does as its drive grows: the activity at rest, and how fast the slowest mode grows. Where growth
# becomes positive, the network begins to oscillate by itself.
drives = np.linspace(0.55, 0.75, 21)
at = operating_point(response, [10.0])
points = [at({"drive": drive}) for drive in drives]
figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
axes[0].plot(drives, [np.median(p.activity) for p in points])
axes[0].set(xlabel="drive", ylabel="V at rest")
axes[1].plot(drives, [float(p.growth) for p in points])
axes[1].axhline(0, color="0.5", ls="--")
axes[1].set(xlabel="drive", ylabel="growth of the slowest mode (1/s)")

# %%
# Below that, fluctuations of a simulation, and their spectrum: simulated, and in closed form.
values = {"drive": 0.7}
run = ft.simulate(network, values, duration=60e3, dt=0.5, key=jax.random.key(0))
recording = observation.resample(run.rates[4000:], 2000.0)
spectrum = response.predict(values, spectrum=True).spectra[0]
figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
axes[0].plot(np.arange(300) / 100, recording[:300, :4])
axes[0].set(xlabel="time (s)", ylabel="V")
axes[1].semilogy(observation.frequencies, observation.spectrum(recording)[:, 0], ".", label="simulated")
axes[1].semilogy(observation.frequencies, spectrum[:, 0], label="in closed form")
axes[1].set(xlabel="frequency (Hz)", ylabel="power (1/Hz)")
axes[1].legend(frameon=False)

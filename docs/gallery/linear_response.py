"""
Linear response against simulation
==================================

Below the bifurcation the noisy network fluctuates around a steady state, and its spectra and its connectivity follow in
closed form: what infinitely long simulations would give, in a fraction of a second.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np

import fitting as ft

network = ft.Network(ft.hcp_aal2(regions=40), parameters={"drive": 0.72})
observation = ft.Observation(orthogonalize=False)
values = {"k": 8.0, "signal_speed": 8.0, "sigma": 0.002}
response = ft.LinearResponse(network, observation, dt="0.5 ms")
exact = response.predict(values, spectrum=True)
simulation = ft.Simulation(network, observation, duration="240 s", dt="0.5 ms", start="steady")
sampled = jax.jit(lambda key: simulation.predict(values, key, spectrum=True))(jax.random.key(0))
print(f"growing modes: {response.unstable(values)}")

# %%
# Power spectra of three regions: dots are simulated, lines are in closed form.
figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
for region, colour in ((0, "C0"), (14, "C1"), (30, "C2")):
    axis.semilogy(observation.frequencies, sampled.spectra.mean(0)[:, region], ".", ms=4, color=colour)
    axis.semilogy(observation.frequencies, exact.spectra[0][:, region], color=colour, label=network.labels[region])
axis.set(xlabel="frequency (Hz)", ylabel="power (1/Hz)")
axis.legend(frameon=False)

# %%
# Envelope connectivity of all pairs of regions. Four minutes of simulation scatter around the closed form.
upper = np.triu_indices(network.regions, 1)
closed, noisy = (np.asarray(p.fc)[upper] for p in (exact, sampled))
figure, axis = plt.subplots(figsize=(4, 4), layout="constrained")
axis.plot(closed, noisy, ".", ms=3, alpha=0.5)
axis.axline((0, 0), slope=1, color="0.5", lw=1)
axis.set(xlabel="in closed form", ylabel="simulated, 240 s")
print(f"r = {np.corrcoef(closed, noisy)[0, 1]:.3f}; scatter {np.std(noisy - closed):.3f}")

"""
Delays, and the gradient by signal speed
========================================

Delays are lengths divided by a speed, and are rarely whole steps of a simulation. They are interpolated, so that a
loss has a derivative with respect to speed, which an optimizer can follow.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import fitting as ft

network = ft.Network(ft.hcp_aal2(regions=20), parameters={"drive": 0.72}).for_speeds(2.0, 30.0)
lengths = network.connectome.lengths.values[np.triu_indices(20, 1)]
figure, axis = plt.subplots(figsize=(6, 2.5), layout="constrained")
for speed in (3, 6, 12):
    axis.hist(lengths / speed, bins=40, histtype="step", label=f"{speed} m/s")
axis.set(xlabel="delay (ms)", ylabel="connections")
axis.legend(frameon=False)

# %%
# The mean connectivity of one noisy simulation as a function of the speed, and its derivative by reverse mode at six
# speeds: the tangents. The noise is the same everywhere.
simulation = ft.Simulation(network, ft.Observation(), duration="12 s", dt="0.5 ms")
upper = jnp.triu_indices(20, 1)


def mean_fc(speed):
    return simulation.predict({"k": 8.0, "signal_speed": speed}, jax.random.key(1)).fc[upper].mean()


speeds = np.linspace(3.0, 20.0, 60)
curve = jax.jit(jax.vmap(mean_fc))(jnp.asarray(speeds, jnp.float32))
both = jax.jit(jax.value_and_grad(mean_fc))
figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
axis.plot(speeds, curve, ".-", color="0.6", lw=1)
for speed in (4.0, 6.0, 8.0, 11.0, 14.0, 18.0):
    value, slope = both(speed)
    axis.plot([speed - 0.7, speed + 0.7], [value - 0.7 * slope, value + 0.7 * slope], color="C1", lw=2)
axis.set(xlabel="signal speed (m/s)", ylabel="mean connectivity")

# %%
# Derivatives are those of central differences.
step = 0.02
slope = (mean_fc(6.0 + step) - mean_fc(6.0 - step)) / (2 * step)
print(f"at 6 m/s: reverse mode {both(6.0)[1]:.4f} per m/s, central differences {slope:.4f}")

"""
A fit by gradients
==================

Coupling, signal speed and noise are fitted to a recording that other values of them made. Optax follows the exact
gradient of the linear response.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np

import fitting as ft
from fitting.report.figures import fc_matrices

network = ft.Network(ft.hcp_aal2(regions=30), parameters={"drive": 0.72})
observation = ft.Observation(orthogonalize=False)
truth = {"k": 8.0, "signal_speed": 8.0, "sigma": 0.003}
recording = ft.simulated_recording(network, truth, duration=300e3, dt=0.5, key=jax.random.key(0))
target = ft.Target.of_recordings([recording], observation, spectrum=True)

# %%
# A problem is a predictor, what it may change, a target and a loss: here the default, connectivity and spectra.
parameters = [
    ft.Parameter("k", 3.0, lower=1.0, upper=30.0, scale="log"),
    ft.Parameter("signal_speed", "15 m/s", lower="3 m/s", upper="25 m/s", unit="m/s", scale="log"),
    ft.Parameter("sigma", 0.001, lower=0.0005, upper=0.02, scale="log"),
]
response = ft.LinearResponse(network, observation, dt="0.5 ms")
problem = ft.Problem(response, parameters, target)
fit = ft.solve(problem, [ft.Descent(steps=40, fresh_noise=False)], key=jax.random.key(1))
for name, true in truth.items():
    print(f"{name}: {float(fit.fitted[name]):.4g} (truth {true:g})")

# %%
# How the loss and the parameters moved.
figure, axes = plt.subplots(1, 4, figsize=(10, 2.5), layout="constrained")
axes[0].plot(fit.history["loss"])
axes[0].set(xlabel="step", ylabel="loss")
for axis, (name, true) in zip(axes[1:], truth.items(), strict=True):
    axis.plot(fit.history[f"parameter_{name}"])
    axis.axhline(true, color="0.5", ls="--")
    axis.set(xlabel="step", ylabel=name)

# %%
# The target is of five minutes, and noisy; the fitted model has no noise.
fitted = response.predict(fit.fitted).fc
figure = fc_matrices(np.asarray(target.fc), np.asarray(fitted), network.labels)

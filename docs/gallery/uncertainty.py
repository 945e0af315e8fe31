"""
What the data can tell
======================

Coupling and signal speed are hard to tell apart from connectivity alone: the distance between model and data has a long
valley. The spectra of the regions cut it short.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import fitting as ft

network = ft.Network(ft.hcp_aal2(regions=30), parameters={"drive": 0.72}).for_speeds(2.0, 40.0)
observation = ft.Observation(orthogonalize=False)
truth = {"k": 8.0, "signal_speed": 8.0}
recording = ft.simulated_recording(network, truth, duration=300e3, dt=0.5, key=jax.random.key(0))
target = ft.Target.of_recordings([recording], observation, spectrum=True)
response = ft.LinearResponse(network, observation, dt="0.5 ms")


# %%
# Predictions at 20 x 20 values of both parameters, by one compiled function.
@jax.jit
def at(k, speed):
    prediction = response.predict({"k": k, "signal_speed": speed}, spectrum=True)
    return prediction.fc, jnp.log(prediction.spectra[0])


k, speed = np.geomspace(2, 32, 20), np.geomspace(3, 30, 20)
fc, spectra = (np.stack(x) for x in zip(*(at(a, b) for a in k for b in speed), strict=True))
pairs = np.triu_indices(30, 1)
distance = {
    "connectivity": ((fc - np.asarray(target.fc))[:, *pairs] ** 2).mean(1),
    "connectivity and spectra": 0,
}
power = ((spectra - np.log(np.asarray(target.spectrum))) ** 2).mean((1, 2))
# Each distance relative to its smallest: the noise of the recording.
distance["connectivity"] /= distance["connectivity"].min()
distance["connectivity and spectra"] = (distance["connectivity"] + power / power.min()) / 2

# %%
# How far each distance lies above its smallest: darkest below 1 %. The cross is the truth.
figure, axes = plt.subplots(1, 2, figsize=(8, 3.5), sharey=True, layout="constrained")
for axis, (name, values) in zip(axes, distance.items(), strict=True):
    above = np.log10(values / values.min()).reshape(20, 20).T
    axis.contourf(k, speed, above, np.log10([1, 1.01, 1.05, 1.2, 1.5, 2, 4]), cmap="Blues_r", extend="max")
    axis.plot(*truth.values(), "x", color="C1", ms=10, mew=2)
    axis.set(xscale="log", yscale="log", xlabel="coupling k", title=name)
    axis.set_xticks([2, 4, 8, 16, 32], [2, 4, 8, 16, 32])
    axis.minorticks_off()
axes[0].set(ylabel="signal speed (m/s)", yticks=[4, 8, 16, 30], yticklabels=[4, 8, 16, 30])

"""
Parameters that follow a map
============================

Drive differs from region to region as a map of the cortex does. Its mean and one coefficient are fitted, and found
again.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np

import fitting as ft
from fitting.data import centres_of, with_maps
from fitting.report.brains import on_brain

connectome = with_maps(ft.hcp_aal2(regions=40), None, ["log_strength"])
network = ft.Network(connectome)
figure = on_brain(centres_of(connectome), {"log strength": network.maps["log_strength"]})

# %%
# A recording of five minutes, of a network whose strongly connected regions are driven more.
drive = ft.Parameter("drive", 0.5, lower=0.2, upper=0.75, maps=["log_strength"])
k = ft.Parameter("k", 4.0, lower=1.0, upper=30.0, scale="log")
observation = ft.Observation(orthogonalize=False)
response = ft.LinearResponse(network, observation, dt="0.5 ms")
draft = ft.Problem(response, [k, drive], ft.Target(np.eye(40, dtype="float32"), network.labels))
truth = {"k": 8.0, "drive": 0.68, "drive.log_strength": 0.4}
values = draft.parameters.values(draft.parameters.point(truth))
recording = ft.simulated_recording(network, values, duration=300e3, dt=0.5, key=jax.random.key(2))
target = ft.Target.of_recordings([recording], observation, spectrum=True)

# %%
# The fit does not know the coefficient: it starts at zero.
problem = ft.Problem(response, [k, drive], target)
fit = ft.solve(problem, [ft.Descent(steps=40, fresh_noise=False)], key=jax.random.key(3))
told = fit.reported(fit.point)
for name, true in truth.items():
    print(f"{name}: {float(told[name]):.2f} (truth {true})")

# %%
# Drive of every region, as it was and as it is found.
figure, axis = plt.subplots(figsize=(4, 4), layout="constrained")
axis.plot(np.asarray(values["drive"]), np.asarray(fit.fitted["drive"]), "o", ms=4, alpha=0.6)
axis.axline((0.68, 0.68), slope=1, color="0.5", lw=1)
axis.set(xlabel="drive of a region", ylabel="fitted")

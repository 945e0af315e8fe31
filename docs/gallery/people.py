"""
Many people
===========

Recordings of five people, each with a coupling of its own. What one person's recording has in common with the others'
mean is the ceiling of every model of the group.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np

import fitting as ft
from fitting.data import group_average, leave_one_out
from fitting.evaluate import agreement
from fitting.signal import upper_pairs

network = ft.Network(ft.hcp_aal2(regions=40), parameters={"drive": 0.68})
observation = ft.Observation(orthogonalize=False)
couplings = (0.6, 1.2, 2.4, 4.8, 9.6)
matrices = {}
for number, k in enumerate(couplings):
    recording = ft.simulated_recording(network, {"k": k}, duration=120e3, dt=0.5, key=jax.random.key(number))
    fc = np.asarray(observation.fc(jax.numpy.asarray(recording.values), 100.0))
    matrices[f"sub-{number + 1:02d}"] = ft.data.fc_target(fc, network.labels)

# %%
# Each person, and the mean of all (correlations are averaged as Fisher's z).
figure, axes = plt.subplots(1, 6, figsize=(11, 2.2), layout="constrained")
shown = matrices | {"mean": group_average(matrices)}
for axis, (name, matrix) in zip(axes, shown.items(), strict=True):
    image = axis.imshow(matrix, cmap="PuOr_r", vmin=-1, vmax=1)
    axis.set(title=name, xticks=[], yticks=[])
figure.colorbar(image, ax=axes, shrink=0.8)

# %%
# A person against the mean of the others.
pairs = upper_pairs(network.regions)
for name, own, others in leave_one_out(matrices):
    print(f"{name}: r = {agreement(own.values, others.values, pairs).r:.3f}")

# %%
# One coupling is fitted to every person's connectivity. Its level tells more than its pattern: concordance sees both.
response = ft.LinearResponse(network, observation, dt="0.5 ms")
k = ft.Parameter("k", 2.0, lower=0.2, upper=30.0, scale="log")
fitted = []
for number, matrix in enumerate(matrices.values()):
    problem = ft.Problem(response, [k], ft.Target.of_matrix(matrix), ft.Objective(spectrum=0.0, measure="concordance"))
    fit = ft.solve(problem, [ft.Search(3, 6), ft.Descent(steps=15, fresh_noise=False)], key=jax.random.key(number))
    fitted.append(float(fit.fitted["k"]))
figure, axis = plt.subplots(figsize=(4, 3), layout="constrained")
axis.loglog(couplings, fitted, "o")
axis.loglog(couplings, couplings, color="0.5", lw=1)
axis.set(xlabel="coupling of a person", ylabel="fitted")

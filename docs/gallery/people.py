"""
Many people
===========

Recordings of five people, each with a coupling of its own. What one person's recording has in common with the others'
mean is the lower bound of that ceiling for models of the group.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np

import fitting as ft
from fitting.data import group_average, leave_one_out
from fitting.evaluate import agreement
from fitting.signal import upper_pairs

network = ft.Network(ft.hcp_aal2(regions=40), parameters={"drive": 0.72})
observation = ft.Observation(orthogonalize=False)
couplings = (4.0, 6.0, 9.0, 13.0, 20.0)
matrices = {}
for number, k in enumerate(couplings):
    recording = ft.simulated_recording(network, {"k": k}, duration=120e3, dt=0.5, key=jax.random.key(number))
    fc = np.asarray(observation.fc(jax.numpy.asarray(recording.values), 100.0))
    matrices[f"sub-{number + 1:02d}"] = ft.data.fc_target(fc, network.labels)

# %%
# Each person, and the mean of all.
figure, axes = plt.subplots(1, 6, figsize=(11, 2.2), layout="constrained")
shown = matrices | {"mean": group_average(matrices)}
for axis, (name, matrix) in zip(axes, shown.items(), strict=True):
    image = axis.imshow(matrix, cmap="PuOr_r", vmin=-1, vmax=1)
    axis.set(title=name, xticks=[], yticks=[])
figure.colorbar(image, ax=axes, shrink=0.8)

# %%
# A person against the mean of the others.
pairs = upper_pairs(network.regions)
for name, others, own in leave_one_out(matrices):
    print(f"{name}: r = {agreement(own.values, others.values, pairs).r:.3f}")

# %%
# The coupling of every person: which of 40 values, in closed form, agrees best. Concordance sees the level of
# connectivity as well as its pattern.
response = ft.LinearResponse(network, observation, dt="0.5 ms")
grid = np.geomspace(2.0, 40.0, 40)
predicted = jax.lax.map(lambda k: response.predict({"k": k}).fc, jax.numpy.asarray(grid))
fitted = [
    grid[np.argmax([agreement(np.asarray(fc), matrix.values, pairs).concordance for fc in predicted])]
    for matrix in matrices.values()
]
figure, axis = plt.subplots(figsize=(4, 3), layout="constrained")
axis.loglog(couplings, fitted, "o")
axis.loglog(couplings, couplings, color="0.5", lw=1)
axis.set(xlabel="coupling of a person", ylabel="best of 40")

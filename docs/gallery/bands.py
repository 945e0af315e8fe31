"""
Several bands of one model
==========================

One network has connectivity in every band. Linear response gives all of them from the same cross-spectra.
"""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np

import fitting as ft
from fitting.data import lobe_order

network = ft.Network(ft.hcp_aal2(regions=40), parameters={"drive": 0.72, "k": 8.0})
bands = {"delta": (1.5, 4), "theta": (4, 8), "alpha": (8, 13), "beta": (13, 30)}
observation = ft.Observation(orthogonalize=False)
responses = {
    name: ft.LinearResponse(network, replace(observation, band=band), dt="0.5 ms") for name, band in bands.items()
}
activity = responses["alpha"].activity({})

# %%
# Most of the power is at the frequency at which the nodes resonate.
spectra = responses["alpha"].observe(activity, observation, spectrum=True).spectra[0]
figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
axis.semilogy(observation.frequencies, spectra, color="0.7", lw=0.5)
axis.semilogy(observation.frequencies, np.median(spectra, axis=1), color="C1")
for number, (low, high) in enumerate(bands.values()):
    axis.axvspan(low, high, color=f"C{number}", alpha=0.12, lw=0)
axis.set(xlabel="frequency (Hz)", ylabel="power (1/Hz)", xlim=(1.5, 35))

# %%
# Connectivity is strongest where modes of the whole network resonate.
order = lobe_order(list(network.labels))
fc = {name: np.asarray(r.observe(activity, r.observation).fc) for name, r in responses.items()}
figure, axes = plt.subplots(1, 4, figsize=(10, 2.8), layout="constrained")
for axis, (name, matrix) in zip(axes, fc.items(), strict=True):
    image = axis.imshow(matrix[np.ix_(order, order)], cmap="PuOr_r", vmin=-1, vmax=1)
    axis.set(title=name, xticks=[], yticks=[])
figure.colorbar(image, ax=axes, shrink=0.8)

# %%
# How alike the bands are, and how much of each the structural weights explain.
pairs = np.triu_indices(40, 1)
weights = network.connectome.weights.values[pairs]
for name, matrix in fc.items():
    alike = [f"{np.corrcoef(matrix[pairs], other[pairs])[0, 1]:.2f}" for other in fc.values()]
    print(f"{name:6} with the bands {alike}, with the weights {np.corrcoef(matrix[pairs], weights)[0, 1]:.2f}")

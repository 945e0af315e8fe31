"""
What sensors mix
================

Sensors see all sources at once. What is reconstructed in a region is a mixture of its neighbours, and mixtures
correlate. Orthogonalisation takes away what two regions share without delay, mixed or not.
"""

from dataclasses import replace
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np

import fitting as ft
from fitting.data import centres_of, lobe_order, sphere_mixing
from fitting.report.figures import leakage

connectome = ft.hcp_aal2()
mixing = sphere_mixing(connectome, sensors="ctf275")
figure = leakage(mixing.values, centres_of(connectome), connectome["target"].values)

# %%
# Connectivity of a network, in closed form: as it is, mixed, and orthogonalised afterwards.
network = ft.Network(connectome, parameters={"drive": 0.72, "k": 8.0})
plain = ft.Observation(orthogonalize=False)
ways = {
    "activity": plain,
    "mixed": replace(plain, mixing=mixing),
    "activity, orthogonalised": ft.Observation(),
    "mixed, orthogonalised": ft.Observation(mixing=mixing),
}
fc = {name: np.asarray(ft.LinearResponse(network, o, dt="0.5 ms").predict({}).fc) for name, o in ways.items()}
order = lobe_order(list(network.labels))
figure, axes = plt.subplots(1, 4, figsize=(11, 2.8), layout="constrained")
for axis, (name, matrix) in zip(axes, fc.items(), strict=True):
    image = axis.imshow(matrix[np.ix_(order, order)], cmap="PuOr_r", vmin=-0.8, vmax=0.8)
    axis.set(title=name, xticks=[], yticks=[])
figure.colorbar(image, ax=axes, shrink=0.8)

# %%
# Against distance: what mixing adds lies between neighbours.
centres = centres_of(connectome)
pairs = np.triu_indices(80, 1)
distance = np.linalg.norm(centres[:, None] - centres, axis=2)[pairs]
edges = np.arange(10, 160, 15)
figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
for name, matrix in fc.items():
    means = [matrix[pairs][(distance >= a) & (distance < b)].mean() for a, b in pairwise(edges)]
    axis.plot(edges[:-1] + 7.5, means, ".-", label=name)
axis.set(xlabel="distance (mm)", ylabel="mean connectivity")
axis.legend(frameon=False, fontsize="small")

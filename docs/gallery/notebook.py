"""
From activity to connectivity
=============================

A network is simulated, and its activity goes through every step of an MEG study: resampling, band-pass, envelope,
orthogonalisation, correlation. Two mistakes that are easily made on the way are shown as well.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import scipy.signal

import fitting as ft
from fitting.signal import band_pass, envelope_fc, fc_correlation, hilbert, sosfiltfilt

network = ft.Network(ft.hcp_aal2(), parameters={"drive": 0.72})
recording = ft.simulated_recording(network, {"k": 8.0}, duration=60e3, dt=0.5, key=jax.random.key(0))
x = jnp.asarray(recording.values)  # (time, region) at 100 Hz
alpha = sosfiltfilt(band_pass((8, 12), 100), x)
envelopes = jnp.abs(hilbert(alpha))

# %%
# Signals of two regions, their alpha bands and their envelopes. The filter and the Hilbert transform run along time.
time = np.arange(500) / 100
figure, axes = plt.subplots(2, 1, figsize=(8, 4), sharex=True, layout="constrained")
for axis, name in zip(axes, ("CAL.L", "PCUN.R"), strict=True):
    region = network.labels.index(name)
    axis.plot(time, (x - x.mean(0))[1000:1500, region], color="0.7", label="activity")
    axis.plot(time, alpha[1000:1500, region], color="C0", label="8 to 12 Hz")
    axis.plot(time, envelopes[1000:1500, region], color="C1", label="envelope")
    axis.set_title(name, loc="left")
axes[0].legend(ncols=3, frameon=False)
axes[1].set_xlabel("time (s)")

# %%
# Connectivity of the envelopes, as it is, orthogonalised, and with a mistake: SciPy filters the last axis unless it is
# told otherwise, which here is that of the regions.
sos = scipy.signal.butter(3, (8, 12), "bandpass", fs=100, output="sos")
across = jnp.asarray(scipy.signal.sosfiltfilt(sos, x, axis=-1).astype("float32"))
matrices = {
    "envelopes": envelope_fc(x, 100, (8, 12), orthogonalize=False),
    "orthogonalised": envelope_fc(x, 100, (8, 12)),
    "filtered across regions": jnp.corrcoef(jnp.abs(hilbert(across)).T) * (1 - jnp.eye(80)),
}
figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
for axis, (name, fc) in zip(axes, matrices.items(), strict=True):
    image = axis.imshow(fc, cmap="PuOr_r", vmin=-0.8, vmax=0.8)
    axis.set(title=name, xticks=[], yticks=[])
figure.colorbar(image, ax=axes, shrink=0.8)

# %%
# Regions are matched by their labels. Matched by position, after the data lost a few regions, nothing agrees.
weights = jnp.asarray(network.connectome.weights.values)
shifted = jnp.roll(matrices["envelopes"], 7, axis=(0, 1))
print(f"weights and connectivity, by label:    r = {fc_correlation(matrices['envelopes'], weights):.3f}")
print(f"weights and connectivity, by position: r = {fc_correlation(shifted, weights):.3f}")

"""
Filters that are SciPy's and MNE's
==================================

Zero-phase filters in ``jax.numpy`` give the numbers of SciPy and MNE, and have gradients.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import mne
import numpy as np
import scipy.signal

from fitting.signal import zero_phase_band_pass

jax.config.update("jax_enable_x64", True)
x = np.random.default_rng(0).standard_normal((3000, 4))
ours = {kind: zero_phase_band_pass(kind, (8.0, 12.0), 100.0, 3) for kind in ("butterworth", "fir")}
sos = scipy.signal.butter(3, (8, 12), "bandpass", fs=100, output="sos")
theirs = {
    "butterworth": scipy.signal.sosfiltfilt(sos, x, axis=0),
    "fir": mne.filter.filter_data(x.T, 100.0, 8.0, 12.0, verbose="error").T,
}
for kind, filtered in theirs.items():
    print(f"{kind}: largest difference {np.abs(ours[kind](jnp.asarray(x)) - filtered).max():.1e}")

# %%
# Both are called "8 to 12 Hz". MNE's default is wider: its edges are the ends of the flat part, and the transition
# bands lie outside.
frequencies = np.linspace(0, 30, 1000)
figure, axis = plt.subplots(figsize=(7, 3), layout="constrained")
for kind, filter in ours.items():
    gain = filter.gain(frequencies)
    axis.plot(frequencies, 20 * np.log10(np.maximum(gain, 1e-6)), label=kind)
axis.axvspan(8, 12, color="0.9", zorder=0)
axis.set(xlabel="frequency (Hz)", ylabel="gain (dB)", ylim=(-60, 3))
axis.legend(frameon=False)

# %%
# The gradient of the power in the band, with respect to the signal, is twice the signal filtered twice.
power = jax.grad(lambda x: (ours["butterworth"](x) ** 2).sum())(jnp.asarray(x))
twice = 2 * np.asarray(ours["butterworth"](ours["butterworth"](jnp.asarray(x))))
inner = slice(500, 2500)  # away from the edges, where signals are padded
print(f"largest difference of the gradient: {np.abs(power - twice)[inner].max():.1e}")

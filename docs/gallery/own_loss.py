"""
A loss of your own
==================

Any differentiable function of a prediction and the target can be followed. This one asks for an alpha peak at 10 Hz in
every region; the regions' time constants are fitted.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import fitting as ft

network = ft.Network(ft.hcp_aal2(regions=20), parameters={"drive": 0.66, "k": 1.0})
observation = ft.Observation(orthogonalize=False, spectrum_band=(4.0, 20.0))
frequencies = jnp.asarray(observation.frequencies)
response = ft.LinearResponse(network, observation, dt="0.5 ms")


def peak(spectra):
    """Mean frequency in Hz of each region, of the square of its power, which is large near its peak."""
    weight = spectra[0] ** 2
    return (frequencies[:, None] * weight).sum(0) / weight.sum(0)


def loss(prediction, target):
    return ((peak(prediction.spectra) - 10.0) ** 2).mean()


# %%
# The target's connectivity is not used, its spectra only say that spectra are wanted.
nothing = ft.Target(jnp.eye(20), network.labels, spectrum=jnp.ones((len(frequencies), 20)))
scales = np.random.default_rng(0).uniform(0.7, 1.4, 20)
parameters = [
    ft.Parameter("tau_E", 9.5 * scales, lower=3.0, upper=24.0, scale="log", per_region=True),
    ft.Parameter("tau_I", 14.25, lower=8.0, upper=24.0, scale="log"),
]
problem = ft.Problem(response, parameters, nothing, loss=loss)
optimizer, point = optax.adam(0.05), problem.parameters.start()
memory, start, losses = optimizer.init(point), point, []
step = jax.jit(problem.value_and_grad)
for number in range(60):
    (value, _), gradient = step(point, jax.random.key(number))
    updates, memory = optimizer.update(gradient, memory)
    point = optax.apply_updates(point, updates)
    losses.append(float(value))

figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
axes[0].semilogy(losses)
axes[0].set(xlabel="step", ylabel="mean squared distance from 10 Hz")
for axis, at, title in ((axes[1], start, "before"), (axes[2], point, "after")):
    spectra = response.predict(problem.parameters.values(at), spectrum=True).spectra[0]
    axis.plot(frequencies, spectra / spectra.max(0), color="C0", alpha=0.4)
    axis.axvline(10, color="0.5", ls="--")
    axis.set(xlabel="frequency (Hz)", title=title, yticks=[])

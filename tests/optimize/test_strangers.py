"""Connectomes as strangers bring them: any scale, directed, sparse, dense, small and large; each fit ends sensibly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fitting.data import connectome, hcp_aal2, scale_weights
from fitting.network import Network
from fitting.objective import Target
from fitting.optimize import Descent, Parameter, Problem, Search, StableStart, solve
from fitting.predict import LinearResponse
from fitting.signal import Observation

#: As experiments have it: k, drive and speed that all regions share.
PARAMETERS = [
    Parameter("k", 1.5, lower=0.3, upper=30, scale="log"),
    Parameter("drive", 0.6, lower=0.3, upper=1.2),
    Parameter("signal_speed", "6 m/s", lower="1.5 m/s", upper="40 m/s", unit="m/s", scale="log"),
]


#: As ``solver=response`` has it, but short, and without a race.
STAGES = [StableStart(), Search(1, 4, keep_start=True), Descent(steps=2, fresh_noise=False)]


def fit_of(own, rng, stages=STAGES):
    """A short fit to the connectivity of a noisy loading per region."""
    network = Network(scale_weights(own))
    size = network.regions
    load = rng.uniform(0.2, 0.5, size)
    fc = np.outer(load, load) + 0.03 * np.triu(rng.standard_normal((size, size)), 1)
    fc = np.triu(fc, 1) + np.triu(fc, 1).T + np.eye(size)
    problem = Problem(
        LinearResponse(network, Observation(orthogonalize=False)), PARAMETERS, Target(jnp.asarray(fc), network.labels)
    )
    return solve(problem, stages, key=jax.random.key(0))


def graph(rng, size, density, counts):
    """A random directed connectome with log-normal counts and lengths by distance."""
    centres = rng.uniform(-60, 60, (size, 3))
    lengths = np.linalg.norm(centres[:, None] - centres, axis=-1)
    weights = np.where(rng.random((size, size)) < density, counts * rng.lognormal(0, 2, (size, size)), 0.0)
    np.fill_diagonal(weights, 0.0)
    return connectome(weights, lengths, [f"{'LR'[i % 2]}_{i}" for i in range(size)])


@pytest.mark.slow
def test_the_scale_of_weights_changes_nothing():
    base, fits = hcp_aal2(regions=8), []
    for factor in (1e-6, 1.0, 1e6):
        scaled = base.assign(weights=base["weights"] * factor)
        fits.append(fit_of(scaled, np.random.default_rng(0), [Descent(steps=3, fresh_noise=False)]))
    for fit in fits[::2]:
        np.testing.assert_allclose(fit.history["loss"], fits[1].history["loss"], rtol=1e-8)
        for name, value in fit.fitted.items():
            np.testing.assert_allclose(value, fits[1].fitted[name], rtol=1e-6, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "density", "counts"),
    [
        (20, 0.05, 1e-3),
        (20, 1.0, 1e5),
        (100, 0.1, 1.0),
        (100, 0.3, 1e4),
        (100, 1.0, 10.0),
        (400, 0.05, 1e2),
    ],
)
def test_graphs_of_any_size_and_density_are_fitted(rng, size, density, counts, record_property):
    fit = fit_of(graph(rng, size, density, counts), rng)
    k = float(fit.fitted["k"])
    what = f"{size} regions, {100 * density:g} %, weights about {counts:g}"
    record_property("fit", f"{what}: {fit.status}, k {k:.3g}. {' '.join(fit.notes)}")
    assert fit.status in ("converged", "max_steps", "at_bounds")
    assert np.isfinite(fit.history["loss"]).mean() > 0.7
    assert fit.problem.predictor.unstable(fit.fitted) == 0

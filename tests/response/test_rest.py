"""Steady states of networks whose regions differ are found, and do not hang on the last bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fitting.data import hcp_aal2
from fitting.inverse import eliminate
from fitting.network import Network
from fitting.response import linearize


def test_elimination_inverts_as_numpy(rng):
    matrices = rng.standard_normal((50, 5, 5))
    matrices[:, 0, 0] = 0.0  # needs a pivot
    np.testing.assert_allclose(eliminate(jnp.asarray(matrices)), np.linalg.inv(matrices), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("coupling", ["diffusive", "additive"])
def test_regions_that_differ_come_to_rest_whatever_the_last_bit(rng, coupling):
    network = Network(hcp_aal2(regions=30), coupling=coupling)
    settle = jax.jit(
        lambda values: (lambda linear: (linear.steady, linear.residual))(linearize(network, values, dt=0.25))
    )
    for k in (0.1, 1.0, 10.0, 30.0):
        spread = {"drive": (0.7, 0.06), "wEE": (16.0, 1.0), "wEI": (13.0, 1.0), "wIE": (11.0, 1.0)}
        values = {name: jnp.asarray(middle + sd * rng.standard_normal(30)) for name, (middle, sd) in spread.items()}
        steady, residual = settle(values | {"k": k})
        assert residual < 1e-12, (coupling, k)
        moved, _ = settle({name: value * (1 + 1e-13) for name, value in values.items()} | {"k": k})
        np.testing.assert_allclose(moved, steady, rtol=1e-7, atol=1e-9)

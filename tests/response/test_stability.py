"""The watch on growing modes at full size, and the closed forms that it and the spectra stand on."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special

from fitting.data import connectome, hcp_aal2
from fitting.network import Network
from fitting.response import cross_spectra, linearize, rightmost_roots, unstable_roots
from fitting.response.linear import Linear, polynomial
from fitting.response.spectra import _folded_moments


@pytest.mark.slow
@pytest.mark.parametrize("drive", [0.55, 0.75])
def test_no_root_of_the_measured_connectome_is_right_of_those_that_are_watched(drive, rng):
    """80 regions that differ; the argument principle counts all roots, and shares nothing with the search for some."""
    network = Network(hcp_aal2(), parameters={"drive": 0.6})
    values = {"k": 2.0, "signal_speed": 7.0, "drive": rng.uniform(drive - 0.05, drive + 0.05, 80)}
    values |= {"tau_E": rng.uniform(8.0, 11.0, 80), "tau_I": rng.uniform(12.0, 16.0, 80)}
    linear = jax.jit(lambda values: linearize(network, values, dt=0.25))(values)
    growth = max(float(rightmost_roots(linear, f).real.max()) for f in (0.0, 6.0, 14.0))
    assert -60 < growth < 60
    assert unstable_roots(linear, right_of=growth + 0.1) == 0
    assert unstable_roots(linear, right_of=growth - 0.1) > 0


@pytest.mark.slow
@pytest.mark.parametrize("between", [0.03, 0.01, 1e-3])
def test_modes_that_lie_close_together_are_several(between):
    """Two pairs of regions that hardly know of each other: each mode of a pair is there twice, a little apart."""
    weights = np.array([[0, 1, 0, 0], [1, 0, between, 0], [0, between, 0, 1], [0, 0, 1, 0]])
    pairs = connectome(weights, np.full((4, 4), 40.0), [f"R{i}.L" for i in range(4)])
    linear = linearize(Network(pairs, parameters={"drive": 0.69}), {"k": 0.3}, dt=0.5)
    roots = np.asarray(rightmost_roots(linear, 8.0))
    assert (roots.real > -25).all()
    assert unstable_roots(linear, right_of=-25.0) == 2 * len(roots)
    apart = np.abs(roots[:, None] - roots)[~np.eye(4, dtype=bool)]
    assert 1e-4 * between < apart.min() < 10 * between


@pytest.mark.parametrize("variables", [1, 2, 3, 6])
def test_transfers_are_elements_of_the_inverse(variables, rng):
    local = rng.standard_normal((4, variables, variables))
    entry, noise = rng.standard_normal((4, variables)), rng.standard_normal((4, variables, 2))
    coupled, rate = variables - 1, 0.3 + 0.8j
    numbers, none = map(jnp.asarray, (local, entry, noise)), jnp.zeros((4, 4))
    linear = Linear(
        jnp.zeros((4, variables)), *numbers, jnp.zeros((4, 2, 4)), none[:0], none, none, coupled, 0.1, jnp.asarray(0.0)
    )
    numerators, denominators = linear.transfers()
    shifted = rate * np.eye(variables) - local
    entries = np.concatenate([entry[:, :, None], noise], -1)
    expected = np.linalg.solve(shifted, entries)[:, coupled]
    own = polynomial(denominators, jnp.asarray(rate))
    np.testing.assert_allclose(own, np.linalg.det(shifted), rtol=1e-10)
    np.testing.assert_allclose(polynomial(numerators, jnp.asarray(rate)) / own[:, None], expected, rtol=1e-10)


@pytest.mark.parametrize(("along", "spread"), [(0.0, 0.7), (0.3, 0.6), (-0.95, 0.2), (0.5, 1e-4)])
def test_moments_of_folded_normal_numbers_are_integrals(along, spread):
    """Over the Rayleigh law, of the folded normal law's moments given r."""

    def mean(moment):
        def weighted(r):
            ratio = along * r / spread
            density, sign = np.sqrt(2 / np.pi) * np.exp(-(ratio**2) / 2), scipy.special.erf(ratio / np.sqrt(2))
            return 2 * r * np.exp(-(r**2)) * moment(r, density, sign)

        # What changes fast at small r is looked at by itself.
        edges = [0, 1e-3, 1e-2, 0.1, 1, 8]
        return sum(scipy.integrate.quad(weighted, *ends, epsabs=1e-13)[0] for ends in itertools.pairwise(edges))

    def size(density, sign, r):
        return spread * density + along * r * sign

    expected = [mean(lambda r, d, s, power=power: size(d, s, r) * r**power) for power in (0, 1, 2)]
    expected += [mean(lambda r, d, s: d), mean(lambda r, d, s: r * s)]
    np.testing.assert_allclose(
        _folded_moments(jnp.asarray(along), jnp.asarray(spread)), expected, rtol=1e-9, atol=1e-12
    )


def test_white_noise_has_a_spectrum_at_zero_frequency():
    """The limit of low frequencies, and a gradient."""
    network = Network(hcp_aal2(regions=3), noise="white", parameters={"drive": 0.6})

    def power(sigma):
        spectra = cross_spectra(linearize(network, {"sigma": sigma}, dt=0.25), np.array([0.0, 1e-3]))
        return jnp.diagonal(spectra, axis1=1, axis2=2).real.sum(1)

    values, slopes = power(0.1), jax.jacobian(power)(0.1)
    np.testing.assert_allclose(values[0], values[1], rtol=1e-5)
    np.testing.assert_allclose(slopes, 2 * values / 0.1, rtol=1e-9)

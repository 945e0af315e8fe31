"""Linear response against simulations, against eigenvalues of the explicit delay line, and its gradients."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from problems import EVERY_NODE, network_of, target_of

from fitting import InputError
from fitting.network import simulate
from fitting.optimize import Descent, Parameter, Parameters, Problem, solve
from fitting.predict import LinearResponse, Simulation
from fitting.response import (
    band_response,
    coherency,
    cross_spectra,
    departure,
    envelope_connectivity,
    frequency_grid,
    linearize,
    orthogonalized_connectivity,
    own_modes,
    rightmost_roots,
    steady_state,
    unstable_roots,
)
from fitting.signal import Observation, fc_correlation, low_pass

DT = 0.5
VALUES = {"k": 1.2, "signal_speed": 4.0, "sigma": 0.01}


@pytest.fixture
def network(directed):
    return network_of(*directed, drive=0.65, speed_bounds=(1.0, 20.0))


def test_steady_state_is_where_the_simulation_comes_to_rest(network):
    linear = linearize(network, VALUES, dt=DT)
    rates = simulate(network, VALUES, duration=4000.0, dt=DT).rates
    np.testing.assert_allclose(linear.steady[:, 0], rates[-1], rtol=1e-9)


def test_a_network_that_starts_at_its_steady_state_stays_there(network):
    rest = steady_state(network, VALUES, dt=DT)
    rates = simulate(network, VALUES, duration=500.0, dt=DT, state=rest).rates
    np.testing.assert_allclose(rates, np.broadcast_to(rest.node["rE"], rates.shape), rtol=1e-9)
    # From the node's own initial values it moves there.
    first = simulate(network, VALUES, duration=500.0, dt=DT).rates[0]
    assert np.abs(first - rest.node["rE"]).max() > 1e-3


@pytest.mark.slow
def test_gradients_know_that_the_start_moves_with_the_parameters(directed):
    """Of a stretch too short to forget where it started, against central differences."""
    network = network_of(*directed, coupling="additive", drive=0.65, speed_bounds=(1.0, 20.0))
    parameters = Parameters([Parameter("k", 0.1, 0.01, 1.0, scale="log"), Parameter("drive", 0.65, 0.1, 1.0)], network)
    observation = Observation(low_pass=None, transient=0.0, trim=0.5)
    simulation = Simulation(network, observation, duration=3000.0, dt=DT, replicates=1, start="steady")

    def last(x, simulation=simulation):
        """Activity after 20 ms."""
        values = parameters.values({"k": x[0], "drive": x[1]})
        return simulation.activity(values | {"sigma": 0.0}, jax.random.key(0))[39].sum()

    x, step = jnp.array([0.1, 0.2]), 1e-5
    value, reverse = jax.jit(last), jax.jit(jax.grad(last))(x)
    central = [(value(x + step * e) - value(x - step * e)) / (2 * step) for e in jnp.eye(2)]
    np.testing.assert_allclose(reverse, central, rtol=1e-6)
    forward = jax.jit(jax.jacfwd(lambda x: last(x, simulation.forward_mode())))(x)
    np.testing.assert_allclose(forward, reverse, rtol=1e-9)


@pytest.mark.slow
def test_departure_tells_rest_from_what_is_not(network, directed):
    steady = linearize(network, VALUES, dt=DT).steady
    assert departure(network, VALUES, steady, dt=DT, duration=4000.0) < 1e-6
    oscillating = network_of(*directed, drive=0.9, speed_bounds=(1.0, 20.0))
    linear = linearize(oscillating, VALUES, dt=DT)
    assert unstable_roots(linear) > 0
    assert departure(oscillating, VALUES, linear.steady, dt=DT, duration=4000.0) > 0.01


@pytest.mark.parametrize("node", EVERY_NODE)
def test_every_node_has_a_steady_state_and_spectra(node, directed):
    weights, lengths = directed
    network = network_of(weights / weights.max(), lengths, node=node, coupling="additive", parameters={"k": 0.01})
    linear = linearize(network, {}, dt=0.1)
    assert float(linear.residual) < 1e-9 * (1 + float(jnp.abs(linear.steady).max()))
    spectra = cross_spectra(linear, np.array([0.0, 10.0, 40.0]))
    assert np.isfinite(np.asarray(spectra)).all()
    np.testing.assert_allclose(spectra, spectra.conj().swapaxes(1, 2), atol=1e-12 * float(jnp.abs(spectra).max()))


def delay_line(linear):
    """The linearised network as one matrix over its state and all the past it needs, for whole-step delays."""
    regions, variables = linear.entry.shape
    dt, whole = linear.dt, np.rint(np.asarray(linear.travel) / linear.dt).astype(int)
    longest = whole.max()
    size = regions * variables
    matrix = np.zeros((size + regions * longest,) * 2)
    local = np.asarray(linear.local)
    for i in range(regions):
        rows = slice(i * variables, (i + 1) * variables)
        matrix[rows, rows] = np.eye(variables) + dt * local[i]
        for j in range(regions):
            # Column of c_j(t - d): the state itself, or the line of its past values.
            column = j * variables + linear.coupled if whole[i, j] == 0 else size + (whole[i, j] - 1) * regions + j
            matrix[rows, column] += dt * np.asarray(linear.entry)[i] * float(linear.weights[i, j])
    for j in range(regions):
        matrix[size + j, j * variables + linear.coupled] = 1.0
    for d in range(1, longest):
        for j in range(regions):
            matrix[size + d * regions + j, size + (d - 1) * regions + j] = 1.0
    return matrix


@pytest.mark.parametrize("drive", [0.6, 0.72, 0.85])
def test_roots_are_eigenvalues_of_the_explicit_delay_line(drive, directed):
    weights, lengths = directed
    lengths = np.rint(lengths / 8) * 8  # whole steps of 2 ms at 4 m/s
    network = network_of(weights, lengths, drive=drive, speed_bounds=(1.0, 20.0))
    linear = linearize(network, VALUES, dt=2.0)
    values = np.linalg.eigvals(delay_line(linear)).astype(complex)
    growth = 1000 * np.log(values[np.abs(values) > 1e-3]) / 2.0
    assert unstable_roots(linear) == (growth.real > 0).sum()
    line = float(np.sort(growth.real)[-8] + np.sort(growth.real)[-9]) / 2
    assert unstable_roots(linear, right_of=line) == (growth.real > line).sum()
    other, found = np.asarray(rightmost_roots(linear, jnp.array([3.0, 10.0]), count=3, steps=30))
    for root in (*other[other.real > -1e6], *found):
        assert np.abs(growth - root).min() < 1e-6 * np.abs(root)
    assert found.real.max() == pytest.approx(growth.real[np.abs(growth.imag) > 1].max(), abs=1e-6)


def test_spectra_are_those_of_a_simulation(network):
    """Periodograms of 200 stretches of 2 s: each ratio to the prediction has a standard error of 1/sqrt(200)."""
    linear = linearize(network, VALUES, dt=DT)
    stretches, samples = 200, 4000
    rates = simulate(network, VALUES, duration=(stretches * samples + 8000) * DT, dt=DT, key=jax.random.key(3)).rates
    x = np.asarray(rates[8000:]).reshape(stretches, samples, -1)
    # A Hann window keeps power from leaking between neighbouring frequencies of 0.5 Hz.
    window = np.hanning(samples + 1)[:-1]
    spectra = np.fft.rfft((x - np.asarray(linear.steady[:, 0])) * window[:, None], axis=1)
    density = (np.abs(spectra) ** 2).mean(0) * 2 * (DT / 1000) / (window**2).sum()
    frequencies = np.fft.rfftfreq(samples, DT / 1000)
    chosen = np.arange(8, 80, 3)  # 4 to 40 Hz, far enough apart to be independent
    predicted = np.asarray(jnp.diagonal(cross_spectra(linear, frequencies[chosen]), axis1=1, axis2=2).real)
    ratio = density[chosen] / predicted
    chi_square = stretches * ((ratio - 1) ** 2).mean()
    assert 0.6 < chi_square < 1.5  # 1 expected; the few regions share their modes, so it scatters more than sqrt(2/n)
    assert abs(ratio.mean() - 1) < 4 / np.sqrt(stretches * 8)


@pytest.mark.slow
def test_connectivity_is_the_average_of_long_simulations_and_their_error_falls_with_length(directed):
    """Noise of another strength in every region."""
    network = network_of(*directed, drive=0.72, speed_bounds=(1.0, 20.0))
    values = VALUES | {"k": 4.0, "sigma": np.linspace(0.004, 0.015, network.regions)}
    observation = Observation(fs=100.0, low_pass=0.5, orthogonalize=False, transient=4.0, trim=2.0)
    grid = frequency_grid(observation, 61)
    expected = envelope_connectivity(cross_spectra(linearize(network, values, dt=DT), grid), grid, observation)

    def simulated(seconds, seeds):
        run = jax.jit(
            lambda key: observation.fc(
                simulate(network, values, duration=1000.0 * seconds, dt=DT, key=key).rates, 2000.0, simulated=True
            )
        )
        return np.stack([run(jax.random.key(100 + s)) for s in range(seeds)])

    short, long = simulated(54.0, 12), simulated(204.0, 12)
    upper = np.triu_indices(network.regions, 1)

    def error(runs):
        return np.sqrt(((runs - np.asarray(expected))[:, upper[0], upper[1]] ** 2).mean())

    # 12 x 200 s together; squared envelopes and envelopes differ by a nearly fixed factor.
    assert float(fc_correlation(jnp.asarray(long.mean(0)), expected)) > 0.95
    # Four times as long: half the error, give or take a quarter of it for 12 seeds.
    assert 0.35 < error(long) / error(short) < 0.72


def test_orthogonalised_connectivity_is_that_of_gaussian_signals(rng):
    """Two million samples: standard error of a correlation 7e-4."""
    count, n = 2_000_000, 3
    mixing = rng.standard_normal((n, n)) + 1j * rng.standard_normal((n, n)) + 1.5 * np.eye(n)
    covariance = mixing @ mixing.conj().T
    z = mixing @ ((rng.standard_normal((n, count)) + 1j * rng.standard_normal((n, count))) / np.sqrt(2))
    observation = Observation()
    got = np.asarray(
        orthogonalized_connectivity(
            jnp.asarray(covariance)[None].repeat(3, 0), np.array([9.0, 10.0, 11.0]), observation
        )
    )
    for i, j in ((0, 1), (0, 2), (1, 2)):
        directions = [
            np.corrcoef(np.abs((z[a] * z[b].conj() / np.abs(z[b])).imag), np.abs(z[b]))[0, 1]
            for a, b in ((i, j), (j, i))
        ]
        assert got[i, j] == pytest.approx(np.mean(directions), abs=3e-3)


def coupled_oscillators(frequencies, strength):
    """Cross-spectra of six noisy oscillators near 10 Hz, coupled with delays."""
    rng, n = np.random.default_rng(1), 6
    weights, delays = rng.uniform(0, 1, (n, n)) * (1 - np.eye(n)), rng.uniform(0.005, 0.06, (n, n))
    resonance, width = rng.uniform(9.0, 11.0, n), rng.uniform(1.0, 3.0, n)
    f = np.asarray(frequencies)[:, None]
    transfer = 1 / (1j * (f - resonance) + width)
    delayed = strength * transfer[:, :, None] * weights * np.exp(-2j * np.pi * f[:, :, None] * delays)
    root = np.linalg.inv(np.eye(n) - delayed) * np.abs(transfer[:, None, :])
    return root @ root.conj().swapaxes(1, 2)


@pytest.mark.parametrize(("strength", "coherency_up_to"), [(0.4, 0.3), pytest.param(1.0, 0.6, marks=pytest.mark.slow)])
def test_low_passed_orthogonalised_connectivity_is_that_of_gaussian_signals(strength, coherency_up_to):
    """20 000 s: about 20 000 independent samples after a low-pass at 0.5 Hz, standard error of a correlation 0.007."""
    observation = Observation(low_pass=0.5)
    grid = frequency_grid(observation)
    got = np.asarray(orthogonalized_connectivity(jnp.asarray(coupled_oscillators(grid, strength)), grid, observation))
    c = np.abs(np.asarray(coherency(jnp.asarray(coupled_oscillators([10.0], strength)))))[0]
    assert coherency_up_to - 0.15 < c[np.triu_indices(6, 1)].max() < coherency_up_to + 0.15
    rng, fs, n, n_segments = np.random.default_rng(0), 100.0, 40_000, 50
    frequencies = np.fft.fftfreq(n, 1 / fs)
    band = np.flatnonzero((frequencies > 4) & (frequencies < 18))
    spectra = (
        coupled_oscillators(frequencies[band], strength) * band_response(observation, frequencies[band])[:, None, None]
    )
    root = np.linalg.cholesky(spectra)
    slow = np.abs(scipy.signal.sosfreqz(low_pass(0.5, fs, 3), np.abs(frequencies), fs=fs)[1]) ** 2
    slow[0] = 0  # the mean

    def smooth(x):
        return np.fft.ifft(np.fft.fft(x) * slow).real

    products = np.zeros((3, 6, 6))
    for _ in range(n_segments):
        normal = (rng.standard_normal((len(band), 6)) + 1j * rng.standard_normal((len(band), 6))) / np.sqrt(2)
        z = np.zeros((6, n), complex)
        z[:, band] = np.einsum("fij,fj->if", root, normal)
        z = np.fft.ifft(z)
        envelopes = smooth(np.abs(z))
        for i in range(6):
            others = smooth(np.abs((z * z[i].conj() / np.abs(z[i])).imag))
            products[0, i] += others @ envelopes[i]
            products[1, i] += (others**2).sum(1) + (np.arange(6) == i)
            products[2, i] += envelopes[i] @ envelopes[i]
    expected = products[0] / np.sqrt(products[1] * products[2])
    expected = (expected + expected.T) / 2 * (1 - np.eye(6))
    upper = np.triu_indices(6, 1)
    assert expected.max() > 0.02
    error = (got - expected)[upper]
    assert np.abs(error).max() < 0.025
    assert np.sqrt((error**2).mean()) < 0.011
    if strength == 1.0:
        assert np.corrcoef(got[upper], expected[upper])[0, 1] > 0.97


def problem_of(network, target, observation, spread=0.0, **settings):
    regional = {"per_region": True, "spread_weight": spread}
    parameters = [
        Parameter("k", 1.2, 0.1, 10.0, scale="log"),
        Parameter("signal_speed", 4.0, 1.0, 20.0, scale="log"),
        Parameter("drive", 0.62, 0.2, 0.9, **regional),
        Parameter("tau_E", 9.5, 5.0, 18.0, **regional),
        Parameter("sigma", 0.01, 0.001, 0.1, scale="log", **regional),
    ]
    return Problem(LinearResponse(network, observation, dt=DT, **settings), parameters, target)


def gradient_case(orthogonalize, low, network, rng):
    """A compiled loss, a point, and a direction by parameter."""
    observation = Observation(low_pass=low, orthogonalize=orthogonalize)
    fc = rng.random((network.regions, network.regions))
    power = rng.uniform(1e-8, 1e-6, (len(observation.frequencies), network.regions))
    target = target_of(fc + fc.T, spectrum=jnp.asarray(power))
    problem = problem_of(network, target, observation, damping=100.0, spread=0.1)
    point = problem.parameters.start()
    for name, size in (("drive", 0.1), ("sigma", 0.5)):
        point[name] = point[name] + size * jnp.asarray(rng.standard_normal(network.regions))
    directions = {name: jnp.asarray(rng.standard_normal(jnp.shape(point[name]))) for name in point}
    return jax.jit(lambda p: problem.value(p, jax.random.key(0))[0]), point, directions


CASES = [(False, 0.5), (True, None)]
SLOW_CASES = [pytest.param(*case, marks=pytest.mark.slow) for case in CASES]


@pytest.mark.parametrize(("orthogonalize", "low"), [(True, 0.5), *SLOW_CASES])
def test_gradients_are_central_differences(orthogonalize, low, network, rng):
    loss, point, directions = gradient_case(orthogonalize, low, network, rng)
    gradient = jax.jit(jax.grad(loss))(point)
    for name, direction in directions.items():
        step = 1e-4
        moved = [loss(point | {name: point[name] + s * step * direction}) for s in (-2, -1, 1, 2)]
        central = (moved[0] - 8 * moved[1] + 8 * moved[2] - moved[3]) / (12 * step)
        np.testing.assert_allclose((gradient[name] * direction).sum(), central, rtol=1e-6, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize(("orthogonalize", "low"), [(True, 0.5), *CASES])
def test_gradients_are_forward_mode(orthogonalize, low, network, rng):
    loss, point, directions = gradient_case(orthogonalize, low, network, rng)
    gradient = jax.jit(jax.grad(loss))(point)
    derivative = jax.jit(lambda p, direction: jax.jvp(loss, (p,), (direction,))[1])
    for name, direction in directions.items():
        along = {n: jnp.zeros_like(v) for n, v in point.items()} | {name: direction}
        np.testing.assert_allclose((gradient[name] * direction).sum(), derivative(point, along), rtol=1e-8)


def test_connectivity_sees_where_noise_is_but_not_how_strong(network):
    observation = Observation(low_pass=0.5)
    grid = frequency_grid(observation)
    uneven = np.linspace(0.2, 2.0, network.regions)
    quiet, loud, *others = (
        envelope_connectivity(cross_spectra(linearize(network, VALUES | {"sigma": s}, dt=DT), grid), grid, observation)
        for s in (0.001, 0.2, 0.001 * uneven, 0.2 * uneven)
    )
    np.testing.assert_allclose(quiet, loud, rtol=1e-10)
    np.testing.assert_allclose(*others, rtol=1e-10)
    assert np.abs(others[0] - quiet).max() > 0.02


def test_thirty_two_bits(network):
    grid = frequency_grid(Observation(low_pass=0.5))
    exact = coherency(cross_spectra(linearize(network, VALUES, dt=DT), grid))
    with jax.enable_x64(False):
        rounded = coherency(cross_spectra(linearize(network, VALUES, dt=DT), grid))
        assert rounded.dtype == jnp.complex64
    np.testing.assert_allclose(rounded, exact, atol=1e-3)


@pytest.mark.slow
def test_fit_finds_the_parameters_behind_a_matrix(network):
    import optax

    observation = Observation(low_pass=0.5, orthogonalize=False)
    parameters = [Parameter("k", 2.0, 0.1, 10.0, scale="log"), Parameter("signal_speed", 8.0, 1.0, 20.0, scale="log")]
    truth = LinearResponse(network, observation, dt=DT).predict(VALUES).fc
    problem = Problem(LinearResponse(network, observation, dt=DT, damping=1.0), parameters, target_of(truth))
    descent = Descent(optax.adam(0.1), steps=150, patience=70, tolerance=0.0)
    result = solve(problem, [descent], key=jax.random.key(0))
    assert result.fitted["k"] == pytest.approx(1.2, rel=0.05)
    assert result.fitted["signal_speed"] == pytest.approx(4.0, rel=0.05)


def test_a_region_that_oscillates_far_from_the_band_is_seen(directed):
    """One fast region past its own bifurcation, at 40 Hz, where the band is 8 to 12 Hz, is among the modes."""
    network = network_of(*directed, drive=0.6, speed_bounds=(1.0, 20.0))
    response = LinearResponse(network, Observation(low_pass=None, orthogonalize=False), dt=0.1)
    fast = jnp.where(jnp.arange(6) == 2, 0.25, 1.0)
    rest = {"k": 0.05, "tau_E": 9.5 * fast, "tau_I": 14.25 * fast}
    stable, unstable = ({**rest, "drive": 0.6 + extra * (fast < 1)} for extra in (0.0, 0.25))
    for values, count in ((stable, 0), (unstable, 2)):
        linear = linearize(network, values, dt=0.1)
        assert unstable_roots(linear) == count
        alone = np.linalg.eigvals(np.asarray(linear.local))
        np.testing.assert_allclose(np.exp(np.asarray(own_modes(linear)) * 1e-4), 1 + 0.1 * alone.ravel(), rtol=1e-9)
        growth = jax.jit(lambda v: response.growth(response.activity(v), response.observation))(values)
        assert (float(growth.max()) > 0) == (count > 0)
    fastest = own_modes(linearize(network, unstable, dt=0.1))
    assert 30 < abs(float(fastest[jnp.argmax(fastest.real)].imag)) / (2 * np.pi) < 60


@pytest.mark.parametrize(
    ("observation", "words"),
    [
        (Observation(log=True), "log envelopes"),
        (Observation(absolute=True), "absolute correlations"),
        (Observation(envelope_fs=10.0), "resampled envelopes"),
    ],
)
def test_what_linear_response_cannot_do_is_refused(observation, words, network):
    with pytest.raises(InputError, match=words):
        problem_of(network, target_of(jnp.ones((network.regions, network.regions))), observation)


@pytest.mark.parametrize("node", ["hopf", "stuart_landau"])
def test_a_steady_state_at_zero_has_a_response(node, directed):
    network = network_of(*directed, node=node, coupling="additive", speed_bounds=(1.0, 20.0), parameters={"k": 0.001})
    observation = Observation(low_pass=0.5, orthogonalize=False)
    assert np.isfinite(np.asarray(LinearResponse(network, observation, dt=DT).predict({"k": 0.001}).fc)).all()


@pytest.mark.slow
def test_lapack_is_never_called_for_a_batch(network):
    """Batches side by side, as on two devices, can wait for each other for ever (JAX before 0.11.2)."""
    observation = Observation(fs=100.0)
    power = jnp.ones((len(observation.frequencies), network.regions))
    problem = problem_of(network, target_of(-network.lengths - network.lengths.T, spectrum=power), observation)
    point = problem.parameters.start()
    several = jax.tree.map(lambda x: jnp.stack([x, x + 0.1]), point)
    prediction = jax.eval_shape(lambda p: problem.predict(problem.parameters.values(p), jax.random.key(0)), point)
    assert prediction.spectra.shape == (1, *power.shape)
    loss = partial(problem.value, key=jax.random.key(0))
    for function, at in (
        (loss, point),
        (jax.value_and_grad(loss, has_aux=True), point),
        (lambda points: jax.lax.map(loss, points), several),
        (jax.vmap(lambda k: linearize(network, {"k": k}, dt=0.25).steady), jnp.array([0.5, 1.0])),
    ):
        text = jax.jit(function).lower(at).compile().as_text()
        factorized = re.findall(r"= \([a-z]+\d+\[([\d,]*)\].*custom-call.*lapack_.getrf", text)
        assert factorized
        # A batch of one is computed where it is called.
        assert all(re.fullmatch(r"(1,)*\d+,\d+", shape) for shape in factorized), factorized

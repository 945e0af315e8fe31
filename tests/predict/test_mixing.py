"""What sensors mix: in simulations, in closed form, and in recordings that are made up."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import check_central_differences, labels_of, network_of

from fitting import InputError
from fitting.data import centres_of, hcp_aal2, mixing_matrix, read_mixing, sphere_lead_field, sphere_mixing
from fitting.network import simulated_recording
from fitting.optimize import Parameter
from fitting.optimize.storage import identity
from fitting.predict import LinearResponse, Simulation
from fitting.response import cross_spectra, frequency_grid, orthogonalized_connectivity
from fitting.signal import Observation

VALUES = {"k": 1.5, "sigma": 0.002, "signal_speed": 5.0}
#: Neither symmetric nor positive, as strong as neighbours leak.
MATRIX = np.eye(6) + 0.35 * np.random.default_rng(4).standard_normal((6, 6))
MIXING = mixing_matrix(MATRIX, labels_of(6), "test")
PLAIN = Observation(orthogonalize=False, transient=0.5, trim=0.5)
UPPER = np.triu_indices(6, 1)


@pytest.fixture(scope="module")
def network(directed):
    return network_of(*directed, drive=0.6)


@pytest.mark.parametrize("orthogonalize", [True, False])
def test_simulations_are_mixed_before_anything_else_is_done(network, orthogonalize):
    """Row by row in NumPy: 1e-10, float64."""
    observation = replace(PLAIN, orthogonalize=orthogonalize, mixing=MIXING)
    simulation = Simulation(network, observation, duration=6000.0, dt=0.5, replicates=1)
    activity = simulation.activity(VALUES, jax.random.key(0))
    signals = np.asarray(activity)
    by_hand = np.stack([sum(MATRIX[i, j] * signals[:, j] for j in range(6)) for i in range(6)], axis=1)
    plain = Simulation(network, replace(observation, mixing=None), duration=6000.0, dt=0.5, replicates=1)
    got, expected = (
        s.observe(jnp.asarray(a), s.observation, spectrum=True) for s, a in ((simulation, activity), (plain, by_hand))
    )
    np.testing.assert_allclose(got.fc, expected.fc, atol=1e-10)
    np.testing.assert_allclose(got.spectra, expected.spectra, rtol=1e-8)
    np.testing.assert_allclose(simulation.traces(activity), plain.traces(jnp.asarray(by_hand)), rtol=1e-9)
    np.testing.assert_allclose(observation.fc(activity, 2000.0, simulated=True), got.fc, atol=1e-12)
    assert np.abs(got.fc - plain.observe(activity, plain.observation).fc).max() > 0.05


def test_measured_recordings_are_not_mixed_again(rng):
    x = jnp.asarray(rng.standard_normal((3000, 6)))
    np.testing.assert_array_equal(replace(PLAIN, mixing=MIXING).fc(x, 100.0), PLAIN.fc(x, 100.0))


def test_cross_spectra_are_mixed_on_both_sides(network):
    """Power and connectivity of R S R^T, by matrix products in NumPy: 1e-9."""
    observation = replace(PLAIN, orthogonalize=True, mixing=MIXING)
    response = LinearResponse(network, observation, dt=0.5)
    got = response.predict(VALUES, spectrum=True)
    linear, grid = response.activity(VALUES), frequency_grid(observation, response.frequencies)
    spectra = np.asarray(cross_spectra(linear, np.concatenate([grid, observation.frequencies])))
    mixed = np.stack([MATRIX @ one @ MATRIX.T for one in spectra])
    expected = orthogonalized_connectivity(jnp.asarray(mixed[: len(grid)]), grid, observation)
    np.testing.assert_allclose(got.fc, expected, atol=1e-9)
    power = np.diagonal(mixed[len(grid) :], axis1=1, axis2=2).real
    np.testing.assert_allclose(got.spectra[0], power, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("orthogonalize", [True, False])
def test_closed_form_is_that_of_long_simulations(network, orthogonalize):
    """Connectivity of 1200 s within 0.05: a standard error of some 0.015, and squared envelopes for envelopes."""
    values = VALUES | {"k": 5.0}
    observation = replace(PLAIN, orthogonalize=orthogonalize, mixing=MIXING)
    closed = np.asarray(LinearResponse(network, observation, dt=0.5).predict(values).fc)
    simulation = Simulation(network, observation, duration=600_500.0, dt=0.5, start="steady")
    sampled = np.mean([simulation.predict(values, jax.random.key(seed)).fc for seed in range(2)], axis=0)
    assert np.abs(closed[UPPER] - sampled[UPPER]).max() < 0.05
    without = LinearResponse(network, replace(observation, mixing=None), dt=0.5).predict(values).fc
    assert np.abs(closed[UPPER] - np.asarray(without)[UPPER]).max() > 0.1


@pytest.mark.slow
def test_two_mixed_sources_are_told_apart_by_orthogonalisation():
    """Without connections: mixing correlates two envelopes, and orthogonalisation takes all of that away."""
    apart = network_of(np.zeros((2, 2)), np.full((2, 2), 40.0), drive=0.6)
    mixing = mixing_matrix([[1.0, 0.6], [0.3, 1.0]], labels_of(2))
    fc = {
        kind: float(
            LinearResponse(apart, replace(PLAIN, orthogonalize=kind, mixing=mixing), dt=0.5).predict({}).fc[0, 1]
        )
        for kind in (True, False)
    }
    assert abs(fc[True]) < 1e-9
    coherency = (0.3 + 0.6) / np.sqrt((1 + 0.6**2) * (1 + 0.3**2))
    assert fc[False] == pytest.approx(coherency**2, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("predictor", ["response", "simulation"])
@pytest.mark.parametrize("orthogonalize", [True, False])
def test_gradients_through_mixing_are_central_differences(network, predictor, orthogonalize):
    parameters = [Parameter("k", 1.5, 0.1, 5.0), Parameter("drive", np.full(6, 0.6), 0.0, 1.0, per_region=True)]
    check_central_differences(
        predictor, network, parameters, [("k", ()), ("drive", 3)], mixing=MIXING, orthogonalize=orthogonalize
    )


def test_recordings_that_are_made_up_are_mixed(network):
    settings = {"duration": 3000.0, "dt": 0.5, "key": jax.random.key(0), "transient": 500.0}
    plain = simulated_recording(network, VALUES, **settings)
    mixed = simulated_recording(network, VALUES, observation=replace(PLAIN, mixing=MIXING), **settings)
    np.testing.assert_allclose(mixed.values, plain.values @ MATRIX.T, rtol=1e-9)


@pytest.mark.parametrize("order", [[1, 0, 2, 3, 4, 5], [0, 1, 2]])
def test_mixing_of_other_regions_is_refused(network, order):
    observation = replace(PLAIN, mixing=MIXING[order, order])
    for make in (LinearResponse, Simulation):
        with pytest.raises(InputError, match="match it to the network's labels"):
            make(network, observation)


def test_other_mixing_is_another_fit():
    """The values count, not the labels alone."""
    assert identity(replace(PLAIN, mixing=MIXING)) != identity(replace(PLAIN, mixing=2 * MIXING))


def test_files(tmp_path, rng):
    """The same matrix from text, from arrays, and as the product of its two factors."""
    labels = ["A.L", "B.L", "C.R"]
    inverse, lead_field = rng.standard_normal((3, 8)), rng.standard_normal((8, 3))
    matrix = inverse @ lead_field
    mixing_matrix(matrix, labels).to_pandas().to_csv(tmp_path / "a.csv")
    np.savez(tmp_path / "b.npz", mixing=matrix, labels=labels)
    np.savez(tmp_path / "c.npz", inverse=inverse, lead_field=lead_field, labels=labels)
    for name in ("a.csv", "b.npz", "c.npz"):
        read = read_mixing(tmp_path / name)
        np.testing.assert_allclose(read.values, matrix, rtol=1e-12)
        assert read["region"].values.tolist() == read["other"].values.tolist() == labels
        assert read.attrs["provenance"] == name


def test_files_that_are_refused(tmp_path):
    labels = ["A.L", "B.L"]
    np.savez(tmp_path / "half.npz", inverse=np.ones((2, 5)), labels=labels)
    np.savez(tmp_path / "turned.npz", inverse=np.ones((2, 5)), lead_field=np.ones((2, 5)), labels=labels)
    np.savez(tmp_path / "both.npz", mixing=np.eye(2), resolution=np.eye(2), labels=labels)
    np.savez(tmp_path / "zero.npz", mixing=[[1.0, 0.0], [0.0, 0.0]], labels=labels)
    np.savez(tmp_path / "nan.npz", mixing=[[1.0, np.nan], [0.0, 1.0]], labels=labels)
    (tmp_path / "mixing.txt.gz").touch()
    for name, message in (
        ("half.npz", "either mixing or inverse and lead_field; it holds inverse, labels"),
        ("turned.npz", r"lead_field \(sensor, region\); they are \(2, 5\) and \(2, 5\)"),
        ("both.npz", "holds mixing and resolution; which of them is meant cannot be told"),
        ("zero.npz", "the rows of B.L are zero"),
        ("nan.npz", "1 value.s. are not finite, the first at row 0, column 1"),
        ("mixing.txt.gz", "cannot read mixing from .gz"),
        ("none.csv", "none.csv"),
    ):
        with pytest.raises(InputError, match=message):
            read_mixing(tmp_path / name)


def test_lead_field_is_sarvas_formula():
    """The field at the middle of each magnetometer; MNE's average over its coil of 21 mm differs by little."""
    mne = pytest.importorskip("mne")
    from mne.channels import read_meg_canonical_info

    centres = centres_of(hcp_aal2())[::8]
    seen = sphere_lead_field(centres, "neuromag")
    info = read_meg_canonical_info("neuromag", verbose="error")
    chosen = [i for i, channel in enumerate(info["chs"]) if mne.channel_type(info, i) == "mag"]
    head, origin = np.array([0.0, 0.0, 0.04]), np.array([channel["loc"][:3] for channel in info["chs"]])
    middle = np.linalg.lstsq(np.c_[2 * origin, np.ones(len(origin))], (origin**2).sum(1), rcond=None)[0][:3]
    folder = mne.__path__[0] + "/data/fsaverage/fsaverage-trans.fif"
    trans = np.linalg.inv(mne.read_trans(folder, verbose="error")["trans"])
    for column, centre in enumerate(centres):
        source = trans[:3, :3] @ centre / 1000 + trans[:3, 3] - head
        field = np.zeros((len(chosen), 3))
        for row, i in enumerate(chosen):
            r, normal = origin[i] - middle, info["chs"][i]["loc"][9:12]
            a, size, distance = r - source, np.linalg.norm(r), np.linalg.norm(r - source)
            f = distance * (size * distance + size**2 - source @ r)
            nabla = (distance**2 / size + a @ r / distance + 2 * distance + 2 * size) * r
            nabla = nabla - (distance + 2 * size + a @ r / distance) * source
            for axis, q in enumerate(np.eye(3)):
                cross = np.cross(q, source)
                field[row, axis] = 1e-7 / f**2 * (f * cross - (cross @ r) * nabla) @ normal
        # The direction of the dipole is that which all sensors see best, gradiometers among them: fitted here.
        direction = np.linalg.lstsq(field, seen[chosen, column], rcond=None)[0]
        explained = field @ direction
        assert np.corrcoef(explained, seen[chosen, column])[0, 1] > 0.999
        assert abs(direction @ source) < 0.15 * np.linalg.norm(direction) * np.linalg.norm(source)
        # 10 nAm over the noise that MNE assumes of magnetometers, 20 fT.
        assert np.linalg.norm(direction) == pytest.approx(1e-8 / 20e-15, rel=0.05)


def test_a_sphere_mixes_what_is_near(rng):
    connectome = hcp_aal2()
    mixing, sharper = (sphere_mixing(connectome, snr=snr).values for snr in (3.0, 10.0))
    np.testing.assert_allclose(mixing, mixing.T, atol=1e-12)
    own, others = np.diag(mixing), ~np.eye(80, dtype=bool)
    assert ((own > 0) & (own < 1)).all()
    centres = centres_of(connectome)
    distances = np.linalg.norm(centres[:, None] - centres, axis=2)
    relative = np.abs(mixing) / own[:, None]
    near, far = relative[others & (distances < 40)], relative[distances > 80]
    assert np.median(near) > 10 * np.median(far)
    assert (np.diag(sharper) > own).all()
    with pytest.raises(InputError, match="choose from ctf151"):
        sphere_mixing(connectome, sensors="squid")
    with pytest.raises(InputError, match="snr must be positive; got 0"):
        sphere_mixing(connectome, snr=0.0)
    with pytest.raises(InputError, match="give it centres, or name its atlas"):
        sphere_mixing(connectome.assign_attrs(atlas=""))

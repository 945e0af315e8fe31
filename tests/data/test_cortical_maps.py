"""Maps of the cortex: read, matched by label, standardised; and random ones that are as smooth."""

import numpy as np
import pytest
import xarray as xr

from fitting import InputError
from fitting.data import connectome, hcp_aal2, own_maps, read_maps, with_maps
from fitting.evaluate import structural_baselines, surrogate_maps

LABELS = ["A.L", "A.R", "B.L", "B.R"]
VALUES = np.array([[1.0, 5.0], [2.0, -1.0], [3.0, 0.5], [7.0, 2.0]])


@pytest.fixture
def own(rng):
    weights = rng.uniform(0.1, 1, (4, 4))
    centres = [[-30, -90, 0], [30, -80, 5], [-30, 20, 10], [30, 40, 0]]
    return connectome(weights, np.full((4, 4), 50.0), LABELS, centres=centres)


@pytest.mark.parametrize("suffix", [".npz", ".nc"])
def test_the_atlas_of_a_file_is_kept(suffix, tmp_path):
    file = tmp_path / f"maps{suffix}"
    if suffix == ".npz":
        np.savez(file, maps=VALUES[:, :1], map_names=["myelin"], labels=LABELS, atlas="AAL2")
    else:
        maps = xr.Dataset({"myelin": ("region", VALUES[:, 0])}, coords={"region": LABELS}, attrs={"atlas": "AAL2"})
        maps.to_netcdf(file, engine="h5netcdf")
    assert read_maps(file).attrs["atlas"] == "AAL2"
    assert read_maps(file, atlas="AAL").attrs["atlas"] == "AAL"


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".npz", ".nc"])
def test_every_format_gives_the_same_maps(suffix, tmp_path):
    file = tmp_path / f"maps{suffix}"
    if suffix in (".csv", ".tsv"):
        cut = {".csv": ",", ".tsv": "\t"}[suffix]
        rows = [
            ["region", "myelin", "receptor"],
            *([label, *map(str, row)] for label, row in zip(LABELS, VALUES, strict=True)),
        ]
        file.write_text("\n".join(cut.join(row) for row in rows))
    elif suffix == ".npz":
        np.savez(file, maps=VALUES, map_names=["myelin", "receptor"], labels=LABELS)
    else:
        columns = {"myelin": ("region", VALUES[:, 0]), "receptor": ("region", VALUES[:, 1]), "other": ("x", [1.0])}
        xr.Dataset(columns, coords={"region": LABELS}).to_netcdf(file, engine="h5netcdf")
    maps = read_maps(file)
    np.testing.assert_array_equal(maps, VALUES)
    assert maps["region"].values.tolist() == LABELS
    assert maps["map"].values.tolist() == ["myelin", "receptor"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("region,a\nA.L,1\nA.L,2\n", "labels occur twice: A.L"),
        ("region,a,a\nA.L,1,2\nA.R,1,2\n", "names of maps occur twice: a"),
        ("region,a\nA.L,high\nA.R,1\n", "'high' in row A.L"),
        ("region\nA.L\n", "is empty"),
        ("region,a\nMEG 0111,1\nMEG 0112,2\n", "sensors"),
    ],
)
def test_files_that_hold_no_maps_are_refused(text, words, tmp_path):
    file = tmp_path / "maps.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=words):
        read_maps(file)


def test_maps_are_matched_by_label_and_standardised(own):
    order = [2, 0, 3, 1]
    labels = [LABELS[i] for i in order] + ["C.L"]
    values = np.append(VALUES[order, 0], 100.0)[:, None]
    maps = xr.DataArray(values, {"region": labels, "map": ["myelin"]}, ("region", "map"))
    matched = with_maps(own, maps, ["myelin", "log_strength", "anterior", "hemisphere"]).maps
    expected = VALUES[:, 0]
    np.testing.assert_allclose(matched.sel(map="myelin"), (expected - expected.mean()) / expected.std(), rtol=1e-12)
    strength = np.log(own.weights.values.sum(1) - np.diag(own.weights.values))
    np.testing.assert_allclose(matched.sel(map="log_strength"), (strength - strength.mean()) / strength.std())
    assert matched.sel(map="hemisphere").values.tolist() == [-1, 1, -1, 1]
    assert np.argsort(matched.sel(map="anterior").values).tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(matched.mean("target"), 0, atol=1e-12)


def test_maps_that_say_nothing_are_refused(own):
    def given(values):
        return xr.DataArray(np.array(values)[:, None], {"region": LABELS, "map": ["myelin"]}, ("region", "map"))

    with pytest.raises(InputError, match="there is no map 'receptor'; there are myelin, log_strength"):
        with_maps(own, given([1.0, 2, 3, 4]), ["receptor"])
    with pytest.raises(InputError, match=r"the map myelin has no value in A\.R, B\.R"):
        with_maps(own, given([1.0, np.nan, 3, np.nan]), ["myelin"])
    with pytest.raises(InputError, match="is 2 in all regions"):
        with_maps(own, given([2.0, 2, 2, 2]), ["myelin"])
    assert "anterior" not in own_maps(own.drop_vars("centres"))["map"]


def test_random_maps_are_as_smooth_and_otherwise_other_ones():
    """Moran's I, with inverse lengths for weights, is that of the map, within what 40 draws scatter."""
    real = with_maps(hcp_aal2(), None, ["log_strength"])
    lengths = real.lengths.values
    near = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)

    def moran(values):
        return float(values @ near @ values / near.sum() / values.var())

    drawn = surrogate_maps(real, 40, seed=1)
    each = np.array([moran(one.maps.values[0]) for one in drawn])
    permuted = [moran(np.random.default_rng(seed).permutation(real.maps.values[0])) for seed in range(40)]
    assert abs(each.mean() - moran(real.maps.values[0])) < 3 * each.std()
    assert np.mean(permuted) < each.mean()
    assert np.abs(np.corrcoef([one.maps.values[0] for one in (real, *drawn)])[0, 1:]).max() < 0.9
    for one in drawn:
        np.testing.assert_allclose([one.maps.mean(), one.maps.std()], [0, 1], atol=1e-9)
        np.testing.assert_array_equal(one.weights, real.weights)
    again = surrogate_maps(real, 40, seed=1)
    np.testing.assert_array_equal(again[7].maps, drawn[7].maps)
    with pytest.raises(InputError, match="the connectome has no maps"):
        surrogate_maps(hcp_aal2(), 1, seed=0)


def test_a_regression_on_maps_is_a_baseline(rng):
    """It finds a sum, a product and a difference of maps; without maps there is none."""
    c = with_maps(hcp_aal2(), None, ["log_strength", "hemisphere"])
    assert "regression_on_maps" not in structural_baselines(hcp_aal2(), c.weights.values)
    one, other = c.maps.values
    fc = one[:, None] * one - 0.5 * np.abs(other[:, None] - other) + 0.1 * (one[:, None] + one)
    scores = structural_baselines(c, fc)
    assert scores["regression_on_maps"] > 0.999
    assert scores["linear_regression"] < 0.9

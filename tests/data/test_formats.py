"""Every format that is read, written by the program that people have it from."""

import bz2
import json
import zipfile

import h5py
import numpy as np
import pytest
import scipy.io
import xarray as xr

from fitting import InputError
from fitting.data import (
    connectome,
    fc_target,
    good_pieces,
    group_average,
    leave_one_out,
    read_connectome,
    read_fc,
    read_recording,
    read_recordings,
    recording,
)

LABELS = ["INS.L", "INS.R", "CUN.L"]
#: Directed, so that a turned matrix is seen.
WEIGHTS = np.array([[0, 0.1, 0.2], [0.4, 0, 0.3], [0.5, 0.6, 0]])
LENGTHS = np.array([[0, 10.0, 20.0], [40.0, 0, 30.0], [50.0, 60.0, 0]])
CENTRES = np.array([[-30.0, 1, 2], [30.0, 1, 2], [-5.0, -80, 10]])
FC = np.array([[0, 0.1, 0.2], [0.1, 0, 0.3], [0.2, 0.3, 0]])


def labelled(path, matrix, labels=LABELS):
    rows = [",".join(["", *labels])] + [",".join([n, *map(str, r)]) for n, r in zip(labels, matrix, strict=True)]
    path.write_text("\n".join(rows) + "\n")


def plain(path, matrix, delimiter="\t"):
    np.savetxt(path, matrix, delimiter=delimiter)


def npz(path):
    np.savez(path / "c.npz", weights=WEIGHTS, lengths=LENGTHS, labels=LABELS, centres=CENTRES)
    return path / "c.npz"


def mat(path):
    cells = np.array(LABELS, dtype=object)
    scipy.io.savemat(path / "c.mat", {"SC": WEIGHTS, "len": LENGTHS, "region_labels": cells}, do_compression=True)
    return path / "c.mat"


def mat73(path):
    """As MATLAB 7.3 does it: columns first, cells as references to character codes."""
    with h5py.File(path / "c.mat", "w", userblock_size=512) as file:
        file["weights"], file["lengths"] = WEIGHTS.T, LENGTHS.T
        cells = file.create_dataset("labels", (1, 3), h5py.ref_dtype)
        for i, label in enumerate(LABELS):
            text = file.create_dataset(f"#refs#/{i}", data=np.array([[ord(c)] for c in label], np.uint16))
            cells[0, i] = text.ref
    with (path / "c.mat").open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(128))
    return path / "c.mat"


def hdf5(path):
    with h5py.File(path / "c.h5", "w") as file:
        file["connectivity/weights"], file["connectivity/tract_lengths"] = WEIGHTS, LENGTHS
        file["connectivity/region_labels"] = np.array(LABELS, dtype="S")
        file["connectivity/centres"] = CENTRES
    return path / "c.h5"


def netcdf(path):
    made = connectome(WEIGHTS, LENGTHS, LABELS, atlas="AAL2", centres=CENTRES)
    made.to_netcdf(path / "c.nc", engine="h5netcdf")
    return path / "c.nc"


def netcdf_in_cm(path):
    made = connectome(WEIGHTS, LENGTHS, LABELS)
    made["lengths"] = (made.lengths / 10).transpose("source", "target").assign_attrs(units="cm")
    made.to_netcdf(path / "c.nc", engine="scipy")
    return path / "c.nc"


def tvb(path, packed=False):
    centres = "\n".join(" ".join([n, *map(str, c)]) for n, c in zip(LABELS, CENTRES, strict=True))
    plain(path / "weights.txt", WEIGHTS, " ")
    plain(path / "tract_lengths.txt", LENGTHS, " ")
    (path / "centres.txt").write_text(centres)
    (path / "hemispheres.txt").write_text("0\n1\n0\n")
    if not packed:
        return path
    with zipfile.ZipFile(path / "c.zip", "w") as archive:
        for name in ("weights", "tract_lengths", "centres", "hemispheres"):
            text = (path / f"{name}.txt").read_bytes()
            if name == "weights":
                archive.writestr("connectivity_3/weights.txt.bz2", bz2.compress(text))
            else:
                archive.writestr(f"connectivity_3/{name}.txt", text)
    return path / "c.zip"


def tvb_zip(path):
    return tvb(path, packed=True)


def tables(path):
    labelled(path / "weights.csv", WEIGHTS)
    labelled(path / "lengths.csv", LENGTHS)
    return path


def bids(path):
    """BEP034: bare matrices, labels where the sidecar points to."""
    net, coord = path / "sub-01" / "net", path / "coord"
    net.mkdir(parents=True)
    coord.mkdir()
    (path / "dataset_description.json").write_text('{"Name": "x"}')
    plain(net / "sub-01_desc-x_weights.tsv", WEIGHTS)
    plain(net / "sub-01_desc-x_distances.tsv", LENGTHS / 10)
    (net / "sub-01_desc-x_weights.json").write_text(json.dumps({"CoordsRows": ["../../coord/desc-x_labels.json"]}))
    (net / "sub-01_desc-x_distances.json").write_text('{"Units": "cm"}')
    (coord / "desc-a_labels.tsv").write_text("a\nb\nc\n")
    (coord / "desc-x_labels.tsv").write_text("\n".join(f" {label}" for label in LABELS))
    plain(coord / "desc-x_nodes.tsv", CENTRES)
    return path


@pytest.mark.parametrize(
    "write", [npz, mat, mat73, hdf5, netcdf, netcdf_in_cm, tvb, tvb_zip, tables, bids], ids=lambda f: f.__name__
)
def test_connectomes_of_every_format(write, tmp_path):
    c = read_connectome(write(tmp_path))
    np.testing.assert_allclose(c.weights, WEIGHTS, rtol=1e-15)
    np.testing.assert_allclose(c.lengths, LENGTHS, rtol=1e-15)
    assert c["target"].values.tolist() == c["source"].values.tolist() == LABELS
    assert c["hemisphere"].values.tolist() == ["L", "R", "L"]
    assert c.lengths.units == "mm"
    if write in (npz, hdf5, netcdf, tvb, tvb_zip):
        np.testing.assert_array_equal(c.centres, CENTRES)
    if write is netcdf:
        assert c.attrs["atlas"] == "AAL2"


def test_lengths_in_another_unit(tmp_path):
    np.savez(tmp_path / "c.npz", weights=WEIGHTS, lengths=LENGTHS / 1000, labels=LABELS)
    np.testing.assert_allclose(read_connectome(tmp_path / "c.npz", units="m").lengths, LENGTHS)
    with pytest.raises(InputError, match=r"the longest connection would be 0\.06 mm"):
        read_connectome(tmp_path / "c.npz")


def cm_npz(path):
    np.savez(path / "c.npz", weights=WEIGHTS, lengths=LENGTHS / 10, labels=LABELS, units="cm")
    return path / "c.npz"


def cm_mat(path):
    parts = {"weights": WEIGHTS, "lengths": LENGTHS / 10, "labels": np.array(LABELS, object), "length_units": "cm"}
    scipy.io.savemat(path / "c.mat", parts)
    return path / "c.mat"


def cm_mat73(path):
    """Text in a variable of its own, as MATLAB 7.3 stores it: character codes, columns first."""
    file = mat73(path)
    with h5py.File(file, "r+") as out:
        out["lengths"][:] /= 10
        out["units"] = np.array([[ord("c")], [ord("m")]], np.uint16)
        out["units"].attrs["MATLAB_class"] = np.bytes_("char")
    return file


def cm_hdf5(path):
    file = hdf5(path)
    with h5py.File(file, "r+") as out:
        out["connectivity/tract_lengths"][:] /= 10
        out["connectivity/tract_lengths"].attrs["units"] = "cm"
    return file


def cm_bids(path):
    bids(path)
    (path / "sub-01" / "net" / "sub-01_desc-x_distances.json").write_text('{"units": "cm"}')
    return path


def cm_tables(path):
    tables(path)
    labelled(path / "lengths.csv", LENGTHS / 10)
    (path / "lengths.json").write_text('{"Units": "cm"}')
    return path


@pytest.mark.parametrize("write", [cm_npz, cm_mat, cm_mat73, cm_hdf5, cm_bids, cm_tables], ids=lambda f: f.__name__)
def test_every_format_can_say_its_unit_of_length(write, tmp_path):
    np.testing.assert_allclose(read_connectome(write(tmp_path)).lengths, LENGTHS)


def test_short_lengths_are_read_where_the_file_says_that_they_are_in_mm(tmp_path):
    names = [f"R{i}.{side}" for side in "LR" for i in range(10)]
    parts = {"weights": np.ones((20, 20)), "lengths": np.full((20, 20), 15.0), "labels": names}
    np.savez(tmp_path / "mouse.npz", units="mm", **parts)
    assert read_connectome(tmp_path / "mouse.npz").lengths.max() == 15.0
    np.savez(tmp_path / "cm.npz", **parts)
    assert read_connectome(tmp_path / "cm.npz", units="cm").lengths.max() == 150.0


def test_hemispheres_are_read_wherever_they_are_stored(tmp_path):
    names, sides = ["V1", "V2", "V3"], ["L", "R", ""]
    parts = {"weights": WEIGHTS, "lengths": LENGTHS}
    np.savez(tmp_path / "a.npz", labels=names, hemispheres=["left", "rh", ""], **parts)
    scipy.io.savemat(tmp_path / "b.mat", parts | {"labels": names, "hemisphere": np.array(["L", "R", ""], object)})
    connectome(WEIGHTS, LENGTHS, names, hemispheres=sides).to_netcdf(tmp_path / "c.nc", engine="scipy")
    for name in ("a.npz", "b.mat", "c.nc"):
        assert read_connectome(tmp_path / name)["hemisphere"].values.tolist() == sides, name
    np.savez(tmp_path / "fc.npz", fc=FC, labels=names, hemispheres=sides)
    fc_target(FC, names, hemispheres=sides).to_dataset().to_netcdf(tmp_path / "fc.nc", engine="h5netcdf")
    for name in ("fc.npz", "fc.nc"):
        assert read_fc(tmp_path / name)["hemisphere"].values.tolist() == sides, name
    signals = np.ones((9, 3))
    np.savez(tmp_path / "r.npz", signals=signals, fs=10.0, labels=names, hemispheres=sides)
    made = recording(signals, 10.0, names, hemispheres=sides)
    made.to_dataset(name="x").to_netcdf(tmp_path / "r.nc", engine="h5netcdf")
    for name in ("r.npz", "r.nc"):
        assert read_recording(tmp_path / name)["hemisphere"].values.tolist() == sides, name


def test_the_virtual_brains_prefixes_tell_the_side(tmp_path):
    tvb(tmp_path)
    (tmp_path / "hemispheres.txt").rename(tmp_path / "hemisphere.txt")
    (tmp_path / "centres.txt").write_text("lA1 1 2 3\nrA1 1 2 3\nlV2 1 2 3\n")
    (tmp_path / "readme.txt").write_bytes("Zürich".encode("latin-1"))
    assert read_connectome(tmp_path)["hemisphere"].values.tolist() == ["L", "R", "L"]
    (tmp_path / "hemisphere.txt").unlink()
    assert read_connectome(tmp_path)["hemisphere"].values.tolist() == ["L", "R", ""]


def test_a_readme_in_another_encoding_does_not_matter(tmp_path):
    path = tvb_zip(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("connectivity_3/readme.txt", "Zürich".encode("latin-1"))
    assert read_connectome(path).sizes["target"] == 3


def test_tables_of_nodes_may_have_numbers_beside_names(tmp_path):
    bids(tmp_path)
    table = "\n".join(["index\tname\themi", *(f"{i}\t{label}\tx" for i, label in enumerate(LABELS))])
    (tmp_path / "coord" / "desc-x_labels.tsv").write_text(table)
    assert read_connectome(tmp_path)["target"].values.tolist() == LABELS
    (tmp_path / "coord" / "desc-x_labels.tsv").write_text("Superior frontal L\nSuperior frontal R\nCuneus L")
    assert read_connectome(tmp_path)["target"].values.tolist()[0] == "Superior frontal L"


def test_bytes_are_text_in_utf8(tmp_path):
    names = ["INS.L", "INS.R", "Précunéus.L"]
    np.savez(tmp_path / "fc.npz", fc=FC, labels=np.array([name.encode() for name in names]))
    assert read_fc(tmp_path / "fc.npz")["region"].values.tolist() == names


def test_the_diagonal_of_connectivity_is_not_used(tmp_path):
    for value in (np.nan, np.inf, 1.0, 7.0):
        matrix = FC.copy()
        np.fill_diagonal(matrix, value)
        np.savez(tmp_path / "fc.npz", fc=matrix, labels=LABELS)
        np.testing.assert_array_equal(read_fc(tmp_path / "fc.npz"), FC)


def test_a_mask_of_bad_samples_needs_no_rate_in_the_file(tmp_path):
    marked = np.arange(50) // 10 == 2
    np.savez(tmp_path / "r.npz", signals=np.ones((50, 3)), labels=LABELS, bad=marked)
    np.testing.assert_array_equal(read_recording(tmp_path / "r.npz", fs=100.0)["good"], ~marked)


def test_connectivity_of_every_format(tmp_path):
    scipy.io.savemat(tmp_path / "fc.mat", {"FC": FC, "labels": np.array(LABELS, dtype=object)})
    fc_target(FC, LABELS).to_dataset(name="fc").to_netcdf(tmp_path / "fc.nc", engine="h5netcdf")
    with h5py.File(tmp_path / "fc.h5", "w") as file:
        file["fc"], file["labels"] = FC, LABELS
    for name in ("fc.mat", "fc.nc", "fc.h5"):
        fc = read_fc(tmp_path / name)
        np.testing.assert_array_equal(fc, FC)
        assert fc["region"].values.tolist() == LABELS


@pytest.fixture
def signals(rng):
    return rng.standard_normal((200, 3))


def test_recordings_of_every_format(tmp_path, signals):
    """With a bad segment from 0.5 to 0.8 s, written in every way in which people write it."""
    mne = pytest.importorskip("mne")
    time = np.arange(200) / 100
    marked = (time >= 0.5) & (time < 0.8)
    scipy.io.savemat(tmp_path / "r.mat", {"signals": signals, "fs": 100, "labels": LABELS, "bad": [[0.5, 0.8]]})
    np.savez(tmp_path / "r.npz", data=signals, sfreq=100.0, regions=LABELS, bad=marked)
    with h5py.File(tmp_path / "r.h5", "w") as file:
        file["signals"], file["fs"], file["labels"], file["bad"] = signals, 100.0, LABELS, [[0.5, 0.8]]
    made = recording(signals, 100.0, LABELS, bad=[(0.5, 0.8)])
    made.to_dataset(name="x").to_netcdf(tmp_path / "r.nc", engine="h5netcdf")
    in_ms = made.assign_coords(time=("time", 1000 * time, {"units": "ms"})).drop_vars("good")
    in_ms.to_dataset(name="x").assign(bad=("time", marked.astype("i1"))).to_netcdf(tmp_path / "ms.nc", engine="scipy")
    table = "\n".join("\t".join(map(repr, map(float, row))) for row in signals)
    (tmp_path / "sub-7_run-2_timeseries.tsv").write_text("\t".join(LABELS) + "\n" + table)
    (tmp_path / "sub-7_run-2_timeseries.json").write_text('{"SamplingFrequency": 100, "Units": "T"}')
    (tmp_path / "sub-7_run-2_events.tsv").write_text("onset\tduration\ttrial_type\n0.1\t0.1\tgo\n0.5\t0.3\tBAD_eye\n")
    with_time = "\n".join(",".join(map(repr, map(float, [t, *row]))) for t, row in zip(time, signals, strict=True))
    (tmp_path / "r.csv").write_text(",".join(["time", *LABELS]) + "\n" + with_time)
    raw = mne.io.RawArray(signals.T, mne.create_info(LABELS, 100.0, "misc"), verbose="error")
    raw.set_annotations(mne.Annotations([0.5, 1.0], [0.3, 0.2], ["BAD_eye", "go"]))
    raw.save(tmp_path / "r_raw.fif", fmt="double", verbose="error")
    files = ("r.mat", "r.npz", "r.h5", "r.nc", "ms.nc", "sub-7_run-2_timeseries.tsv", "r.csv", "r_raw.fif")
    for name in files:
        r = read_recording(tmp_path / name)
        np.testing.assert_allclose(r, signals, rtol=0 if name != "r_raw.fif" else 1e-15, err_msg=name)
        assert r.attrs["fs"] == 100.0
        assert r["region"].values.tolist() == LABELS
        good = np.ones(200, bool) if name == "r.csv" else ~marked
        np.testing.assert_array_equal(r["good"], good, err_msg=name)
    bids = read_recording(tmp_path / "sub-7_run-2_timeseries.tsv")
    assert (bids.attrs["subject"], bids.attrs["run"], bids.attrs["units"]) == ("7", "2", "T")


def test_sensors_are_refused_with_what_to_do(tmp_path, signals):
    mne = pytest.importorskip("mne")
    raw = mne.io.RawArray(signals.T, mne.create_info(3, 100.0, "mag"), verbose="error")
    raw.save(tmp_path / "r_raw.fif", verbose="error")
    with pytest.raises(InputError, match=r"holds sensors .*mne.beamformer"):
        read_recording(tmp_path / "r_raw.fif")
    for names in (
        ["MEG0111", "MEG0112", "MEG 0113", "MEG0121"],
        ["Fp1", "Fz", "Cz", "O2"],
        ["MLC11", "MRF12", "MZO01", "MLT53"],
        ["MEG0121", "EOG061"],
        ["Fp1", "Fp2", "F3", "Cz", "M1", "M2", "VEOG"],
        [f"A{i}" for i in range(1, 33)],
    ):
        with pytest.raises(InputError, match="these are sensors, not regions"):
            recording(np.zeros((9, len(names))), 100.0, names)
    for names in (["A1", "A2", "A3", "A4"], ["M1", "S1", "V1", "A1", "V2"], ["C1", "C2"]):
        assert recording(np.zeros((9, len(names))), 100.0, names).sizes["region"] == len(names)


def test_a_folder_of_subjects(tmp_path, rng):
    for subject in ("01", "02"):
        for run in ("1", "2"):
            folder = tmp_path / f"sub-{subject}"
            folder.mkdir(exist_ok=True)
            stem = folder / f"sub-{subject}_run-{run}"
            rows = "\n".join("\t".join(map(str, row)) for row in rng.standard_normal((30, 3)))
            stem.with_name(stem.name + "_timeseries.tsv").write_text("\t".join(LABELS) + "\n" + rows)
            stem.with_name(stem.name + "_timeseries.json").write_text('{"SamplingFrequency": 50}')
            stem.with_name(stem.name + "_events.tsv").write_text("onset\tduration\ttrial_type\n")
    found = read_recordings(tmp_path)
    assert [(r.attrs["subject"], r.attrs["run"]) for r in found] == [("01", "1"), ("01", "2"), ("02", "1"), ("02", "2")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no recording"):
        read_recordings(tmp_path / "empty")
    (tmp_path / "empty" / "out_ts.tsv").symlink_to(tmp_path / "sub-01" / "sub-01_run-1_timeseries.tsv")
    with pytest.raises(InputError, match="is a link to a file outside"):
        read_recordings(tmp_path / "empty")


@pytest.mark.parametrize(
    ("names", "whose"),
    [
        (["sub-01/run-1.npz", "sub-01/run-2.npz", "sub-02/run-1.npz"], [("01", "1"), ("01", "2"), ("02", "1")]),
        (["s/sub-01/ses-a/run-1.npz", "s/sub-01/ses-b/x.npz"], [("01", "ses-a_run-1"), ("01", "ses-b")]),
        (["ann/run-1.npz", "ann/run-2.npz", "bob_run-1.npz"], [("ann", "1"), ("ann", "2"), ("bob", "1")]),
        (["sub-01.npz", ".ipynb_checkpoints/sub-01-checkpoint.npz", ".sub-02.npz"], [("01", "")]),
    ],
)
def test_whose_a_recording_is_stands_in_its_path(names, whose, tmp_path):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        np.savez(tmp_path / name, signals=np.ones((9, 3)), fs=10.0, labels=LABELS)
    found = read_recordings(tmp_path)
    assert [(r.attrs["subject"], r.attrs["run"]) for r in found] == whose
    assert [r.attrs["provenance"] for r in found] == [name for name in names if not name.startswith(".")]


def test_the_folder_of_one_subject_is_that_subject(tmp_path):
    folder = tmp_path / "sub-07"
    folder.mkdir()
    for run in (1, 2):
        np.savez(folder / f"run-{run}.npz", signals=np.ones((9, 3)), fs=10.0, labels=LABELS)
    assert [r.attrs["subject"] for r in read_recordings(folder)] == ["07", "07"]


@pytest.mark.parametrize(
    "name", ["sub-01_task-rest_atlas-AAL2_timeseries", "sub-01_task-rest_timeseries", "sub-01_task-rest_meg"]
)
def test_events_belong_to_what_is_derived_from_their_recording(name, tmp_path):
    np.savez(tmp_path / f"{name}.npz", signals=np.ones((100, 3)), fs=10.0, labels=LABELS)
    for task, onset in (("rest", 2), ("faces", 5)):
        events = f"onset\tduration\ttrial_type\n{onset}\t1\tBAD\n"
        (tmp_path / f"sub-01_task-{task}_events.tsv").write_text(events)
    good = read_recording(tmp_path / f"{name}.npz")["good"].values
    assert np.flatnonzero(~good).tolist() == list(range(20, 30))


def test_pieces_keep_every_good_sample_and_no_other(rng):
    signals = rng.standard_normal((1000, 2))
    bad = [(0.0, 0.5), (3.0, 4.0), (4.2, 5.0), (9.99, 12.0)]
    r = recording(signals, 100.0, LABELS[:2], bad=bad)
    pieces, left_out = good_pieces(r, 0.15)
    np.testing.assert_array_equal(np.concatenate(pieces), signals[r["good"].values])
    assert left_out == pytest.approx(0.5 + 1.0 + 0.8 + 0.01)
    pieces, left_out = good_pieces(r, 1.0)
    assert [len(p) for p in pieces] == [250, 499]
    with pytest.raises(InputError, match=r"as long as 6 s; the longest has 4\.99 s"):
        good_pieces(r, 6.0)


def test_bad_segments_may_hold_anything():
    signals = np.zeros((100, 2))
    signals[20:30] = np.nan
    assert recording(signals, 10.0, LABELS[:2], bad=[(2.0, 3.0)])["good"].values.sum() == 90
    with pytest.raises(InputError, match=r"not finite at 2\.9 s"):
        recording(signals, 10.0, LABELS[:2], bad=[(2.0, 2.9)])


def test_groups(rng):
    fcs = {}
    for subject in "abcd":
        half = rng.uniform(-1, 1, (3, 3))
        fcs[subject] = fc_target(half + half.T, LABELS)
    stack = np.array([fc.values for fc in fcs.values()])
    np.testing.assert_allclose(group_average(fcs), stack.mean(0))
    for i, (subject, others, own) in enumerate(leave_one_out(fcs)):
        assert subject == "abcd"[i]
        np.testing.assert_allclose(others, np.delete(stack, i, 0).mean(0))
        np.testing.assert_array_equal(own, stack[i])
    turned = fcs | {"e": fcs["a"].isel(region=[1, 0, 2], other=[1, 0, 2])}
    with pytest.raises(InputError, match="regions of subject e are not those of a"):
        group_average(turned)
    with pytest.raises(InputError, match="at least two; got 1"):
        list(leave_one_out({"a": fcs["a"]}))


@pytest.mark.parametrize("first", [0.0, 2.0, 100.0])
def test_events_count_from_the_first_sample(first, tmp_path):
    """BIDS: onset is measured from the first data point that is stored."""
    rows = "\n".join(f"{first + i / 100:.2f},{i % 7},{i % 5}" for i in range(1000))
    (tmp_path / "sub-1_timeseries.csv").write_text("time,A.L,B.L\n" + rows)
    (tmp_path / "sub-1_events.tsv").write_text("onset\tduration\ttrial_type\n5\t2\tbad_x\n")
    good = read_recording(tmp_path / "sub-1_timeseries.csv")["good"].values
    assert np.flatnonzero(~good)[[0, -1]].tolist() == [500, 699]


def test_good_and_bad_marks_both_count(tmp_path):
    good, bad = np.ones(100, bool), np.zeros(100, bool)
    good[:20], bad[50:60] = False, True
    signals = ("time", "region"), np.arange(200.0).reshape(100, 2)
    coords = {"time": np.arange(100) / 10, "region": ["A.L", "B.L"]}
    xr.Dataset({"signals": signals, "good": ("time", good), "bad": ("time", bad)}, coords).to_netcdf(tmp_path / "r.nc")
    np.testing.assert_array_equal(read_recording(tmp_path / "r.nc")["good"], good & ~bad)


def test_what_matlab_keeps_of_nothing_is_nothing(tmp_path):
    """Version 7.3 stores the shape of an empty array, and says so in an attribute."""
    with h5py.File(tmp_path / "r.mat", "w") as file:
        file["signals"], file["fs"] = np.random.default_rng(0).standard_normal((2, 500)), 100.0
        file["labels"] = np.array([b"A.L", b"midline"])
        for name, kind in (("bad", b"double"), ("subject", b"char"), ("#refs#/a", b"char")):
            file[name] = np.zeros(2, np.uint64)
            file[name].attrs.update({"MATLAB_empty": np.uint8(1), "MATLAB_class": np.bytes_(kind)})
        file["#refs#/b"] = np.array([[ord("L")]], np.uint16)
        file["hemispheres"] = np.array([[file["#refs#/b"].ref], [file["#refs#/a"].ref]], h5py.ref_dtype)
    one = read_recording(tmp_path / "r.mat")
    assert one["hemisphere"].values.tolist() == ["L", ""]
    assert bool(one["good"].all())
    assert one.attrs["subject"] == ""


def test_a_recording_that_was_split_is_one(tmp_path):
    """MNE goes on in the files that it was split over, whose names may come before."""
    mne = pytest.importorskip("mne", reason="the extra sensors is not installed")
    signals = np.random.default_rng(0).standard_normal((10, 150_000))
    raw = mne.io.RawArray(signals, mne.create_info([f"R{i}.L" for i in range(10)], 100.0, "misc"), verbose="error")
    for naming, name in (("bids", "sub-01_task-rest_meg.fif"), ("neuromag", "sub-01_raw.fif")):
        folder = tmp_path / naming
        folder.mkdir()
        raw.save(folder / name, fmt="double", split_size="5MB", split_naming=naming, verbose="error")
        assert len(list(folder.glob("*.fif"))) > 1
        assert [one.sizes["time"] for one in read_recordings(folder)] == [150_000]

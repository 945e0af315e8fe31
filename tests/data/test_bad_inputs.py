"""Inputs that cannot be used, each with words of the sentence that it gets: no traceback, no repair in silence."""

import json
import re
import struct
import warnings
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse

from fitting import InputError
from fitting.data import (
    connectome,
    fc_target,
    match,
    read_connectome,
    read_fc,
    read_maps,
    read_mixing,
    read_recording,
    read_recordings,
    recording,
)

LABELS = ["INS.L", "INS.R", "CUN.L"]
FC = np.array([[0, 0.1, 0.2], [0.1, 0, 0.3], [0.2, 0.3, 0]])
LENGTHS = 100 * FC
SIGNALS = np.random.default_rng(0).standard_normal((50, 3))


def changed(matrix, value, at=(0, 1)):
    matrix = np.array(matrix, float)
    matrix[at] = value
    return matrix


def npz(**arrays):
    def make(folder):
        np.savez(folder / "x.npz", **arrays)
        return folder / "x.npz"

    return make


def text(name, content, **beside):
    def make(folder):
        (folder / name).write_text(content)
        for other, more in beside.items():
            (folder / other.replace("__", ".")).write_text(more)
        return folder / name

    return make


def cut(make, share=0.6):
    """The file that ``make`` writes, cut off."""

    def damaged(folder):
        path = make(folder)
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])
        return path

    return damaged


def flipped(make):
    """The file that ``make`` writes, with bytes overwritten in its middle."""

    def damaged(folder):
        path = make(folder)
        data = bytearray(path.read_bytes())
        middle = len(data) // 2
        data[middle : middle + 64] = bytes(255 - b for b in data[middle : middle + 64])
        path.write_bytes(bytes(data))
        return path

    return damaged


def compressed(folder):
    np.savez_compressed(folder / "x.npz", fc=FC, labels=LABELS)
    return folder / "x.npz"


def mat(folder, **more):
    scipy.io.savemat(folder / "x.mat", {"fc": FC, "labels": np.array(LABELS, dtype=object)}, do_compression=True)
    return folder / "x.mat"


def hdf5(folder):
    with h5py.File(folder / "x.h5", "w") as file:
        file["fc"], file["labels"] = FC, LABELS
    return folder / "x.h5"


def netcdf(change=lambda r: r, engine="h5netcdf"):
    def make(folder):
        change(recording(SIGNALS, 100.0, LABELS)).to_dataset(name="x").to_netcdf(folder / "x.nc", engine=engine)
        return folder / "x.nc"

    return make


def archive(**files):
    def make(folder):
        with zipfile.ZipFile(folder / "x.zip", "w") as out:
            for name, content in files.items():
                out.writestr(name.replace("__", "/").replace("DOTS", "..") + ".txt", content)
        return folder / "x.zip"

    return make


def huge_npz(folder):
    """A header that announces 10 GB before eight bytes."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1250000000,), }".ljust(117) + b"\n"
    with zipfile.ZipFile(folder / "x.npz", "w") as out:
        out.writestr("fc.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(8))
        out.writestr("labels.npy", b"")
    return folder / "x.npz"


def huge_hdf5(folder):
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("fc", (36_000, 36_000), "f8", chunks=(100, 100))
        file["labels"] = LABELS
    return folder / "x.h5"


def empty_hdf5(folder):
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("fc", (3_000, 3_000), "f8", chunks=(100, 100))
        file["labels"] = LABELS
    return folder / "x.h5"


def huge_netcdf(folder):
    with h5py.File(folder / "x.nc", "w") as file:
        file.create_dataset("x", (1_250_000_000, 1), "f8", chunks=(1_000_000, 1))
    return folder / "x.nc"


def elsewhere_hdf5(folder):
    """A matrix whose numbers lie in another file, which must not be opened."""
    FC.tofile(folder / "secret")
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("fc", (3, 3), "f8", external=[(str(folder / "secret"), 0, h5py.h5f.UNLIMITED)])
        file["labels"] = LABELS
    return folder / "x.h5"


def huge_mat(folder):
    """A MATLAB 4 header that announces 40 000 x 40 000."""
    (folder / "x.mat").write_bytes(struct.pack("<5i", 0, 40_000, 40_000, 0, 3) + b"fc\0" + bytes(8))
    return folder / "x.mat"


def rows(matrix, names=LABELS, columns=None, first="region"):
    lines = [",".join([first, *(columns or names)])]
    return "\n".join(lines + [",".join([n, *map(str, r)]) for n, r in zip(names, matrix, strict=True)]) + "\n"


def bids(**changes):
    """A BIDS folder with a fault: files by name, slashes written as two underscores."""

    def make(folder):
        matrix = "\n".join("\t".join(map(str, row)) for row in LENGTHS)
        files = {
            "net/a_weights.tsv": matrix,
            "net/a_distances.tsv": matrix,
            "coord/a_labels.tsv": "\n".join(LABELS),
        } | {name.replace("__", "/").replace("_DOT_", "."): content for name, content in changes.items()}
        for name, content in files.items():
            if content is not None:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(content)
        return folder

    return make


def two_subjects(folder):
    with h5py.File(folder / "x.h5", "w") as file:
        for subject in ("sub01", "sub02"):
            file[f"{subject}/fc"], file[f"{subject}/labels"] = FC, LABELS
    return folder / "x.h5"


def labels_elsewhere(folder):
    with h5py.File(folder / "x.h5", "w") as file:
        file["sub01/fc"], file["sub02/labels"] = FC, LABELS
    return folder / "x.h5"


def of_matlab(**values):
    def make(folder):
        scipy.io.savemat(folder / "x.mat", values)
        return folder / "x.mat"

    return make


def doubled(folder):
    """An NPZ file in which a name occurs twice, as zipfile allows."""
    with warnings.catch_warnings(), zipfile.ZipFile(folder / "x.npz", "w") as out:
        warnings.simplefilter("ignore")
        for value in (FC, FC.T):
            with out.open("fc.npy", "w") as file:
                np.save(file, value)
    return folder / "x.npz"


def human(**more):
    """An NPZ file of 20 regions in both hemispheres, its lengths in cm."""
    names = [f"R{i}.{side}" for side in "LR" for i in range(10)]
    return npz(weights=np.ones((20, 20)), lengths=np.full((20, 20), 15.0), labels=names, **more)


def recordings(*names):
    """A folder of the same recording under several names; events tables without a header where that is their name."""

    def make(folder):
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("events.tsv"):
                (folder / name).write_text("onset\tduration\ttrial_type\n0.1\t0.1\tbad\n")
            else:
                np.savez(folder / name, signals=SIGNALS, fs=100.0, labels=LABELS)
        return folder

    return make


def sidecar(**fields):
    """A BIDS connectome whose weights have these fields beside them."""
    return bids(net__a_weights_DOT_json=json.dumps(fields))


TSV = "\t".join(LABELS) + "\n" + "\n".join("1\t2\t3" for _ in range(20))
CENTRES = "INS.L 1 2 3\nINS.R 1 2 3\nCUN.L 1 2 3"
MATRIX = "0 1 2\n1 0 3\n2 3 0"

#: Reader, what it is given, words of its sentence.
BAD = {
    # Files that are not there, not readable, or damaged
    "absent": (read_fc, lambda f: f / "x.csv", "there is no file"),
    "a folder": (read_fc, lambda f: f, "is a folder"),
    "another format": (read_fc, text("x.doc", "x"), "cannot read an FC matrix from .doc"),
    "a sound": (read_recording, text("x.wav", "x"), "cannot read a recording from .wav"),
    "empty": (read_fc, text("x.csv", ""), "is empty"),
    "binary text": (
        read_fc,
        lambda f: (f / "x.csv").write_bytes(bytes(range(128, 256))) and f / "x.csv",
        "not a text file",
    ),
    "cut NPZ": (read_fc, cut(compressed), "not a readable NPZ"),
    "corrupt NPZ": (read_fc, flipped(compressed), "x.npz"),
    "cut MAT": (read_fc, cut(mat), "not a readable MAT"),
    "corrupt MAT": (read_fc, flipped(mat), "not a readable MAT"),
    "cut HDF5": (read_fc, cut(hdf5), "not a readable H5"),
    "cut netCDF 4": (read_recording, cut(netcdf()), "not a readable netCDF"),
    "cut netCDF 3": (
        read_recording,
        cut(netcdf(lambda r: r.drop_vars(["good", "hemisphere"]), "scipy"), 0.1),
        "not a readable",
    ),
    "cut ZIP": (read_connectome, cut(archive(weights=MATRIX, centres=CENTRES)), "not a readable ZIP"),
    "text as netCDF": (read_recording, text("x.nc", "not a netCDF file"), "not a readable netCDF"),
    "text as FIF": (read_recording, text("x_raw.fif", "not a FIF file"), "not a readable raw FIF"),
    # Larger than they can be, or reaching out
    "10 GB in an NPZ header": (read_fc, huge_npz, "announced with 10,000,000,000 bytes, but 8 are there"),
    "10 GB in an HDF5 header": (read_fc, huge_hdf5, "would take 10 GB; at most 4 GB are read"),
    "nothing behind an HDF5 header": (read_fc, empty_hdf5, "announces (3000, 3000) values but holds none"),
    "10 GB in a netCDF header": (read_recording, huge_netcdf, "would take 9 GB"),
    "12 GB in a MAT header": (read_fc, huge_mat, "would take 12 GB"),
    "a pickle in an NPZ": (read_fc, npz(fc=np.array([{}], dtype=object), labels=LABELS), "holds pickled objects"),
    "numbers in another file": (read_fc, elsewhere_hdf5, "lies in another file"),
    "a ZIP that climbs": (read_connectome, archive(DOTS__weights=MATRIX), "names a path outside itself"),
    "a BIDS sidecar that climbs": (
        read_connectome,
        bids(net__a_weights_DOT_json=json.dumps({"CoordsRows": "../../../../etc/x.json"})),
        "outside the data set",
    ),
    # Shapes
    "not square": (read_fc, text("x.csv", rows(FC[:, :2], LABELS, LABELS[:2])), "not square"),
    "ragged": (read_fc, text("x.csv", rows(FC).replace(",0.2", "", 1)), "has 2 values but there are 3 columns"),
    "weights and lengths differ": (
        read_connectome,
        npz(weights=FC, lengths=FC[:2, :2], labels=LABELS),
        "weights are (3, 3) but lengths are (2, 2)",
    ),
    "three dimensions": (read_recording, npz(signals=np.zeros((4, 3, 2)), fs=1.0, labels=LABELS), "two dimensions"),
    "turned": (read_recording, npz(signals=SIGNALS.T, fs=1.0, labels=LABELS), "its axes are turned"),
    "text for numbers": (read_fc, text("x.csv", rows(FC).replace("0.3", "n/a")), "'n/a' in row INS.R, column CUN.L"),
    "complex": (read_recording, npz(signals=SIGNALS * 1j, fs=1.0, labels=LABELS), "real numbers"),
    "four coordinates": (
        read_connectome,
        archive(weights=MATRIX, tract_lengths=MATRIX, centres=CENTRES.replace("3", "3 4")),
        "a label and three coordinates",
    ),
    "a missing part": (
        read_connectome,
        archive(weights=MATRIX, centres=CENTRES),
        "lacks lengths; it has centres: lengths='centres' takes",
    ),
    "one matrix": (read_connectome, text("weights.csv", rows(FC)), "a connectome needs weights and lengths"),
    "no distances": (read_connectome, bids(net__a_distances_DOT_tsv=None), "has no a_distances.tsv beside it"),
    "two connectomes": (read_connectome, bids(net__b_weights_DOT_tsv="0"), "holds 2 connectomes"),
    # Values
    "NaN": (read_fc, text("x.csv", rows(changed(FC, np.nan))), "not finite, the first at row 0, column 1"),
    "infinite": (
        read_recording,
        npz(signals=changed(SIGNALS, np.inf), fs=10.0, labels=LABELS),
        "not finite at 0 s in INS.R",
    ),
    "skew": (read_fc, text("x.csv", rows(changed(FC, 0.5))), "not symmetric; INS.L-INS.R is 0.5 one way"),
    "negative length": (
        read_connectome,
        npz(weights=FC, lengths=changed(LENGTHS, -1), labels=LABELS),
        "lengths must not be negative; INS.L from INS.R is -1",
    ),
    "zero length": (
        read_connectome,
        npz(weights=FC, lengths=changed(LENGTHS, 0), labels=LABELS),
        "has a weight but a length of 0 mm",
    ),
    "negative weight": (
        read_connectome,
        npz(weights=changed(FC, -1), lengths=LENGTHS, labels=LABELS),
        "weights must not be negative",
    ),
    "no connection": (read_connectome, npz(weights=0 * FC, lengths=LENGTHS, labels=LABELS), "all weights are zero"),
    # Labels
    "no labels": (read_fc, npz(fc=FC), "one of labels, region_labels, regions, names is needed"),
    "no first row": (read_fc, text("x.csv", "0,0.1\n0.1,0\n"), "has no labels"),
    "too few labels": (read_fc, npz(fc=FC, labels=LABELS[:2]), "2 labels for 3 regions"),
    "an empty label": (read_fc, npz(fc=FC, labels=["A", "", "B"]), "region 1 (from 0) has no label"),
    "twice": (read_fc, text("x.csv", rows(FC, ["INS.L", "INS.L", "CUN.L"])), "occur twice: INS.L"),
    "rows unlike columns": (read_fc, text("x.csv", rows(FC, LABELS, LABELS[::-1])), "same labels in the same order"),
    "unlabelled netCDF": (read_recording, netcdf(lambda r: r.drop_vars(["region", "hemisphere"])), "has no labels"),
    "no BIDS labels": (read_connectome, bids(coord__a_labels_DOT_tsv=None), "has no labels"),
    "hemispheres swapped": (
        read_connectome,
        archive(weights=MATRIX, tract_lengths=MATRIX, centres=CENTRES, hemispheres="1 0 0"),
        "INS.L is said to lie in hemisphere 'R'",
    ),
    "hemispheres of another kind": (
        read_connectome,
        archive(weights=MATRIX, tract_lengths=MATRIX, centres=CENTRES, hemispheres="left right west"),
        "must hold 1 for right and 0 for left, or L and R; got 'west'",
    ),
    "which of two": (read_fc, npz(fc=FC, matrix=FC, labels=LABELS), "which of them is meant cannot be told"),
    "which of two mixing matrices": (
        read_mixing,
        npz(mixing=FC, resolution=FC, labels=LABELS),
        "holds mixing and resolution; which of them is meant cannot be told",
    ),
    "which of two lists of maps' regions": (
        read_maps,
        npz(maps=FC, map_names=["a", "b", "c"], labels=LABELS, regions=LABELS[::-1]),
        "holds labels and regions; which of them is meant cannot be told",
    ),
    "sensors": (
        read_recording,
        text("x.csv", "time,MEG0111,MEG0112,MEG0113,MEG0121\n0,1,2,3,4\n1,1,2,3,4\n"),
        "these are sensors, not regions",
    ),
    # Time and units
    "lengths in m": (read_connectome, npz(weights=FC, lengths=LENGTHS / 1000, labels=LABELS), "would be 0.03 mm"),
    "lengths in an unknown unit": (
        read_connectome,
        bids(net__a_distances_DOT_json='{"Units": "furlong"}'),
        "unknown unit 'furlong'",
    ),
    "time in an unknown unit": (
        read_recording,
        netcdf(lambda r: r.assign_coords(time=("time", r.time.values, {"units": "fortnights"}))),
        "unknown unit of time 'fortnights'",
    ),
    "time backwards": (read_recording, netcdf(lambda r: r.isel(time=slice(None, None, -1))), "time must increase"),
    "time with a gap": (
        read_recording,
        netcdf(lambda r: r.assign_coords(time=np.r_[0:25, 30:55] / 100)),
        "must be evenly spaced",
    ),
    "time without numbers": (read_recording, netcdf(lambda r: r.drop_vars(["time", "good"])), "no time coordinate"),
    "a matrix": (
        read_recording,
        text("x.csv", "region,A.L,A.R\nA.L,0,0.1\nA.R,0.1,0\n"),
        "has the same names along both sides: it seems to be a matrix of regions",
    ),
    "no rate": (read_recording, npz(signals=SIGNALS, labels=LABELS), "does not say its sampling rate"),
    "no rate in a table": (read_recording, text("x.tsv", TSV), "does not say its sampling rate"),
    "two rates": (read_recording, npz(signals=SIGNALS, fs=[1.0, 2.0], labels=LABELS), "must be one number of Hz"),
    "a rate of zero": (read_recording, npz(signals=SIGNALS, fs=0.0, labels=LABELS), "positive number of Hz"),
    "a rate in words": (
        read_recording,
        text("x.tsv", TSV, x__json='{"SamplingFrequency": "fast"}'),
        "must be a number of Hz; got 'fast'",
    ),
    "a sidecar that is a list": (read_recording, text("x.tsv", TSV, x__json="[1]"), "must hold one JSON object"),
    "a broken sidecar": (read_recording, text("x.tsv", TSV, x__json="{"), "not a readable JSON file"),
    "a bad segment outside": (
        read_recording,
        npz(signals=SIGNALS, fs=10.0, labels=LABELS, bad=[[7.0, 8.0]]),
        "from 7 to 8 s is outside the recording, 0 to 4.9 s",
    ),
    "a bad segment backwards": (
        read_recording,
        npz(signals=SIGNALS, fs=10.0, labels=LABELS, bad=[[2.0, 1.0]]),
        "ends after it begins; got 2 to 1 s",
    ),
    # What could be mixed up
    "two subjects in one HDF5 file": (
        read_fc,
        two_subjects,
        "holds sub01/fc and sub02/fc; which is meant cannot be told",
    ),
    "labels in another group": (read_fc, labels_elsewhere, "sub01/fc and sub02/labels lie in different groups"),
    "two pointed tables that differ": (
        read_connectome,
        bids(
            net__a_weights_DOT_json=json.dumps(
                {"CoordsRows": "../coord/a_labels", "CoordsColumns": "../coord/b_labels"}
            ),
            coord__b_labels_DOT_tsv="\n".join(LABELS[::-1]),
        ),
        "CoordsRows and CoordsColumns must name the same labels in the same order",
    ),
    "a pointer to nothing": (
        read_connectome,
        sidecar(CoordsRows="../coord/other_labels.json"),
        "CoordsRows points to ../coord/other_labels.json, but there is no other_labels.tsv",
    ),
    "two tables of labels": (
        read_connectome,
        bids(coord__b_labels_DOT_tsv="\n".join(LABELS[::-1])),
        "no CoordsRows beside it that tell which of a_labels.tsv, b_labels.tsv",
    ),
    "numbered labels": (
        read_connectome,
        bids(coord__a_labels_DOT_tsv="1\tINS.L\n2\tINS.R\n3\tCUN.L"),
        "does not tell which column holds the labels",
    ),
    "a pointer that is a number": (
        read_connectome,
        sidecar(CoordsRows=5),
        "CoordsRows must name files of labels; got 5",
    ),
    "a pointer to the root": (read_connectome, sidecar(CoordsRows="/"), "a_weights.json"),
    "a pointer that is no path": (read_connectome, sidecar(CoordsRows="a\x00b"), "which is not a path"),
    "an NPZ of two arrays of one name": (read_fc, doubled, "holds two arrays called fc"),
    "hemispheres against labels": (
        read_fc,
        npz(fc=FC, labels=LABELS, hemispheres=["R", "L", "L"]),
        "INS.L is said to lie in hemisphere 'R'",
    ),
    "hemispheres against labels of a recording": (
        read_recording,
        npz(signals=SIGNALS, fs=1.0, labels=LABELS, hemisphere=[True, False, False]),
        "INS.L is said to lie in hemisphere 'R'",
    ),
    "hemispheres against The Virtual Brain's prefixes": (
        read_connectome,
        archive(
            weights=MATRIX,
            tract_lengths=MATRIX,
            centres="lA1 1 2 3\nrA1 1 2 3\nlV1 1 2 3",
            hemisphere="1 0 0",
        ),
        "lA1 is said to lie in hemisphere 'R'",
    ),
    "another atlas's labels": (
        lambda p: read_fc(p, atlas="Desikan-Killiany"),
        npz(fc=FC, labels=LABELS),
        "are those of AAL, not of Desikan-Killiany",
    ),
    "a sibling atlas's labels": (
        lambda p: read_fc(p, atlas="AAL2"),
        npz(fc=FC, labels=["SFGdor.L", "MFG.L", "INS.L"]),
        "are those of AAL, not of AAL2",
    ),
    "a series and another file": (
        read_recordings,
        recordings("sub-1_timeseries.npz", "sub-2.npz"),
        "holds sub-1_timeseries.npz and sub-2.npz; whether all of them are recordings cannot be told",
    ),
    "two subjects in one path": (
        read_recordings,
        recordings("sub-1/sub-2_run-1.npz"),
        "the path says both sub-1 and sub-2",
    ),
    "events of one of several runs": (
        read_recordings,
        recordings("sub-1_timeseries.npz", "sub-1_run-2_events.tsv"),
        "is about run-2; whether sub-1_timeseries.npz is that recording cannot be told",
    ),
    # What is not meant by the numbers
    "lengths in cm": (read_connectome, human(), "would be 15 mm; are the lengths in cm? Say so (data.length_units=cm"),
    "a unit that is a number": (
        read_connectome,
        bids(net__a_distances_DOT_json='{"units": 5}'),
        "a_distances.json: units must be a text; got 5",
    ),
    "two units": (
        lambda p: read_connectome(p, units="m"),
        npz(weights=FC, lengths=LENGTHS, labels=LABELS, units="cm"),
        "x.npz: units is 'cm', not 'm'",
    ),
    "covariances": (
        read_fc,
        text("x.csv", rows(2 * FC * 10)),
        "INS.R-CUN.L is 6, which is no correlation; turn covariances into correlations",
    ),
    "a constant matrix": (
        read_fc,
        npz(fc=np.full((3, 3), 0.5), labels=LABELS),
        "all pairs of regions have the value 0.5",
    ),
    "a region without any connectivity": (
        read_fc,
        npz(fc=FC * np.outer([1, 0, 1], [1, 0, 1]), labels=LABELS),
        "the connectivity of INS.R is zero with every other region",
    ),
    "small and skew": (read_fc, npz(fc=changed(1e-7 * FC, 0.0), labels=LABELS), "not symmetric"),
    "a number of Python's": (read_fc, text("x.csv", rows(FC).replace("0.3", "1_0")), "'1_0' in row INS.R"),
    "semicolons": (
        read_fc,
        text("x.csv", rows(FC).replace(",", ";").replace(".", ",")),
        "separates its columns by semicolons, as spreadsheets do where numbers have decimal commas",
    ),
    "decimal commas": (
        read_fc,
        text("x.tsv", rows(FC).replace(",", "\t").replace("0.3", "0,3")),
        "write decimal points",
    ),
    "a mask of another length": (
        read_recording,
        npz(signals=SIGNALS, fs=10.0, labels=LABELS, bad=np.zeros(49, bool)),
        "one value per sample, true where it is bad; got bool of shape (49,) for 50 samples",
    ),
    "a rate with its unit": (
        lambda p: read_recording(p, fs="100 Hz"),
        npz(signals=SIGNALS, labels=LABELS),
        "must be a number of Hz (data.fs=RATE); got '100 Hz'",
    ),
    "no sample": (
        read_recording,
        npz(signals=np.zeros((0, 3)), fs=1.0, labels=LABELS, bad=[[0, 1]]),
        "the recording is empty: 0 samples of 3 signals",
    ),
    "no pair": (read_fc, npz(fc=np.zeros((0, 0)), labels=np.array([], str)), "the matrix is empty"),
    "no region": (
        read_connectome,
        npz(weights=np.zeros((0, 0)), lengths=np.zeros((0, 0)), labels=np.array([], str)),
        "the matrix is empty",
    ),
    # Arrays of MATLAB that are not plain
    "a struct": (read_fc, of_matlab(fc={"z": FC}, labels=LABELS), "x.mat: fc is a struct or an object"),
    "a sparse matrix": (
        read_fc,
        of_matlab(fc=scipy.sparse.csc_matrix(FC), labels=LABELS),
        "x.mat: fc is a sparse matrix",
    ),
    "a nested cell": (
        read_fc,
        of_matlab(fc=FC, labels=np.array([np.array(["a"], object), "b", "c"], object)),
        "x.mat: labels is a cell array that does not hold one text per cell",
    ),
    "labels in another encoding": (
        read_fc,
        npz(fc=FC, labels=np.array([b"\xe9", b"b", b"c"])),
        "not a readable NPZ",
    ),
    "sensors beside other channels": (
        read_recording,
        npz(signals=SIGNALS, fs=1.0, labels=["MEG0121", "EOG061", "STI101"]),
        "these are sensors, not regions (MEG0121, EOG061, STI101, ...)",
    ),
    "unknown atlas": (lambda p: read_fc(p, atlas="Brodmann"), npz(fc=FC, labels=LABELS), "unknown atlas 'Brodmann'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_inputs_get_a_sentence(name, tmp_path, unchecked):
    reader, make, words = BAD[name]
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        reader(make(tmp_path))
    assert "\n" not in str(caught.value)


def test_another_rate_than_the_files_is_refused(tmp_path):
    path = npz(signals=SIGNALS, fs=100.0, labels=LABELS)(tmp_path)
    assert read_recording(path, fs=100.0).attrs["fs"] == 100.0
    with pytest.raises(InputError, match="sampled at 100 Hz, not at 200 Hz"):
        read_recording(path, fs=200.0)


def test_there_are_at_least_forty():
    assert len(BAD) >= 40


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: connectome(FC.astype(str), FC, LABELS), "numbers are needed"),
        (lambda: fc_target(FC[:2], LABELS), "must be square"),
        (lambda: recording(np.zeros(5), 100.0, LABELS), "two dimensions"),
        (
            lambda: match(["INS.L", "CUN.R"], fc_target(FC, LABELS)),
            "not in the data: CUN.R. Unknown region labels in the data: INS.R, CUN.L",
        ),
        (
            lambda: match(["INS.R", "CUN.R"], fc_target(FC, LABELS, provenance="sub-1.npz")),
            "sub-1.npz: 1 region(s) of the connectome are not in the data: CUN.R",
        ),
        (
            lambda: match(["x1", "x2"], fc_target(FC, ["x1", "x2", "x3"], atlas="Desikan-Killiany"), "AAL2"),
            "regions are those of AAL2, the data's those of Desikan-Killiany",
        ),
        (lambda: recording(np.zeros((3, 0)), 1.0, []), "3 samples of 0 signals"),
        (lambda: connectome(FC, LENGTHS, LABELS, centres=FC[:, :2]), "three per region; got shape (3, 2)"),
        (lambda: connectome(FC, LENGTHS, LABELS, hemispheres=["left", "R", "L"]), "must be 'L', 'R' or ''; got 'left'"),
        (lambda: connectome(FC, LENGTHS, LABELS, hemispheres=["L", "R"]), "2 hemispheres for 3 regions"),
    ],
)
def test_bad_values_get_a_sentence(call, words, unchecked):
    with pytest.raises(InputError, match=re.escape(words)):
        call()


def test_a_single_region_is_a_connectome():
    assert connectome([[0.0]], [[0.0]], ["INS.L"]).sizes["target"] == 1


def test_nothing_outside_is_opened(tmp_path):
    """The reader leaves the file that an HDF5 file points to alone: it is not even there."""
    path = elsewhere_hdf5(tmp_path)
    Path(tmp_path / "secret").unlink()
    with pytest.raises(InputError, match="lies in another file"):
        read_fc(path)
    virtual = h5py.VirtualLayout((3, 3), "f8")
    virtual[:] = h5py.VirtualSource(str(tmp_path / "y.h5"), "fc", (3, 3))
    with h5py.File(tmp_path / "x.nc", "w") as file:
        file.create_virtual_dataset("x", virtual)
    with pytest.raises(InputError, match="lies in another file"):
        read_recording(tmp_path / "x.nc")

"""Damage files at random and read them: ``python tests/data/fuzz.py [seconds for each reader] [seed]``.

Of a folder, or of a table with others beside it, one file is damaged at a time. A reader may understand a damaged file
or refuse it in a sentence. Anything else ends the run with the file that did it: another exception, more than a minute,
or the death of the process.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import h5py
import numpy as np
import scipy.io

from fitting import InputError
from fitting.data import (
    connectome,
    fc_target,
    hcp_aal2,
    kaggle_connectome,
    read_connectome,
    read_fc,
    read_recording,
    recording,
)

LABELS = ["INS.L", "INS.R", "CUN.L"]
WEIGHTS = np.array([[0, 0.1, 0.2], [0.1, 0, 0.3], [0.2, 0.3, 0]])
SIGNALS = np.random.default_rng(0).standard_normal((40, 3))
#: Longest time in s for one small file.
LONGEST = 60


def mat73(path: Path, **values):
    """As MATLAB 7.3 does it: columns first, cells as references to character codes."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in values.items():
            file[name] = np.asarray(value).T
        cells = file.create_dataset("labels", (1, 3), h5py.ref_dtype)
        for i, label in enumerate(LABELS):
            cells[0, i] = file.create_dataset(f"#refs#/{i}", data=np.array([[ord(c)] for c in label], np.uint16)).ref
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(128))


def bids_connectome(folder: Path):
    """A data set in BIDS' layout for computational models."""
    (folder / "net").mkdir(parents=True)
    (folder / "coord").mkdir()
    matrix = "\n".join("\t".join(map(str, row)) for row in 100 * WEIGHTS)
    pointer = {"CoordsRows": ["../coord/x_labels.json"], "CoordsColumns": ["../coord/x_labels.json"]}
    (folder / "net" / "x_weights.tsv").write_text(matrix)
    (folder / "net" / "x_weights.json").write_text(json.dumps(pointer))
    (folder / "net" / "x_distances.tsv").write_text(matrix)
    (folder / "net" / "x_distances.json").write_text('{"Units": "mm"}')
    labels = "\n".join(f"{i}\t{label}" for i, label in enumerate(LABELS))
    (folder / "coord" / "x_labels.tsv").write_text(f"index\tname\n{labels}\n")


def kaggle_cache(folder: Path):
    """A kagglehub cache that holds the notebook's connectome."""
    import braintools

    base = folder / "datasets" / "oujago" / "hcp-gw-data-samples"
    (base / "versions" / "1").mkdir(parents=True)
    (base / "1.complete").touch()
    own = hcp_aal2()
    file = base / "versions" / "1" / "hcp-data-sample.msgpack"
    braintools.file.msgpack_save(str(file), {"Cmat": own.weights.values, "Dmat": own.lengths.values}, verbose=False)


def read_kaggle(folder: Path):
    """The connectome in a kagglehub cache."""
    os.environ["KAGGLEHUB_CACHE"] = str(folder)
    return kaggle_connectome()


def good_files(folder: Path) -> dict[str, list[tuple[Path, Path]]]:
    """Small valid files, by reader: what is read, and the file of it that is damaged."""
    made = connectome(WEIGHTS, 100 * WEIGHTS, LABELS)
    fc = fc_target(WEIGHTS, LABELS)
    signals = recording(SIGNALS, 100.0, LABELS, bad=[(0.1, 0.2)])
    cells = np.array(LABELS, dtype=object)
    parts = {"weights": WEIGHTS, "lengths": 100 * WEIGHTS}
    table = "\n".join(
        [",".join(["", *LABELS])] + [",".join([n, *map(str, r)]) for n, r in zip(LABELS, WEIGHTS, strict=True)]
    )
    names = {kind: folder / kind for kind in ("connectome", "fc", "recording")}
    for path in names.values():
        path.mkdir()
    np.savez_compressed(names["connectome"] / "a.npz", labels=LABELS, **parts)
    np.savez(names["fc"] / "a.npz", fc=WEIGHTS, labels=LABELS)
    np.savez(names["recording"] / "a.npz", signals=SIGNALS, fs=100.0, labels=LABELS, bad=[[0.1, 0.2]])
    scipy.io.savemat(names["connectome"] / "b.mat", parts | {"labels": cells}, do_compression=True)
    scipy.io.savemat(names["fc"] / "b.mat", {"fc": WEIGHTS, "labels": cells})
    scipy.io.savemat(names["recording"] / "b.mat", {"signals": SIGNALS, "fs": 100.0, "labels": cells})
    for kind, more in {
        "connectome": parts,
        "fc": {"fc": WEIGHTS},
        "recording": {"signals": SIGNALS, "fs": 100.0},
    }.items():
        with h5py.File(names[kind] / "c.h5", "w") as file:
            for name, value in more.items():
                file[name] = value
            file["labels"] = LABELS
    made.to_netcdf(names["connectome"] / "d.nc", engine="h5netcdf")
    fc.to_dataset().to_netcdf(names["fc"] / "d.nc", engine="scipy")
    signals.to_dataset().to_netcdf(names["recording"] / "d.nc", engine="h5netcdf")
    signals.to_dataset().to_netcdf(names["recording"] / "e.nc", engine="scipy")
    with zipfile.ZipFile(names["connectome"] / "f.zip", "w", zipfile.ZIP_DEFLATED) as file:
        matrix = "\n".join(" ".join(map(str, row)) for row in 100 * WEIGHTS)
        file.writestr("weights.txt", matrix)
        file.writestr("tract_lengths.txt", matrix)
        file.writestr("centres.txt", "\n".join(f"{label} 1 2 3" for label in LABELS))
        file.writestr("hemispheres.txt", "0 1 0")
    (names["fc"] / "g.csv").write_text(table)
    rows = [",".join(["time", *LABELS])] + [",".join(map(str, [i / 100, *row])) for i, row in enumerate(SIGNALS)]
    (names["recording"] / "g.csv").write_text("\n".join(rows))
    mat73(names["connectome"] / "h.mat", **parts)
    mat73(names["fc"] / "h.mat", fc=WEIGHTS)
    mat73(names["recording"] / "h.mat", signals=SIGNALS, fs=[[100.0]])
    bids_connectome(names["connectome"] / "i")
    kaggle_cache(folder / "kaggle" / "j")
    found = {
        kind: [(path, file) for path in sorted((folder / kind).iterdir()) for file in files_of(path)]
        for kind in READERS
    }
    series = names["recording"] / "sub-1_task-rest_timeseries.tsv"
    series.write_text("\n".join(["\t".join(LABELS)] + ["\t".join(map(str, row)) for row in SIGNALS]))
    sidecar, events = series.with_suffix(".json"), series.with_name("sub-1_task-rest_events.tsv")
    sidecar.write_text('{"SamplingFrequency": 100, "Units": "T"}')
    events.write_text("onset\tduration\ttrial_type\n0.05\t0.1\tgo\n0.1\t0.1\tbad\n")
    found["recording"] += [(series, file) for file in (series, sidecar, events)]
    return found


def files_of(path: Path) -> list[Path]:
    """A file, or the files in a folder that are not empty."""
    return sorted(f for f in path.rglob("*") if f.is_file() and f.stat().st_size) if path.is_dir() else [path]


READERS = {"connectome": read_connectome, "fc": read_fc, "recording": read_recording, "kaggle": read_kaggle}


def damage(data: bytes, others: list[bytes], random: random.Random) -> bytes:
    """One to a few faults: bytes changed, cut out, doubled, cut off, or taken from another file."""
    out = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        at, length = random.randrange(len(out) + 1), random.choice((1, 1, 2, 4, 8, 64))
        kind = random.randrange(7)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << random.randrange(8)
        elif kind == 1:
            out[at : at + length] = random.randbytes(length)
        elif kind == 2:
            out[at : at + length] = random.choice((b"\xff", b"\x00", b"\x7f", b"\x80")) * length
        elif kind == 3:
            del out[at : at + length]
        elif kind == 4:
            out[at:at] = out[at : at + length]
        elif kind == 5 and random.random() < 0.2:
            del out[at:]
        elif kind == 6:
            other = random.choice(others)
            start = random.randrange(len(other))
            out[at : at + length] = other[start : start + length]
    return bytes(out)


def run(kind: str, seconds: float, seed: int, folder: Path):
    """Read damaged files of one kind for so many seconds; ``folder`` holds the last one, and its name."""

    def late(*_):
        raise TimeoutError(f"more than {LONGEST} s")

    signal.signal(signal.SIGALRM, late)
    chance = random.Random(seed)
    files = good_files(folder)[kind]
    contents = [file.read_bytes() for _, file in files]
    for path in dict(files):
        READERS[kind](path)
    counts = {"read": 0, "refused": 0}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        which = chance.randrange(len(files))
        path, file = files[which]
        (folder / "last").write_text(str(file))
        file.write_bytes(damage(contents[which], contents, chance))
        signal.alarm(LONGEST)
        try:
            READERS[kind](path)
            counts["read"] += 1
        except InputError as error:
            counts["refused"] += 1
            if len(str(error).splitlines()) != 1:
                raise ValueError(f"not one line: {error}") from None
        finally:
            signal.alarm(0)
        file.write_bytes(contents[which])
    print(f"{kind}: {counts['read']} damaged files read, {counts['refused']} refused", flush=True)


def main(seconds: float = 20.0, seed: int = 0) -> int:
    """All readers, each in a process of its own, so that its death is seen."""
    worst = 0
    for kind in READERS:
        folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        done = subprocess.run([sys.executable, __file__, "--one", kind, str(seconds), str(seed), str(folder)])
        if done.returncode:
            last = folder / "last"
            which = last.read_text() if last.is_file() else f"one of the good ones in {folder}"
            print(f"{kind}: ended with {done.returncode}; the file is {which}", flush=True)
        else:
            shutil.rmtree(folder)
        worst = max(worst, abs(done.returncode))
    return worst


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        run(sys.argv[2], float(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
    else:
        sys.exit(main(*map(float, sys.argv[1:2]), *map(int, sys.argv[2:3])))

"""Damage files at random and read them: ``python tests/data/fuzz.py [seconds for each reader] [seed]``.

A reader may understand a damaged file or refuse it in a sentence. Anything else ends the run with the file that did it:
another exception, more than a minute, or the death of the process.
"""

from __future__ import annotations

import random
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
from fitting.data import connectome, fc_target, read_connectome, read_fc, read_recording, recording

LABELS = ["INS.L", "INS.R", "CUN.L"]
WEIGHTS = np.array([[0, 0.1, 0.2], [0.1, 0, 0.3], [0.2, 0.3, 0]])
SIGNALS = np.random.default_rng(0).standard_normal((40, 3))
#: Longest time in s for one small file.
LONGEST = 60


def good_files(folder: Path) -> dict[str, list[Path]]:
    """Small valid files, by reader."""
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
    return {kind: sorted(path.iterdir()) for kind, path in names.items()}


READERS = {"connectome": read_connectome, "fc": read_fc, "recording": read_recording}


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


def run(kind: str, seconds: float, seed: int, trace: Path):
    """Read damaged files of one kind for so many seconds; the last one lies in ``trace``."""

    def late(*_):
        raise TimeoutError(f"more than {LONGEST} s")

    signal.signal(signal.SIGALRM, late)
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        files = good_files(Path(folder))[kind]
        contents = [file.read_bytes() for file in files]
        for file in files:
            READERS[kind](file)
        counts = {"read": 0, "refused": 0}
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            which = chance.randrange(len(files))
            path = trace.with_suffix(files[which].suffix)
            path.write_bytes(damage(contents[which], contents, chance))
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
            path.unlink()
    print(f"{kind}: {counts['read']} damaged files read, {counts['refused']} refused", flush=True)


def main(seconds: float = 20.0, seed: int = 0) -> int:
    """All readers, each in a process of its own, so that its death is seen."""
    worst = 0
    for kind in READERS:
        trace = Path(tempfile.mkdtemp(prefix="fuzz-")) / kind
        done = subprocess.run([sys.executable, __file__, "--one", kind, str(seconds), str(seed), str(trace)])
        if done.returncode:
            print(
                f"{kind}: ended with {done.returncode}; the file is {[str(p) for p in trace.parent.iterdir()]}",
                flush=True,
            )
        worst = max(worst, abs(done.returncode))
    return worst


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        run(sys.argv[2], float(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
    else:
        sys.exit(main(*map(float, sys.argv[1:2]), *map(int, sys.argv[2:3])))

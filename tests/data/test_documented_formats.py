"""Every example of docs/formats.md is a file that is read."""

import re
from pathlib import Path

import numpy as np
import pytest

from fitting.data import read_connectome, read_fc, read_maps, read_mixing, read_recording

PAGE = Path(__file__).resolve().parents[2] / "docs" / "formats.md"

LABELS = ["PreCG.L", "PreCG.R", "SFG.L"]
WEIGHTS = np.array([[0, 0.079, 0.208], [0.079, 0, 0.021], [0.208, 0.021, 0]])
LENGTHS = np.array([[0, 99.4, 25.3], [99.4, 0, 111.7], [25.3, 111.7, 0]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The page's files, and those that its programs write."""
    pytest.importorskip("mne", reason="the extra sensors is not installed")
    made, text = tmp_path_factory.mktemp("formats"), PAGE.read_text(encoding="utf-8")
    for name, content in re.findall(r"^`([^`\n]+)`[^\n]*:\n\n```\n(.*?)```", text, re.MULTILINE | re.DOTALL):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(content, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        exec("\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)), {})
    return made


@pytest.mark.parametrize("name", ["npz", "mat", "h5", "nc", "tables", "tvb", "bids"])
def test_connectomes(folder, name):
    c = read_connectome(folder / (name if (folder / name).is_dir() else f"connectome.{name}"))
    np.testing.assert_allclose(c.weights, WEIGHTS, rtol=1e-12)
    np.testing.assert_allclose(c.lengths, LENGTHS, rtol=1e-12)
    assert c["target"].values.tolist() == LABELS


@pytest.mark.parametrize(
    "name", ["recording.npz", "recording.mat", "recording.h5", "recording.nc", "recording_raw.fif"]
)
def test_recordings_with_a_bad_segment(folder, name):
    r = read_recording(folder / name)
    assert (r.shape, r.attrs["fs"], r["region"].values.tolist()) == ((2000, 3), 200.0, LABELS)
    np.testing.assert_array_equal(np.flatnonzero(~r["good"].values), np.arange(400, 900))


def test_recordings_as_tables(folder):
    signals = [[0.31, -0.52, 0.12], [0.28, -0.41, 0.33], [0.19, -0.25, 0.41]]
    for name, good in (("recording.csv", [True] * 3), ("sub-01_run-1_timeseries.tsv", [True, False, True])):
        r = read_recording(folder / name)
        np.testing.assert_allclose(r, signals)
        assert r.attrs["fs"] == pytest.approx(200.0)
        assert r["good"].values.tolist() == good


def test_connectivity_maps_and_mixing(folder):
    for name in ("fc.csv", "fc.npz", "fc.mat", "fc.h5"):
        fc = read_fc(folder / name)
        assert fc["region"].values.tolist() == LABELS
        np.testing.assert_array_equal(fc, [[0, 0.31, 0.22], [0.31, 0, 0.17], [0.22, 0.17, 0]])
    maps = read_maps(folder / "maps.csv")
    assert list(map(str, maps["map"].values)) == ["myelin", "thickness"]
    assert float(read_mixing(folder / "mixing.csv").sel(region="PreCG.L", other="SFG.L")) == 0.18

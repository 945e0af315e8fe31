"""Brains with nilearn, and without it."""

import re

import matplotlib as mpl
import numpy as np
import pytest

from fitting import InputError
from fitting.data import centres_of, hcp_aal2
from fitting.report import brains

CONNECTOME = hcp_aal2()
CENTRES = centres_of(CONNECTOME)
WEIGHTS = CONNECTOME.weights.values


@pytest.fixture(params=[True, False], ids=["nilearn", "dots"])
def drawn_by(request, monkeypatch):
    if request.param:
        pytest.importorskip("nilearn")
    monkeypatch.setattr(brains, "has_nilearn", lambda: request.param)


def dots(axes):
    return [c for c in axes.collections if isinstance(c, mpl.collections.PathCollection) and len(c.get_offsets())]


@pytest.mark.usefixtures("drawn_by")
def test_regions_are_drawn_where_they_are_in_the_colour_of_their_value():
    values = np.arange(80.0)
    figure = brains.on_brain(CENTRES, {"rank": values, "signed": values - 40})
    figure.draw_without_rendering()
    views = [axis for axis in figure.axes if dots(axis)]
    assert len(views) == 6
    bars = [axis.get_ylabel() for axis in figure.axes if axis.get_ylabel()]
    assert bars == ["rank", "signed"]
    above = views[1]
    places = np.concatenate([np.asarray(d.get_offsets()) for d in dots(above)])
    colours = np.concatenate([np.broadcast_to(d.get_facecolors(), (len(d.get_offsets()), 4)) for d in dots(above)])
    assert len(places) == 80
    for region in (0, 41, 79):
        at = np.abs(places - CENTRES[region, :2]).sum(1).argmin()
        np.testing.assert_allclose(places[at], CENTRES[region, :2], atol=1e-6)
        expected = mpl.colormaps["viridis"](values[region] / 79)
        np.testing.assert_allclose(colours[at, :3], expected[:3], atol=0.01)
    # Each side shows its own half, the regions in the middle on both.
    left = np.concatenate([np.asarray(d.get_offsets()) for d in dots(views[0])])
    assert len(left) == (CENTRES[:, 0] <= 0).sum()


@pytest.mark.usefixtures("drawn_by")
def test_the_strongest_pairs_are_drawn():
    figure = brains.strongest_connections(CENTRES, {"weights": WEIGHTS}, share=0.01)
    collections = [c for axis in figure.axes for c in axis.collections]
    segments = [len(c.get_segments()) for c in collections if isinstance(c, mpl.collections.LineCollection)]
    lines = sum(len(axis.lines) for axis in figure.axes if not axis.get_ylabel()) + sum(segments)
    upper = np.triu_indices(80, 1)
    strongest = np.argsort(WEIGHTS[upper])[::-1][:32]
    sides = CENTRES[np.stack(upper, axis=1)[strongest], 0]
    assert lines == 32 + (sides <= 0).all(1).sum() + (sides >= 0).all(1).sum()
    with pytest.raises(InputError, match="above 0 and at most 1; got 0"):
        brains.strongest_connections(CENTRES, {"weights": WEIGHTS}, share=0.0)


def test_the_page_to_turn_asks_nobody(tmp_path, monkeypatch):
    pytest.importorskip("nilearn")
    page = brains.write_connectome_page(tmp_path / "brain.html", CENTRES, WEIGHTS)
    assert not re.findall(r"<(?:script|link)[^>]+(?:src|href)=.https?:", page.read_text())
    monkeypatch.setattr(brains, "has_nilearn", lambda: False)
    with pytest.raises(InputError, match=r"fitting\[brain\]"):
        brains.write_connectome_page(tmp_path / "none.html", CENTRES, WEIGHTS)

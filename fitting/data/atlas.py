"""Names of atlas regions."""

from __future__ import annotations

import csv
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple


class Region(NamedTuple):
    """A region of an atlas: short label, long name, and the lobe it is counted to."""

    label: str
    name: str
    lobe: str

    @property
    def hemisphere(self) -> str:
        """``"L"`` or ``"R"``."""
        return self.label[-1]


@lru_cache(maxsize=1)
def aal2() -> tuple[Region, ...]:
    """Cerebral regions of the AAL2 atlas, in the atlas's order.

    Examples
    --------
    >>> from fitting.data import aal2
    >>> len(aal2()), aal2()[0].label
    (94, 'PreCG.L')
    """
    text = files("fitting.data.embedded").joinpath("aal2.csv").read_text(encoding="utf-8")
    return tuple(Region(**row) for row in csv.DictReader(text.splitlines()))


def lobe_order(labels) -> list[int]:
    """Positions of ``labels`` ordered by hemisphere, then lobe; unknown labels keep their place at the end.

    Examples
    --------
    >>> from fitting.data import lobe_order
    >>> lobe_order(["PreCG.R", "CAL.L", "PreCG.L"])
    [2, 1, 0]
    """
    lobes = ["frontal", "insula", "cingulate", "temporal", "parietal", "occipital", "subcortical"]
    known = {region.label: region for region in aal2()}

    def rank(i):
        region = known.get(labels[i])
        if region is None:
            return ("Z", len(lobes), i)
        return (region.hemisphere, lobes.index(region.lobe), i)

    return sorted(range(len(labels)), key=rank)

"""Names of atlas regions, and the many ways in which they are spelled."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
import xarray as xr

from fitting.errors import InputError

#: Known atlases: Tzourio-Mazoyer et al., NeuroImage 15, 2002, 273-289; Rolls, Joliot and Tzourio-Mazoyer,
#: NeuroImage 122, 2015, 1-5; Desikan et al., NeuroImage 31, 2006, 968-980.
ATLASES = {"AAL2": "aal2", "AAL": "aal", "Desikan-Killiany": "desikan_killiany"}

#: Atlases that share the names, and the outlines, of most regions. Regions that AAL2 cut anew have other labels
#: than AAL's (``SFG`` and ``SFGdor``), so that they are never taken for each other.
FAMILIES = {"AAL": ("AAL2", "AAL"), "Desikan-Killiany": ("Desikan-Killiany",)}

#: More spellings, by family: folded spelling and the label's stem.
SPELLINGS = {
    "AAL": {"acg": "ACC", "dcg": "MCC", "pcg": "PCC", "orbsupmed": "PFCventmed", "ipl": "IPG", "ofcpost": "OFCpos"},
    "Desikan-Killiany": {
        "bstssuperiortemporal": "bankssts",
        "thalamusproper": "Thalamus",
        "accumbens": "Accumbensarea",
    },
}

#: Spellings by which one atlas of a family names another region than the others do: ``MFG`` is AAL's abbreviation of
#: ``Frontal_Mid`` and AAL2's of ``Frontal_Mid_2``, cut anew.
OWN_SPELLINGS = {"AAL": {"mfg": "MFGdor"}}

_SIDES = {"l": "L", "lh": "L", "left": "L", "r": "R", "rh": "R", "right": "R"}
_PREFIX = re.compile(r"^(?:ctx[-_. ]+)?(lh|rh|left|right|l|r)[-_. ]+(?=.)", re.IGNORECASE)
_SUFFIX = re.compile(r"(?<=.)[-_. ]+(lh|rh|left|right|l|r)$", re.IGNORECASE)
#: The Virtual Brain's way of naming sides.
_MIRRORED = re.compile(r"[lr][A-Z].*")


class Region(NamedTuple):
    """A region of an atlas: short label, long name, and the lobe it is counted to."""

    label: str
    name: str
    lobe: str

    @property
    def hemisphere(self) -> str:
        """``"L"`` or ``"R"``."""
        return self.label[-1]


@lru_cache(maxsize=len(ATLASES))
def atlas_regions(atlas: str) -> tuple[Region, ...]:
    """Cerebral regions of an atlas, in its own order.

    Parameters
    ----------
    atlas : {"AAL2", "AAL", "Desikan-Killiany"}

    Raises
    ------
    InputError
        If the atlas is unknown.

    Examples
    --------
    >>> from fitting.data import atlas_regions
    >>> [(len(atlas_regions(a)), atlas_regions(a)[0].name) for a in ("AAL2", "AAL", "Desikan-Killiany")]
    [(94, 'Precentral_L'), (90, 'Precentral_L'), (82, 'ctx-lh-bankssts')]
    """
    text = files("fitting.data.embedded").joinpath(f"{ATLASES[check_atlas(atlas)]}.csv").read_text(encoding="utf-8")
    return tuple(Region(**row) for row in csv.DictReader(text.splitlines()))


def aal2() -> tuple[Region, ...]:
    """Cerebral regions of the AAL2 atlas, in the atlas's order.

    Examples
    --------
    >>> from fitting.data import aal2
    >>> len(aal2()), aal2()[0].label
    (94, 'PreCG.L')
    """
    return atlas_regions("AAL2")


def check_atlas(atlas: str) -> str:
    """``atlas`` if it is known; refuses it otherwise."""
    if atlas not in ATLASES:
        raise InputError(
            f"unknown atlas {atlas!r}; known are {', '.join(ATLASES)}. Leave it empty for another one: its regions are "
            f"then matched by equal labels"
        )
    return atlas


def split_label(label: str) -> tuple[str, str]:
    """Hemisphere (``"L"``, ``"R"`` or ``""``) and the rest of a label, folded to small letters and digits.

    Examples
    --------
    >>> from fitting.data.atlas import split_label
    >>> [split_label(x) for x in ("ctx-lh-bankssts", "bankssts_left", "Frontal_Sup_2_R", "Vermis")]
    [('L', 'bankssts'), ('L', 'bankssts'), ('R', 'frontalsup2'), ('', 'vermis')]
    """
    text = str(label).strip()
    first, last = _PREFIX.match(text), _SUFFIX.search(text)
    sides = {_SIDES[m.group(1).lower()] for m in (first, last) if m}
    if len(sides) == 1:
        text = text[first.end() if first else 0 : last.start() if last else None]
    side = sides.pop() if len(sides) == 1 else ""
    return side, re.sub(r"[^a-z0-9]", "", text.lower())


#: What people and packages add to the name of a region, in front or behind.
_DECORATIONS = {"ctx", "roi", "7networks", "17networks"}

#: A region of Schaefer's parcellations: its network, perhaps a part of it, and a number (Schaefer et al., Cerebral
#: Cortex 28, 2018, 3095-3114).
_SCHAEFER = re.compile(
    r"((?:vis|sommot|dorsattn|salventattn|limbic|cont|default|temppar)[a-z]*(?:_[a-z]+)?)_(\d+)", re.IGNORECASE
)


def plain_spelling(label: str) -> tuple[str, str]:
    """Hemisphere and name of a region without what packages add to it: for any atlas, known here or not.

    The side may stand anywhere, once or more often; ``ctx``, ``ROI``, ``7Networks`` and ``17Networks`` are left out,
    and ``&`` is ``and``. So the spellings of Schaefer's, Destrieux's, Glasser's and the Brainnetome parcellation agree.

    Examples
    --------
    >>> from fitting.data.atlas import plain_spelling
    >>> plain_spelling("7Networks_LH_Vis_1"), plain_spelling("Vis_1-lh")
    (('L', 'vis_1'), ('L', 'vis_1'))
    >>> plain_spelling("L_p9-46v_ROI-lh"), plain_spelling("lh.G&S_frontomargin"), plain_spelling("SFG_R_7_1")
    (('L', 'p9_46v'), ('L', 'g_and_s_frontomargin'), ('R', 'sfg_7_1'))
    """
    tokens = [token for token in re.split(r"[^a-z0-9]+", str(label).lower().replace("&", "_and_")) if token]
    sides = {_SIDES[token] for token in tokens if token in _SIDES}
    rest = "_".join(token for token in tokens if token not in _SIDES and token not in _DECORATIONS)
    return (sides.pop() if len(sides) == 1 else ""), rest


def refuse_other_resolution(wanted: Sequence[str], have: Sequence[str]):
    """Refuse two sets of Schaefer's regions of different resolutions: the same name means another region there.

    Raises
    ------
    InputError
        If most networks have another number of regions.
    """
    counts: list[dict[tuple[str, str], int]] = []
    for labels in (wanted, have):
        most: dict[tuple[str, str], int] = {}
        for side, rest in map(plain_spelling, labels):
            told = _SCHAEFER.fullmatch(rest)
            if told:
                most[side, told[1]] = max(int(told[2]), most.get((side, told[1]), 0))
        counts.append(most)
    shared = counts[0].keys() & counts[1].keys()
    differ = sorted(key for key in shared if counts[0][key] != counts[1][key])
    if 2 * len(differ) > len(shared):
        side, network = differ[0]
        raise InputError(
            f"the connectome's regions are Schaefer's at one resolution, the data's at another: {network} {side} has "
            f"{counts[0][differ[0]]} regions here and {counts[1][differ[0]]} there, so the same name means another "
            f"region. Use both at one resolution"
        )


@lru_cache(maxsize=len(FAMILIES))
def _stems(family: str) -> dict[str, str]:
    """Folded spelling to the stem of the label, of all regions of a family."""
    stems = dict(SPELLINGS[family])
    for atlas in FAMILIES[family]:
        for region in atlas_regions(atlas):
            for spelling in (region.label, region.name):
                stems[split_label(spelling)[1]] = region.label[:-2]
    return stems


def identify(label: str, family: str, atlas: str = "") -> str | None:
    """The label that a family of atlases uses for a region, however it is spelled; None if it knows none.

    Parameters
    ----------
    label : str
    family : {"AAL", "Desikan-Killiany"}
    atlas : str
        The one of the family's atlases that the label is from, where it is known (:func:`atlas_of`).

    Returns
    -------
    str or None

    Examples
    --------
    >>> from fitting.data.atlas import identify
    >>> identify("Cingulum_Ant_L", "AAL"), identify("rh.bankssts", "Desikan-Killiany"), identify("lh.bankssts", "AAL")
    ('ACC.L', 'bankssts.R', None)
    """
    side, rest = split_label(label)
    stem = OWN_SPELLINGS.get(atlas, {}).get(rest) or _stems(family).get(rest)
    return f"{stem}.{side}" if stem and side else None


def family_of(labels: Sequence[str]) -> str | None:
    """The family of atlases that knows most of the labels, and at least half of them; None if there is none, or two.

    Examples
    --------
    >>> from fitting.data.atlas import family_of
    >>> family_of(["lh-bankssts", "lh-precuneus"]), family_of(["PCUN.L", "Precuneus_R"]), family_of(["V1", "V2"])
    ('Desikan-Killiany', 'AAL', None)
    """
    known = {family: sum(identify(label, family) is not None for label in labels) for family in FAMILIES}
    most = max(known.values())
    best = [family for family, number in known.items() if number == most]
    return best[0] if len(best) == 1 and 2 * most >= len(labels) else None


@lru_cache(maxsize=len(ATLASES))
def _only(atlas: str, family: str) -> frozenset[str]:
    """Labels that one atlas of a family has and no other one."""
    others = {region.label for other in FAMILIES[family] if other != atlas for region in atlas_regions(other)}
    return frozenset(region.label for region in atlas_regions(atlas)) - others


def family_with(atlas: str) -> str:
    """The family that an atlas belongs to; empty if none is named."""
    return next((family for family, atlases in FAMILIES.items() if atlas in atlases), "")


def atlas_of(labels: Sequence[str], family: str) -> str:
    """The atlas of a family that labels are from, by the regions that no other one has; empty if that does not tell.

    Examples
    --------
    >>> from fitting.data.atlas import atlas_of
    >>> [atlas_of(x, "AAL") for x in (["SFGdor.L", "MFG.L"], ["SFG.L", "MFG.L"], ["INS.L", "MFG.L"])]
    ['AAL', 'AAL2', '']
    """
    shared = {split_label(spelling)[1] for own in OWN_SPELLINGS.values() for spelling in own}
    known = {identify(label, family) for label in labels if split_label(label)[1] not in shared}
    matching = [atlas for atlas in FAMILIES[family] if known & _only(atlas, family)]
    return matching[0] if len(matching) == 1 else ""


@lru_cache(maxsize=1)
def _centres() -> dict[tuple[str, str], tuple[float, ...]]:
    """Centre in mm of MNI space by atlas and label; see ``embedded/PROVENANCE.md``."""
    text = files("fitting.data.embedded").joinpath("centres.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return {(row["atlas"], row["label"]): tuple(float(row[axis]) for axis in "xyz") for row in rows}


def centres_of(connectome: xr.Dataset) -> np.ndarray | None:
    """Centres (region, 3) of a connectome's regions in mm: its own, or those of the atlas that it names.

    None if there are none for some region. They are for figures: a connectome's own are of its own regions.

    Examples
    --------
    >>> from fitting.data import centres_of, hcp_aal2
    >>> centres_of(hcp_aal2(regions=2)).tolist()
    [[-38.4, -7.5, 49.1], [41.6, -10.0, 50.3]]
    """
    if "centres" in connectome:
        return np.asarray(connectome["centres"].values, float)
    atlas = str(connectome.attrs.get("atlas", ""))
    family = family_with(atlas)
    if not family:
        return None
    labels = [identify(label, family, atlas) for label in connectome["target"].values.tolist()]
    places = [_centres().get((atlas, str(label))) for label in labels]
    return None if None in places else np.array(places)


def sides_of(labels: Sequence[str]) -> list[str]:
    """Hemisphere of every region; ``lA1`` and ``rA1`` tell it where a set of labels has both of them.

    Examples
    --------
    >>> from fitting.data.atlas import sides_of
    >>> sides_of(["lA1", "rA1", "INS.L", "rV2"])
    ['L', 'R', 'L', '']
    """
    every = set(labels)

    def side(label: str) -> str:
        told = split_label(label)[0] or plain_spelling(label)[0]
        if told or not _MIRRORED.fullmatch(label):
            return told
        other = {"l": "r", "r": "l"}[label[0]] + label[1:]
        return label[0].upper() if other in every else ""

    return [side(label) for label in labels]


def lobe_of(label: str) -> str:
    """The lobe that a region is counted to; empty if no atlas knows it."""
    for family, atlases in FAMILIES.items():
        own = identify(label, family)
        for atlas in atlases:
            for region in atlas_regions(atlas):
                if region.label == own:
                    return region.lobe
    return ""


def lobe_order(labels: Sequence[str]) -> list[int]:
    """Positions of ``labels`` ordered by hemisphere, then lobe; unknown labels keep their place at the end.

    Examples
    --------
    >>> from fitting.data import lobe_order
    >>> lobe_order(["PreCG.R", "CAL.L", "PreCG.L"])
    [2, 1, 0]
    """
    lobes = ["frontal", "insula", "cingulate", "temporal", "parietal", "occipital", "subcortical", ""]

    def rank(i):
        lobe = lobe_of(labels[i])
        return (split_label(labels[i])[0] if lobe else "Z", lobes.index(lobe), i)

    return sorted(range(len(labels)), key=rank)


#: Names of channels that no region has: MEGIN, CTF, and what is recorded beside them.
_CHANNEL = re.compile(
    r"MEG ?\d{3,4}|EEG ?\d{1,3}|M[LRZ][CFOPT]\d{2}(-\d+)?|[VH]?EOG ?\d{0,3}|E[CK]G ?\d{0,3}|EMG ?\d{0,3}|STI ?\d{2,3}",
    re.IGNORECASE,
)
#: Names of electrodes, which single regions may have too.
_ELECTRODE = re.compile(r"(FP|AF|F|FC|FT|C|CP|T|TP|P|PO|O|I)(Z|\d{1,2})", re.IGNORECASE)
#: Names of 4D's sensors, BioSemi's and EGI's electrodes, which the areas of a lobe may have too.
_NUMBERED = re.compile(r"[AE]\d{1,3}", re.IGNORECASE)
#: Fewest labels of the last two kinds that are taken for sensors.
FEWEST_ELECTRODES, FEWEST_NUMBERED = 4, 16


def refuse_sensors(labels: Sequence[str]):
    """Refuse labels that are those of sensors: their signals mix all regions.

    Raises
    ------
    InputError
        If at least half of the labels look like those of MEG sensors, EEG electrodes or channels beside them.
    """
    labels = [str(label).strip() for label in labels]
    channels, electrodes, numbered = (
        [label for label in labels if kind.fullmatch(label)] for kind in (_CHANNEL, _ELECTRODE, _NUMBERED)
    )
    sensors = [
        *channels,
        *(electrodes if len(electrodes) + len(channels) >= FEWEST_ELECTRODES else []),
        *(numbered if len(numbered) >= FEWEST_NUMBERED else []),
    ]
    if sensors and 2 * len(sensors) >= len(labels):
        raise InputError(
            f"these are sensors, not regions ({', '.join(sensors[:3])}, ...): every sensor sees many regions. "
            f"Reconstruct sources first, for example with MNE's mne.beamformer or mne.minimum_norm and "
            f"mne.extract_label_time_course"
        )

"""Names of regions: spellings, hemispheres, and what must never be taken for one another."""

import re

import numpy as np
import pytest

from fitting import InputError
from fitting.data import aal2, atlas_regions, connectome, fc_target, hcp_aal2, lobe_order, match, recording
from fitting.data.atlas import FAMILIES, family_of, identify, plain_spelling, split_label


@pytest.mark.parametrize("atlas", ["AAL2", "AAL", "Desikan-Killiany"])
def test_every_name_of_an_atlas_is_known_and_means_one_region(atlas):
    regions = atlas_regions(atlas)
    family = next(name for name, members in FAMILIES.items() if atlas in members)
    assert len({r.label for r in regions}) == len(regions) == {"AAL2": 94, "AAL": 90, "Desikan-Killiany": 82}[atlas]
    for region in regions:
        assert identify(region.label, family) == identify(region.name, family) == region.label
        assert split_label(region.label)[0] == split_label(region.name)[0] == region.hemisphere
        mirrored = region.label[:-1] + {"L": "R", "R": "L"}[region.hemisphere]
        assert mirrored in {r.label for r in regions}
        assert identify(mirrored, family) != region.label
    assert family_of([r.name for r in regions]) == family


@pytest.mark.parametrize(
    ("spelling", "label"),
    [
        ("lh-bankssts", "bankssts.L"),
        ("bankssts-rh", "bankssts.R"),
        ("ctx_rh_bankssts", "bankssts.R"),
        ("L.bankssts", "bankssts.L"),
        ("Right-Thalamus-Proper", "Thalamus.R"),
        ("right accumbens area", "Accumbensarea.R"),
        ("bankssts", None),
        ("R_bankssts_L", None),
    ],
)
def test_spellings_of_desikan_killiany(spelling, label):
    assert identify(spelling, "Desikan-Killiany") == label


def mirror(label):
    """The same region on the other side: the tokens that name the side are exchanged."""
    sides = [("lh", "rh"), ("LH", "RH"), ("L", "R"), ("Left", "Right")]
    swap = {a: b for pair in sides for a, b in (pair, pair[::-1])}
    return "".join(swap.get(token, token) for token in re.split(r"([-_. ])", label))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("7Networks_LH_Vis_1", "LH_Vis_1"),
        ("7Networks_RH_SalVentAttn_FrOperIns_3", "RH-SalVentAttn-FrOperIns-3"),
        ("17Networks_LH_DefaultA_PFCm_12", "lh.DefaultA_PFCm_12"),
        ("lh.G_and_S_frontomargin", "L G&S_frontomargin"),
        ("S_oc_sup_and_transversal-rh", "ctx_rh_S_oc_sup_and_transversal"),
        ("L_V1_ROI", "V1_L"),
        ("rh.R_p9-46v_ROI", "R_p9-46v"),
        ("L_7AL_ROI-lh", "Left_7AL"),
        ("SFG_L_7_1", "SFG_7_1_L"),
        ("A8m_R", "rh-A8m"),
    ],
)
def test_spellings_of_other_atlases_match_in_order_and_side(ours, theirs, rng):
    """Both sides, and one more region, in another order; the other side, or another region, never matches."""
    mirrored = [mirror(ours), mirror(theirs)]
    values = rng.standard_normal((3, 3))
    data = fc_target(values + values.T, [mirrored[1], "L_Elsewhere", theirs])
    matched, dropped = match([ours, mirrored[0]], data)
    assert matched["region"].values.tolist() == [ours, mirrored[0]]
    assert matched["hemisphere"].values.tolist() == [plain_spelling(x)[0] for x in (ours, mirrored[0])]
    assert float(matched[0, 1]) == float(data[2, 0])
    assert dropped == ["L_Elsewhere"]
    with pytest.raises(InputError, match="not in the data"):
        match([ours, "L_Nowhere"], data)


def test_a_spelling_that_two_labels_share_matches_neither(rng):
    values = rng.standard_normal((3, 3))
    data = fc_target(values + values.T, ["L_V1_ROI", "V1-lh", "V2_L"])
    with pytest.raises(InputError, match=r"not in the data: lh\.V1"):
        match(["lh.V1", "lh.V2"], data)


def schaefer(regions):
    """As many labels of a network as a parcellation of 7 networks has regions in one hemisphere."""
    return [f"7Networks_{side}H_{network}_{i + 1}" for side in "LR" for network in ("Vis", "SomMot", "Limbic")
            for i in range(regions)]  # fmt: skip


def test_schaefers_regions_of_another_resolution_are_refused(rng):
    values = rng.standard_normal((54, 54))
    data = fc_target(values + values.T, schaefer(9))
    with pytest.raises(InputError, match="limbic L has 14 regions here and 9 there"):
        match(schaefer(14), data)
    with pytest.raises(InputError, match="limbic L has 4 regions here and 9 there"):
        match(schaefer(4), data)
    # A region that one of them lacks is no other resolution.
    matched, dropped = match([x.replace("7Networks_", "") for x in schaefer(9) if x != "7Networks_LH_Vis_9"], data)
    assert (len(matched), dropped) == (53, ["7Networks_LH_Vis_9"])


def test_a_recording_in_long_names_and_another_order_is_matched(rng):
    """The connectome's short labels and the atlas's long ones name the same regions; the order may differ."""
    regions = aal2()
    order = rng.permutation(94)
    signals = rng.standard_normal((50, 94))
    data = recording(signals, 100.0, [regions[i].name for i in order])
    labels = hcp_aal2()["target"].values.tolist()
    matched, dropped = match(labels, data)
    assert matched["region"].values.tolist() == labels
    at = {regions[i].label: place for place, i in enumerate(order)}
    np.testing.assert_array_equal(matched, signals[:, [at[label] for label in labels]])
    assert sorted(dropped) == sorted(r.name for r in regions if r.lobe == "subcortical")
    assert matched["hemisphere"].values.tolist() == [label[-1] for label in labels]


def test_two_parcellations_are_told_in_one_sentence():
    data = recording(np.zeros((9, 100)), 100.0, [f"LH_{i:03d}" for i in range(100)])
    with pytest.raises(InputError) as refused:
        match([region.label for region in atlas_regions("AAL2")], data)
    assert "94 region(s) of the connectome are not in the data: PreCG.L" in str(refused.value)
    assert "LH_011 and 88 more. They seem to be of two parcellations" in str(refused.value)
    assert len(str(refused.value)) < 500


def test_regions_that_aal2_cut_anew_are_not_those_of_aal():
    old = [r.name for r in atlas_regions("AAL")]
    data = recording(np.zeros((9, 90)), 100.0, old)
    with pytest.raises(InputError, match=r"region\(s\) of the connectome are not in the data: SFG\.L, SFG\.R, MFG\.L"):
        match(["PreCG.L", "SFG.L", "SFG.R", "MFG.L"], data)
    matched, _ = match(["PreCG.L", "ACC.R"], data)
    assert matched.sizes["region"] == 2


def test_one_abbreviation_of_two_regions_means_its_own_atlas_s():
    """``MFG`` is AAL's ``Frontal_Mid`` and AAL2's ``Frontal_Mid_2``, cut anew."""
    matrix = 0.1 * (np.ones((3, 3)) - np.eye(3))
    short = fc_target(matrix, ["SFGdor.L", "MFG.L", "INS.L"])
    matched, _ = match(["Frontal_Sup_L", "Frontal_Mid_L"], short)
    assert matched["region"].values.tolist() == ["Frontal_Sup_L", "Frontal_Mid_L"]
    long = fc_target(matrix, ["Frontal_Sup_L", "Frontal_Mid_L", "Insula_L"])
    assert match(["SFGdor.L", "MFG.L"], long)[0].sizes["region"] == 2
    with pytest.raises(InputError, match=r"not in the data: MFG\.L"):
        match(["INS.L", "MFG.L", "OFCmed.L"], short)
    with pytest.raises(InputError, match=r"not in the data: MFG\.L"):
        match(["INS.L", "MFG.L"], short, "AAL2")
    with pytest.raises(InputError, match=r"not in the data: MFG\.L"):
        match(["INS.L", "MFG.L"], short.assign_attrs(atlas="AAL"), "AAL2")
    assert match(["INS.L", "MFG.L"], fc_target(matrix, ["INS.L", "MFG.L", "SFG.L"]))[0].sizes["region"] == 2


def test_hemispheres_are_never_swapped():
    fc = fc_target([[0, 0.2], [0.2, 0]], ["Insula_L", "Cuneus_L"])
    with pytest.raises(InputError, match=r"not in the data: INS\.R"):
        match(["INS.R", "CUN.L"], fc)


@pytest.mark.parametrize(
    ("labels", "data", "words"),
    [
        (["INS.L", "SFG.R"], ["lh-insula", "rh-superiorfrontal"], "those of AAL, the data's those of Desikan-Killiany"),
        (["INS.L", "CUN.L"], ["Insula_L", "INS.L", "CUN.L"], "labels Insula_L and INS.L both name INS.L"),
        (["V1", "V2"], ["V2", "V3"], "not in the data: V1. Unknown region labels in the data: V3"),
    ],
)
def test_what_cannot_be_matched(labels, data, words):
    n = len(data)
    with pytest.raises(InputError, match=re.escape(words)):
        match(labels, fc_target(0.1 * (np.ones((n, n)) - np.eye(n)), data))


def test_labels_no_atlas_knows_match_when_they_are_equal():
    fc = fc_target([[0, 0.1, 0.2], [0.1, 0, 0.3], [0.2, 0.3, 0]], ["V1", "V2", "V3"])
    matched, dropped = match(["V3", "V1"], fc)
    assert float(matched[0, 1]) == 0.2
    assert dropped == ["V2"]


def test_hemispheres_given_beside_labels_must_agree():
    weights = np.ones((2, 2)) - np.eye(2)
    made = connectome(weights, 30 * weights, ["x1", "INS.R"], hemispheres=["L", "R"])
    assert made["hemisphere"].values.tolist() == ["L", "R"]
    with pytest.raises(InputError, match=r"INS\.R is said to lie in hemisphere 'L'"):
        connectome(weights, 30 * weights, ["x1", "INS.R"], hemispheres=["L", "L"])


def test_lobes_of_desikan_killiany():
    assert lobe_order(["rh-insula", "lh-lingual", "lh-precentral", "elsewhere"]) == [2, 1, 0, 3]

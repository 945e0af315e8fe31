"""Read an HDF5 file and write its arrays as NPZ: a program, run as a process of its own.

The HDF5 library can run for ever, or crash, on a damaged file; here it can be stopped. Files that end in ``.nc`` are
only read, to see whether that ends. It imports nothing of this package, to start fast.
"""

import sys

import h5py
import numpy as np

#: Groups in which MATLAB keeps what its variables refer to.
MATLAB = ("#refs#", "#subsystem#")

#: Exit status where the file is sound, but not what is needed.
REFUSED = 3


class Refused(ValueError):
    """A sound file that does not hold plain arrays, or more of them than can be told apart."""


def empty(item):
    """Whether MATLAB stored a shape in the place of values, of which there are none."""
    return bool(item.attrs.get("MATLAB_empty"))


def text(file, item):
    """A dataset; text as str, whether stored as such or as MATLAB's character codes and references to them."""
    if empty(item):
        return np.zeros(0, str if item.attrs.get("MATLAB_class") in (b"char", "char", b"cell", "cell") else float)
    if h5py.check_string_dtype(item.dtype) is not None:
        return np.asarray(item.asstr()[()], str)
    if h5py.check_ref_dtype(item.dtype) is not None:
        cells = [file[reference] for reference in np.ravel(item[()])]
        if not all(isinstance(cell, h5py.Dataset) and (cell.dtype == np.uint16 or empty(cell)) for cell in cells):
            raise Refused(f"{item.name[1:]} is a cell array that does not hold one text per cell")
        return np.array(["" if empty(cell) else "".join(map(chr, np.ravel(cell[()]))) for cell in cells], str)
    value = np.asarray(item[()])
    if item.attrs.get("MATLAB_class") in (b"char", "char") and value.ndim == 2:
        return np.array(["".join(map(chr, row)) for row in value.T], str)
    if value.dtype.kind == "S":
        return np.char.decode(value, "utf-8")
    if value.dtype.kind not in "biufcU":
        raise Refused(f"{item.name[1:]} holds neither numbers nor text")
    return value


def check(where, item, largest):
    """Refuse a dataset whose numbers are not in the file, or too many."""
    if item.is_virtual or item.external:
        raise Refused(f"{where} lies in another file, which is not read")
    size = float(np.prod([float(n) for n in item.shape or ()])) * item.dtype.itemsize
    if size > largest:
        raise Refused(f"{where} would take {size / 2**30:,.0f} GB; at most {largest / 2**30:g} GB are read")
    if size > 2**20 and item.id.get_storage_size() == 0:
        raise Refused(f"{where} announces {item.shape} values but holds none")


def main(path, out, largest, names):
    """Write the named arrays to ``out``, their attributes ``units``, and the names of all as ``__names__``."""
    held: dict[str, h5py.Dataset] = {}
    present = []
    with h5py.File(path, "r") as file:

        def look(where, item):
            # Only what lies in the file itself: links to other files are not followed by visititems.
            name = where.rpartition("/")[2]
            if where.split("/")[0] in MATLAB:
                return
            if name in names and "MATLAB_sparse" in item.attrs:
                raise Refused(f"{where} is a sparse matrix; store full({name}) instead")
            if not isinstance(item, h5py.Dataset):
                return
            present.append(where)
            if name not in names:
                return
            if name in held:
                raise Refused(
                    f"it holds {held[name].name[1:]} and {where}; which is meant cannot be told: store what belongs "
                    f"together in a file of its own"
                )
            held[name] = item

        file.visititems(look)
        groups = {item.name.rpartition("/")[0]: item.name[1:] for item in held.values()}
        if len(groups) > 1:
            raise Refused(
                f"{' and '.join(groups.values())} lie in different groups, so that they may not belong together: "
                f"store them in one group"
            )
        arrays = {}
        for name, item in held.items():
            check(item.name[1:], item, largest)
            arrays[name] = text(file, item)
            unit = np.ravel(item.attrs.get("units", ()))
            if unit.size:
                arrays[f"{name}.units"] = np.array([u.decode() if isinstance(u, bytes) else str(u) for u in unit], str)
    np.savez(out, __names__=np.array(present, str), **arrays)


if __name__ == "__main__":
    try:
        if sys.argv[1].lower().endswith((".nc", ".nc4")):
            import xarray

            with xarray.open_dataset(sys.argv[1], engine="h5netcdf", decode_times=False) as dataset:
                if dataset.nbytes <= int(sys.argv[3]):
                    dataset.load()
        else:
            main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:])
    except Exception as error:
        print(" ".join((str(error) or type(error).__name__).split())[:300], file=sys.stderr)
        sys.exit(REFUSED if isinstance(error, Refused) else 1)

"""Read an HDF5 file and write its arrays as NPZ: a program, run as a process of its own.

The HDF5 library can run for ever, or crash, on a damaged file; here it can be stopped. Files that end in ``.nc`` are
only read, to see whether that ends. It imports nothing of this package, to start fast.
"""

import sys

import h5py
import numpy as np


def text(file, item):
    """A dataset; text as str, whether stored as such or as MATLAB's references to character codes."""
    if h5py.check_string_dtype(item.dtype) is not None:
        return np.asarray(item.asstr()[()], str)
    if h5py.check_ref_dtype(item.dtype) is not None:
        return np.array(["".join(map(chr, np.ravel(file[reference][()]))) for reference in np.ravel(item[()])], str)
    value = np.asarray(item[()])
    if value.dtype.kind == "S":
        return np.char.decode(value, "utf-8")
    if value.dtype.kind == "O":
        raise ValueError(f"{item.name} holds neither numbers nor text")
    return value


def main(path, out, largest, names):
    """Write the named arrays to ``out``, and the names of all as the array ``__names__``."""
    found, present = {}, []
    with h5py.File(path, "r") as file:

        def look(where, item):
            # Only what lies in the file itself: links to other files are not followed by visititems.
            if not isinstance(item, h5py.Dataset):
                return
            name = where.rsplit("/", 1)[-1]
            present.append(where)
            if name not in names or name in found:
                return
            if item.is_virtual or item.external:
                raise ValueError(f"{where} lies in another file, which is not read")
            size = float(np.prod([float(n) for n in item.shape or ()])) * item.dtype.itemsize
            if size > largest:
                raise ValueError(f"{where} would take {size / 2**30:,.0f} GB; at most {largest / 2**30:g} GB are read")
            if size > 2**20 and item.id.get_storage_size() == 0:
                raise ValueError(f"{where} announces {item.shape} values but holds none")
            found[name] = text(file, item)

        file.visititems(look)
    np.savez(out, __names__=np.array(present, str), **found)


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
        sys.exit(" ".join((str(error) or type(error).__name__).split())[:300])

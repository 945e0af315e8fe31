"""netCDF files through xarray, whole and checked."""

from __future__ import annotations

from pathlib import Path

import h5py
import xarray as xr

from fitting.data.arrays import check_size, existing, run_apart
from fitting.errors import InputError


def read_dataset(path: str | Path) -> xr.Dataset:
    """All of a netCDF file, versions 3 and 4; times stay numbers."""
    path = existing(path)
    try:
        with path.open("rb") as stream:
            classic = stream.read(3) == b"CDF"
        if not classic:
            _refuse_outside(path)
            run_apart("hdf5", path, path)
        with xr.open_dataset(path, engine="scipy" if classic else "h5netcdf", decode_times=False) as file:
            check_size(float(file.nbytes), str(path))
            return file.load()
    except InputError:
        raise
    except Exception as error:  # the libraries raise whatever they stumble over in a damaged file
        line = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise InputError(f"{path} is not a readable netCDF file: {line}") from None


def _refuse_outside(path: Path):
    """Refuse arrays that lie in other files, and such as are announced but not there."""
    with h5py.File(path, "r") as file:

        def look(where, item):
            if not isinstance(item, h5py.Dataset):
                return
            if item.is_virtual or item.external:
                raise InputError(f"{path}: {where} lies in another file, which is not read")
            size = float(item.size or 0) * item.dtype.itemsize
            check_size(size, f"{path}: {where}")
            # Dimensions without labels are stored as empty arrays.
            if size > 2**20 and item.ndim > 1 and item.id.get_storage_size() == 0:
                raise InputError(f"{path}: {where} announces {item.shape} values but holds none")

        file.visititems(look)

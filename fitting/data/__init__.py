"""Connectomes, recordings and connectivity targets with labels and units."""

from fitting.data.atlas import Region, aal2, lobe_order
from fitting.data.files import read_fc, read_recording
from fitting.data.labelled import connectome, fc_target, match, recording
from fitting.data.sources import hcp_aal2, kaggle_connectome, kaggle_recording, read_connectome

__all__ = [
    "Region",
    "aal2",
    "connectome",
    "fc_target",
    "hcp_aal2",
    "kaggle_connectome",
    "kaggle_recording",
    "lobe_order",
    "match",
    "read_connectome",
    "read_fc",
    "read_recording",
    "recording",
]

"""Treatments: what the lab does to the cells, in names and times; resolved by a table."""

from pinnsim.treatment.builders import (
    drive,
    drug,
    hold,
    knockdown,
    knockout,
    overexpress,
    signal,
    variant,
)
from pinnsim.treatment.edit import Dose, Edit
from pinnsim.treatment.treatment import NONE, Treatment, as_treatment, resolve_lanes

__all__ = [
    "NONE",
    "Dose",
    "Edit",
    "Treatment",
    "as_treatment",
    "drive",
    "drug",
    "hold",
    "knockdown",
    "knockout",
    "overexpress",
    "resolve_lanes",
    "signal",
    "variant",
]

"""The landscape: where a cell can rest, what it takes to push it elsewhere, and a flat map to draw both on."""

from pinnsim.landscape.attractors import Attractors, find_attractors
from pinnsim.landscape.critical import CriticalDuration, critical_duration
from pinnsim.landscape.projection import Projection, principal_components
from pinnsim.landscape.push import Push, grid, push

__all__ = [
    "Attractors",
    "CriticalDuration",
    "Projection",
    "Push",
    "critical_duration",
    "find_attractors",
    "grid",
    "principal_components",
    "push",
]

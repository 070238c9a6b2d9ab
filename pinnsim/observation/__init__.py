"""Observation = readout x likelihood: what was measured is not the cell."""

from pinnsim.observation.correlated import Correlated
from pinnsim.observation.likelihood import AbstractLikelihood, Gaussian, StudentT
from pinnsim.observation.observe import Observation
from pinnsim.observation.readout import AbstractReadout, ArrayReadout, IdentityReadout

__all__ = [
    "AbstractLikelihood",
    "AbstractReadout",
    "ArrayReadout",
    "Correlated",
    "Gaussian",
    "IdentityReadout",
    "Observation",
    "StudentT",
]

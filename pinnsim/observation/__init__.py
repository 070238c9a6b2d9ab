"""Observation = readout x likelihood: what was measured is not the cell."""

from pinnsim.observation.censored import Censored, LogNormal
from pinnsim.observation.config import LikelihoodConfig, ReadoutConfig, observation_of, observation_spreads
from pinnsim.observation.correlated import Correlated
from pinnsim.observation.counts import NegativeBinomial, Poisson, ZeroInflated, size_factors
from pinnsim.observation.labelling import Labelling
from pinnsim.observation.layered import Layered
from pinnsim.observation.likelihood import AbstractLikelihood, Combined, Gaussian, StudentT
from pinnsim.observation.observe import Observation
from pinnsim.observation.readout import AbstractReadout, ArrayReadout, CycleReadout, IdentityReadout, LinearReadout

__all__ = [
    "AbstractLikelihood",
    "AbstractReadout",
    "ArrayReadout",
    "Censored",
    "Combined",
    "Correlated",
    "CycleReadout",
    "Gaussian",
    "IdentityReadout",
    "Labelling",
    "Layered",
    "LikelihoodConfig",
    "LinearReadout",
    "LogNormal",
    "NegativeBinomial",
    "Observation",
    "Poisson",
    "ReadoutConfig",
    "StudentT",
    "ZeroInflated",
    "observation_of",
    "observation_spreads",
    "size_factors",
]

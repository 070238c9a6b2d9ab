"""An observation model: a readout and a likelihood, two small ideas composed."""

import equinox as eqx

from pinnsim.observation.likelihood import AbstractLikelihood
from pinnsim.observation.readout import AbstractReadout


class Observation(eqx.Module):
    """What an instrument shows of the cell. Its parameters belong to the measurement, not to the cell."""

    readout: AbstractReadout
    likelihood: AbstractLikelihood

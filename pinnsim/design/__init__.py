"""Campaigns that ask what to do next: which experiment, which rate matters."""

from pinnsim.design.design import Design, design
from pinnsim.design.experiments import Experiment, Price, candidates
from pinnsim.design.rivals import disagreement

__all__ = ["Design", "Experiment", "Price", "candidates", "design", "disagreement"]

"""Campaigns that ask what to do next: which experiment, which rate matters."""

from pinnsim.design.design import Design, design
from pinnsim.design.experiments import Experiment, Price, candidates
from pinnsim.design.rivals import disagreement
from pinnsim.design.rounds import design_rounds
from pinnsim.design.sensitivity import Sensitivity, sensitivity

__all__ = [
    "Design",
    "Experiment",
    "Price",
    "Sensitivity",
    "candidates",
    "design",
    "design_rounds",
    "disagreement",
    "sensitivity",
]

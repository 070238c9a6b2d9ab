"""Solving: models under perturbations, one lane per cell, results as values with outcomes."""

from pinnsim.simulate.initial import AbstractInitial, AtRest, FromSample, FromState
from pinnsim.simulate.many import solve_many
from pinnsim.simulate.method import ODE
from pinnsim.simulate.result import Outcome, Simulation
from pinnsim.simulate.run import simulate
from pinnsim.simulate.solve import solve
from pinnsim.simulate.steady import SteadyState, steady_state

__all__ = [
    "ODE",
    "AbstractInitial",
    "AtRest",
    "FromSample",
    "FromState",
    "Outcome",
    "Simulation",
    "SteadyState",
    "simulate",
    "solve",
    "solve_many",
    "steady_state",
]

"""Solving: models under perturbations, one lane per cell, results as values with outcomes."""

from pinnsim.simulate.ensemble import Ensemble, sample_cells
from pinnsim.simulate.initial import AbstractInitial, AsWritten, AtRest, FromSample, FromState
from pinnsim.simulate.langevin import Diffusion, Langevin
from pinnsim.simulate.linear_noise import (
    AbstractCovariance,
    GivenCovariance,
    LinearNoise,
    StationaryCovariance,
    ZeroCovariance,
    linear_noise,
)
from pinnsim.simulate.many import solve_many
from pinnsim.simulate.method import ODE
from pinnsim.simulate.moments import Moments
from pinnsim.simulate.result import Certificate, Outcome, Simulation
from pinnsim.simulate.run import simulate
from pinnsim.simulate.sampler import AbstractSampler
from pinnsim.simulate.solve import solve
from pinnsim.simulate.ssa import SSA
from pinnsim.simulate.stationary import correlation_of, lagged_covariance, stationary_covariance
from pinnsim.simulate.steady import SteadyState, steady_state
from pinnsim.simulate.surrogate import AbstractSurrogate, Answer, solve_certified
from pinnsim.simulate.tau_leaping import TauLeaping
from pinnsim.simulate.together import Way, solve_together, way_of

__all__ = [
    "ODE",
    "SSA",
    "AbstractCovariance",
    "AbstractInitial",
    "AbstractSampler",
    "AbstractSurrogate",
    "Answer",
    "AsWritten",
    "AtRest",
    "Certificate",
    "Diffusion",
    "Ensemble",
    "FromSample",
    "FromState",
    "GivenCovariance",
    "Langevin",
    "LinearNoise",
    "Moments",
    "Outcome",
    "Simulation",
    "StationaryCovariance",
    "SteadyState",
    "TauLeaping",
    "Way",
    "ZeroCovariance",
    "correlation_of",
    "lagged_covariance",
    "linear_noise",
    "sample_cells",
    "simulate",
    "solve",
    "solve_certified",
    "solve_many",
    "solve_together",
    "stationary_covariance",
    "steady_state",
    "way_of",
]

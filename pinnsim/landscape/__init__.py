"""The landscape: where a cell can rest or go round, what it takes to push it elsewhere, how likely and how soon it goes
there by itself, and what changes as a knob is turned."""

from pinnsim.landscape.action import ActionPath, MinimumAction, action_of, minimum_action
from pinnsim.landscape.attractors import Attractors, find_attractors
from pinnsim.landscape.attractors_under import attractors_under
from pinnsim.landscape.barriers import Barrier, barrier_table, barriers
from pinnsim.landscape.birth_death import BirthDeath, birth_death_law
from pinnsim.landscape.continuation import (
    Branch,
    FoldCurve,
    SpecialPoint,
    continuation,
    fold_curve,
    switch_branch,
)
from pinnsim.landscape.critical import CriticalDuration, critical_duration
from pinnsim.landscape.cycles import Cycle, shoot
from pinnsim.landscape.first_passage import Line, line
from pinnsim.landscape.fokker_planck import Grid, fokker_planck
from pinnsim.landscape.noise import additive, chemical
from pinnsim.landscape.ornstein_uhlenbeck import OrnsteinUhlenbeck, ornstein_uhlenbeck
from pinnsim.landscape.potential import Potential
from pinnsim.landscape.prefactor import ExitTime, exit_time
from pinnsim.landscape.projection import Projection, principal_components
from pinnsim.landscape.push import Push, grid, push
from pinnsim.landscape.quasi_potential import QuasiPotential, quasi_potential
from pinnsim.landscape.rare_events import Coordinate, RareRate, weighted_ensemble
from pinnsim.landscape.roots import fixed_points
from pinnsim.landscape.shifts import Shifts
from pinnsim.landscape.string import EnergyPath, energy_path
from pinnsim.landscape.system import System, dose, parameter, system_of

__all__ = [
    "ActionPath",
    "Attractors",
    "Barrier",
    "BirthDeath",
    "Branch",
    "Coordinate",
    "CriticalDuration",
    "Cycle",
    "EnergyPath",
    "ExitTime",
    "FoldCurve",
    "Grid",
    "Line",
    "MinimumAction",
    "OrnsteinUhlenbeck",
    "Potential",
    "Projection",
    "Push",
    "QuasiPotential",
    "RareRate",
    "Shifts",
    "SpecialPoint",
    "System",
    "action_of",
    "additive",
    "attractors_under",
    "barrier_table",
    "barriers",
    "birth_death_law",
    "chemical",
    "continuation",
    "critical_duration",
    "dose",
    "energy_path",
    "exit_time",
    "find_attractors",
    "fixed_points",
    "fokker_planck",
    "fold_curve",
    "grid",
    "line",
    "minimum_action",
    "ornstein_uhlenbeck",
    "parameter",
    "principal_components",
    "push",
    "quasi_potential",
    "shoot",
    "switch_branch",
    "system_of",
    "weighted_ensemble",
]

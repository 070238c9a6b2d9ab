"""The landscape: where a cell can rest or go round, what it takes to push it elsewhere, how likely and how soon it goes
there by itself, and what changes as a knob is turned. Which potential to use when: docs/landscapes.md."""

from pinnsim.landscape.action import ActionPath, MinimumAction, action_of, minimum_action
from pinnsim.landscape.agreement import EnsembleMap, ensemble_map
from pinnsim.landscape.attractors import Attractors, find_attractors
from pinnsim.landscape.attractors_under import attractors_under
from pinnsim.landscape.barriers import Barrier, barrier_table, barriers
from pinnsim.landscape.basins import Assignment, BasinVolumes, assign, basin_volumes
from pinnsim.landscape.birth_death import BirthDeath, birth_death_law
from pinnsim.landscape.continuation import Branch, FoldCurve, SpecialPoint, continuation, fold_curve, switch_branch
from pinnsim.landscape.critical import CriticalDose, CriticalDuration, Switch, critical_dose, critical_duration
from pinnsim.landscape.cycles import Cycle, shoot
from pinnsim.landscape.edges import AxisEdge, EdgeDistance, distance_along, distance_to_edge, edge_points
from pinnsim.landscape.fate_map import Border, FateMap, fate_map
from pinnsim.landscape.fates import Fates, fate_probabilities
from pinnsim.landscape.first_passage import Line, line
from pinnsim.landscape.fokker_planck import Grid, fokker_planck
from pinnsim.landscape.in_time import InTime, in_time
from pinnsim.landscape.members import Kept, MemberValleys
from pinnsim.landscape.noise import additive, chemical
from pinnsim.landscape.ornstein_uhlenbeck import OrnsteinUhlenbeck, ornstein_uhlenbeck
from pinnsim.landscape.plane import Plane, plane
from pinnsim.landscape.potential import Potential
from pinnsim.landscape.prefactor import ExitTime, exit_time
from pinnsim.landscape.projection import Projection, principal_components
from pinnsim.landscape.proportion import proportion_interval
from pinnsim.landscape.push import Push, grid, push
from pinnsim.landscape.quasi_potential import QuasiPotential, quasi_potential
from pinnsim.landscape.rare_events import Coordinate, RareRate, weighted_ensemble
from pinnsim.landscape.relief import Relief, relief_of_cells, relief_of_energy, relief_of_grid
from pinnsim.landscape.roots import fixed_points
from pinnsim.landscape.separatrix import Arm, Separatrix, separatrix
from pinnsim.landscape.shifts import Shifts
from pinnsim.landscape.string import EnergyPath, energy_path
from pinnsim.landscape.system import System, dose, parameter, system_of
from pinnsim.landscape.transitions import Transitions, nearest_cells, transitions
from pinnsim.landscape.verdict import Verdict

__all__ = [
    "ActionPath",
    "Arm",
    "Assignment",
    "Attractors",
    "AxisEdge",
    "Barrier",
    "BasinVolumes",
    "BirthDeath",
    "Border",
    "Branch",
    "Coordinate",
    "CriticalDose",
    "CriticalDuration",
    "Cycle",
    "EdgeDistance",
    "EnergyPath",
    "EnsembleMap",
    "ExitTime",
    "FateMap",
    "Fates",
    "FoldCurve",
    "Grid",
    "InTime",
    "Kept",
    "Line",
    "MemberValleys",
    "MinimumAction",
    "OrnsteinUhlenbeck",
    "Plane",
    "Potential",
    "Projection",
    "Push",
    "QuasiPotential",
    "RareRate",
    "Relief",
    "Separatrix",
    "Shifts",
    "SpecialPoint",
    "Switch",
    "System",
    "Transitions",
    "Verdict",
    "action_of",
    "additive",
    "assign",
    "attractors_under",
    "barrier_table",
    "barriers",
    "basin_volumes",
    "birth_death_law",
    "chemical",
    "continuation",
    "critical_dose",
    "critical_duration",
    "distance_along",
    "distance_to_edge",
    "dose",
    "edge_points",
    "energy_path",
    "ensemble_map",
    "exit_time",
    "fate_map",
    "fate_probabilities",
    "find_attractors",
    "fixed_points",
    "fokker_planck",
    "fold_curve",
    "grid",
    "in_time",
    "line",
    "minimum_action",
    "nearest_cells",
    "ornstein_uhlenbeck",
    "parameter",
    "plane",
    "principal_components",
    "proportion_interval",
    "push",
    "quasi_potential",
    "relief_of_cells",
    "relief_of_energy",
    "relief_of_grid",
    "separatrix",
    "shoot",
    "switch_branch",
    "system_of",
    "transitions",
    "weighted_ensemble",
]

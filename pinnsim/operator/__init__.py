"""Learned operators: from a state, a perturbation and rates to a whole course in one evaluation, certified against the
physics they obey.

Learning sits in the rates, physics in the stoichiometry: outputs are positive, exact at the start, bounded and
conserved for any weights.
"""

from pinnsim.operator.branch import BranchTrunk, branch_trunk
from pinnsim.operator.chain import Grid, graded
from pinnsim.operator.conformal import Conformal, calibrate, conformal_quantile, trajectory_error
from pinnsim.operator.domain import Domain, Draws, Kind, declare, gene_kinds, kind
from pinnsim.operator.form import AbstractOperator, Course
from pinnsim.operator.genes import GeneOperator, gene_operator
from pinnsim.operator.keep import OperatorConfig, build_operator, load_operator, save_operator
from pinnsim.operator.learn import OperatorPlan, Training, train
from pinnsim.operator.march import Predicted, predict
from pinnsim.operator.method import CertifiedOperator, Operator, certify, measured_errors, predict_many
from pinnsim.operator.reactions import ReactionOperator, reaction_operator

__all__ = [
    "AbstractOperator",
    "BranchTrunk",
    "CertifiedOperator",
    "Conformal",
    "Course",
    "Domain",
    "Draws",
    "GeneOperator",
    "Grid",
    "Kind",
    "Operator",
    "OperatorConfig",
    "OperatorPlan",
    "Predicted",
    "ReactionOperator",
    "Training",
    "branch_trunk",
    "build_operator",
    "calibrate",
    "certify",
    "conformal_quantile",
    "declare",
    "gene_kinds",
    "gene_operator",
    "graded",
    "kind",
    "load_operator",
    "measured_errors",
    "predict",
    "predict_many",
    "reaction_operator",
    "save_operator",
    "train",
    "trajectory_error",
]

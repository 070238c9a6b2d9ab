"""Learning: models fitted to data through solvers, from many starts, with every term of the objective named."""

from pinnsim.fit.cultures import Cultures, cultures
from pinnsim.fit.evaluate import Evaluation, Prediction, cross_condition, held_out_blocks, predict_cultures
from pinnsim.fit.fit import FitResult, fit, fit_groups
from pinnsim.fit.identify import edge_table, rate_table, verdict_counts
from pinnsim.fit.laplace import Laplace, laplace
from pinnsim.fit.plan import FitPlan

__all__ = [
    "Cultures",
    "Evaluation",
    "FitPlan",
    "FitResult",
    "Laplace",
    "Prediction",
    "cross_condition",
    "cultures",
    "edge_table",
    "fit",
    "fit_groups",
    "held_out_blocks",
    "laplace",
    "predict_cultures",
    "rate_table",
    "verdict_counts",
]

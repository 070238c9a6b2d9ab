"""Learning: models fitted to data through solvers, from many starts, with every term of the objective named."""

from pinnsim.fit.begin import MixtureBegin, RestBegin
from pinnsim.fit.cultures import Cultures, cultures
from pinnsim.fit.evaluate import Evaluation, Prediction, cross_condition, held_out_blocks, predict_cultures
from pinnsim.fit.fit import FitResult, fit, fit_groups
from pinnsim.fit.identify import edge_table, rate_table, verdict_counts
from pinnsim.fit.laplace import Laplace, laplace
from pinnsim.fit.match import AbstractMatch, ByDistance, ByLikelihood
from pinnsim.fit.moments import (
    ByMoments,
    MomentData,
    MomentFit,
    MomentModel,
    MomentPrior,
    fit_moments,
    moments_of,
    predicted_moments,
)
from pinnsim.fit.plan import FitPlan
from pinnsim.fit.population import (
    AbstractBegin,
    AbstractPush,
    Extrinsic,
    Intrinsic,
    LogNormalBegin,
    PopulationModel,
    PopulationPrior,
    SampledBegin,
)
from pinnsim.fit.snapshots import SnapshotFit, fit_snapshots, populations, simulate_populations

__all__ = [
    "AbstractBegin",
    "AbstractMatch",
    "AbstractPush",
    "ByDistance",
    "ByLikelihood",
    "ByMoments",
    "Cultures",
    "Evaluation",
    "Extrinsic",
    "FitPlan",
    "FitResult",
    "Intrinsic",
    "Laplace",
    "LogNormalBegin",
    "MixtureBegin",
    "MomentData",
    "MomentFit",
    "MomentModel",
    "MomentPrior",
    "PopulationModel",
    "PopulationPrior",
    "Prediction",
    "RestBegin",
    "SampledBegin",
    "SnapshotFit",
    "cross_condition",
    "cultures",
    "edge_table",
    "fit",
    "fit_groups",
    "fit_moments",
    "fit_snapshots",
    "held_out_blocks",
    "laplace",
    "moments_of",
    "populations",
    "predict_cultures",
    "predicted_moments",
    "rate_table",
    "simulate_populations",
    "verdict_counts",
]

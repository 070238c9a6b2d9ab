"""Learning: models fitted to data through solvers, from many starts, with every term of the objective named."""

from pinnsim.fit.attended import attention_table
from pinnsim.fit.begin import MixtureBegin, SettledBegin
from pinnsim.fit.cultures import Cultures, cultures
from pinnsim.fit.draws import Draws
from pinnsim.fit.evaluate import (
    Evaluation,
    Prediction,
    cross_condition,
    held_out_blocks,
    predict_cultures,
    predict_splits,
)
from pinnsim.fit.fit import FitResult, fit, fit_groups
from pinnsim.fit.fitted import Fitted, fitted_courses
from pinnsim.fit.identify import edge_table, rate_table, verdict_counts
from pinnsim.fit.landscape import LandscapeFit, fit_landscape, landscape_misfit
from pinnsim.fit.laplace import Laplace, laplace
from pinnsim.fit.match import AbstractMatch, ByDistance, ByLikelihood
from pinnsim.fit.measured import cell_model, cell_states, population_prior, reading_scale, usual_config
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
from pinnsim.fit.nuts import nuts
from pinnsim.fit.own_kinetics import KineticFit, fit_kinetics
from pinnsim.fit.plan import FitPlan
from pinnsim.fit.population import (
    AbstractBegin,
    AbstractPush,
    Extrinsic,
    Intrinsic,
    LogNormalBegin,
    PopulationModel,
    PopulationPrior,
    RestingBegin,
    SampledBegin,
)
from pinnsim.fit.population_laplace import laplace_snapshots, polish_snapshots
from pinnsim.fit.profile import Profiles, profile
from pinnsim.fit.propose import listed_edges, propose_edges
from pinnsim.fit.recovery import Recovery, aupr, rank_edges
from pinnsim.fit.snapshots import (
    Populations,
    SnapshotFit,
    fit_data,
    fit_populations,
    fit_snapshots,
    populations,
    simulate_populations,
)
from pinnsim.fit.spectrum import fisher_spectrum
from pinnsim.fit.stepped import Stepped
from pinnsim.fit.target import Target, target

__all__ = [
    "AbstractBegin",
    "AbstractMatch",
    "AbstractPush",
    "ByDistance",
    "ByLikelihood",
    "ByMoments",
    "Cultures",
    "Draws",
    "Evaluation",
    "Extrinsic",
    "FitPlan",
    "FitResult",
    "Fitted",
    "Intrinsic",
    "KineticFit",
    "LandscapeFit",
    "Laplace",
    "LogNormalBegin",
    "MixtureBegin",
    "MomentData",
    "MomentFit",
    "MomentModel",
    "MomentPrior",
    "PopulationModel",
    "PopulationPrior",
    "Populations",
    "Prediction",
    "Profiles",
    "Recovery",
    "RestingBegin",
    "SampledBegin",
    "SettledBegin",
    "SnapshotFit",
    "Stepped",
    "Target",
    "attention_table",
    "aupr",
    "cell_model",
    "cell_states",
    "cross_condition",
    "cultures",
    "edge_table",
    "fisher_spectrum",
    "fit",
    "fit_data",
    "fit_groups",
    "fit_kinetics",
    "fit_landscape",
    "landscape_misfit",
    "fit_moments",
    "fit_populations",
    "fit_snapshots",
    "fitted_courses",
    "held_out_blocks",
    "laplace",
    "laplace_snapshots",
    "listed_edges",
    "moments_of",
    "nuts",
    "polish_snapshots",
    "population_prior",
    "populations",
    "predict_cultures",
    "predict_splits",
    "predicted_moments",
    "profile",
    "propose_edges",
    "rank_edges",
    "rate_table",
    "reading_scale",
    "simulate_populations",
    "target",
    "usual_config",
    "verdict_counts",
]

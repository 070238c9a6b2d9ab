"""Pictures: every function takes values and returns matplotlib axes; `save` writes and closes the figure."""

from pinnsim.plot.bifurcation import bifurcation_diagram, phase_portrait
from pinnsim.plot.design import policy_courses, ranked_bars
from pinnsim.plot.landscape import Course, Mark, dose_duration_map, landscape_2d
from pinnsim.plot.learning import prior_posterior, training_history
from pinnsim.plot.perturbations import knockout_heatmap
from pinnsim.plot.scores import score_bars
from pinnsim.plot.style import save
from pinnsim.plot.trajectories import fit_panels, pulse_panel
from pinnsim.plot.uncertainty import profile_panels, rank_histograms, spectrum_panel

__all__ = [
    "Course",
    "Mark",
    "bifurcation_diagram",
    "dose_duration_map",
    "fit_panels",
    "knockout_heatmap",
    "landscape_2d",
    "phase_portrait",
    "policy_courses",
    "prior_posterior",
    "profile_panels",
    "pulse_panel",
    "rank_histograms",
    "ranked_bars",
    "save",
    "score_bars",
    "spectrum_panel",
    "training_history",
]

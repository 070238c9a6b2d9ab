"""Pictures: every function takes values and returns matplotlib axes; `save` writes and closes the figure."""

from pinnsim.plot.animation import push_gif
from pinnsim.plot.arrows import embedding_arrows, mean_steps, selection_scatter
from pinnsim.plot.bifurcation import bifurcation_diagram, phase_portrait
from pinnsim.plot.contour import landscape_contour
from pinnsim.plot.design import policy_courses, ranked_bars
from pinnsim.plot.fate_map import fate_map_panel
from pinnsim.plot.fates import fate_bars, fate_flow, fate_table
from pinnsim.plot.interactive import landscape_interactive, write_html
from pinnsim.plot.landscape import Course, dose_duration_map, landscape_2d
from pinnsim.plot.landscape3d import landscape_3d, landscape_panels
from pinnsim.plot.learning import prior_posterior, training_history
from pinnsim.plot.marks import Mark
from pinnsim.plot.perturbations import knockout_heatmap
from pinnsim.plot.phase import plane_portrait
from pinnsim.plot.populations import course_panels, population_panels
from pinnsim.plot.problem import problem_panels
from pinnsim.plot.rates import rate_law
from pinnsim.plot.reprogramming import reprogramming_panels
from pinnsim.plot.scores import score_bars
from pinnsim.plot.screen import ranked_intervals, synergy_map
from pinnsim.plot.style import save
from pinnsim.plot.sweep import sweep_map
from pinnsim.plot.trajectories import fit_panels, pulse_panel
from pinnsim.plot.uncertainty import profile_panels, rank_histograms, spectrum_panel

__all__ = [
    "Course",
    "Mark",
    "bifurcation_diagram",
    "course_panels",
    "dose_duration_map",
    "embedding_arrows",
    "fate_bars",
    "fate_flow",
    "fate_map_panel",
    "fate_table",
    "fit_panels",
    "knockout_heatmap",
    "landscape_2d",
    "landscape_3d",
    "landscape_contour",
    "landscape_interactive",
    "landscape_panels",
    "mean_steps",
    "phase_portrait",
    "plane_portrait",
    "policy_courses",
    "population_panels",
    "prior_posterior",
    "problem_panels",
    "profile_panels",
    "pulse_panel",
    "push_gif",
    "rank_histograms",
    "ranked_bars",
    "ranked_intervals",
    "rate_law",
    "reprogramming_panels",
    "save",
    "score_bars",
    "selection_scatter",
    "spectrum_panel",
    "sweep_map",
    "synergy_map",
    "training_history",
    "write_html",
]

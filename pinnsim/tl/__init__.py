"""Tools on a prepared AnnData object: fit a model, simulate and perturb it, find its landscape, its cells' fates, and
the chain it makes of the measured cells. They write under names that begin with `pinnsim_`."""

from pinnsim.tl.fit import USUAL, fit, use_model
from pinnsim.tl.landscape import attractors_of, fate, landscape, relief_of
from pinnsim.tl.simulate import perturb, simulate
from pinnsim.tl.transitions import transition_matrix

__all__ = [
    "USUAL",
    "attractors_of",
    "fate",
    "fit",
    "landscape",
    "perturb",
    "relief_of",
    "simulate",
    "transition_matrix",
    "use_model",
]

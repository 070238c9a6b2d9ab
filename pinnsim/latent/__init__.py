"""Latent models: cells as a few numbers, learned together with the landscape these move in.

An encoder and a decoder of counts (or logarithms) are trained by predicting the next time's embeddings and by
reconstruction; a kinetic model may say what the decoder starts from. Collapse is measured, and cells unlike those it
was trained on are flagged.
"""

from pinnsim.latent.anchor import kinetic_anchor
from pinnsim.latent.cells import Cells, cells_of
from pinnsim.latent.collapse import Spread, spread_of
from pinnsim.latent.domain import Domain, OutOfDomain
from pinnsim.latent.keep import load_latent, save_latent
from pinnsim.latent.learn import Followed
from pinnsim.latent.model import Arrival, LatentModel
from pinnsim.latent.network import Anchor, Decoder, Encoder, LatentNetwork
from pinnsim.latent.plan import LatentPlan
from pinnsim.latent.train import LatentFit, fit_latent

__all__ = [
    "Anchor",
    "Arrival",
    "Cells",
    "Decoder",
    "Domain",
    "Encoder",
    "Followed",
    "LatentFit",
    "LatentModel",
    "LatentNetwork",
    "LatentPlan",
    "OutOfDomain",
    "Spread",
    "cells_of",
    "fit_latent",
    "kinetic_anchor",
    "load_latent",
    "save_latent",
    "spread_of",
]

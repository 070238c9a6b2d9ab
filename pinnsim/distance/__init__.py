"""Distances between populations of cells: what a snapshot is compared by, as nobody saw the same cell twice."""

from pinnsim.distance.between import between, over_times
from pinnsim.distance.cost import AbstractCost, Cosine, Euclidean, SquaredEuclidean
from pinnsim.distance.discrepancy import MeanDiscrepancy
from pinnsim.distance.distance import AbstractDistance, Distance, Match
from pinnsim.distance.energy import Energy
from pinnsim.distance.minibatch import minibatch
from pinnsim.distance.sinkhorn import Sinkhorn

__all__ = [
    "AbstractCost",
    "AbstractDistance",
    "Cosine",
    "Distance",
    "Energy",
    "Euclidean",
    "Match",
    "MeanDiscrepancy",
    "Sinkhorn",
    "SquaredEuclidean",
    "between",
    "minibatch",
    "over_times",
]

"""Reprogramming: which edits, how strong and for how long, move a cell from one valley to another with least effort."""

from pinnsim.reprogramming.bound import Bound, least_action
from pinnsim.reprogramming.edits import KNOCKOUT, default_edits
from pinnsim.reprogramming.reprogram import reprogram
from pinnsim.reprogramming.result import Ending, Plan, Reprogramming, Search
from pinnsim.reprogramming.robustness import Robustness

__all__ = [
    "KNOCKOUT",
    "Bound",
    "Ending",
    "Plan",
    "Reprogramming",
    "Robustness",
    "Search",
    "default_edits",
    "least_action",
    "reprogram",
]

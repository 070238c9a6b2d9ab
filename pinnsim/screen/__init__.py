"""Screens: what every perturbation does, alone and together with others, and how sure that is."""

from pinnsim.screen.interaction import TERMS
from pinnsim.screen.result import Screen
from pinnsim.screen.screen import screen

__all__ = ["TERMS", "Screen", "screen"]

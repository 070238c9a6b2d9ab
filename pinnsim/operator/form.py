"""What every operator is: one window of time at once, from a state to a whole course, and what it is unsure of.

A window is a stretch without switches, of any length up to the operator's own. A course is known at the window's nodes
and, through its pieces, anywhere between. Long times and switches are compositions of windows (`march`).
"""

import abc
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.parameter import Parameter
from pinnsim.perturbation import Edits
from pinnsim.shapes import Scalar, State

DOUBTS = ("sweep", "bend")


class Course(NamedTuple):
    """One window.

    **Arguments:** `states`: (node, species); `pieces`: what `between` reads; `doubts`: (2,), each >= 0 and relative:
    how much the last evaluation of the true rates moved the state, and how much the course bends between nodes.
    """

    states: Float[Array, "node species"]
    pieces: Any
    doubts: Float[Array, " doubt"]


class AbstractOperator(eqx.Module):
    """From a state, edits that do not change, and rates (those of `kinetics`) to the course of one window.

    **Arguments:** `windows`: how many equal windows a stretch between two switches is cut into;
    `floor`: (species,), amounts below which errors are no longer relative (0 for hidden activities).
    """

    windows: eqx.AbstractVar[int]
    floor: eqx.AbstractVar[Parameter]

    @property
    @abc.abstractmethod
    def nodes(self) -> np.ndarray:
        """Where the nodes lie, as shares of a window, (node,), 0 to 1."""

    @abc.abstractmethod
    def course(self, kinetics: AbstractKinetics, edits: Edits, state: State, length: Scalar) -> Course:
        """The course from `state`. Pure, for one cell; `kinetics` and the operator are resolved."""

    @abc.abstractmethod
    def between(self, kinetics: AbstractKinetics, edits: Edits, course: Course, length: Scalar, share: Scalar) -> State:
        """The state at a share of the window, as exact as at nodes, (species,)."""

    @abc.abstractmethod
    def physics_residual(
        self, kinetics: AbstractKinetics, edits: Edits, state: State, length: Scalar
    ) -> Float[Array, "node species"]:
        """How far the course is from what the true rates make of it, per species, in natural logarithms; 0 everywhere
        for an exact solution. What training without data makes small."""

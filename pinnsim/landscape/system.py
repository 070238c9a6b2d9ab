"""An autonomous cell in the directions in which it can move, and the knobs that may be turned on it.

What is held, and what the reactions conserve, is no degree of freedom: states are `x = base + B y` with orthonormal
columns B, and the flow of y is

    y' = B' f(base + B y; knobs).

Without holds and conserved totals B is the identity and y = x. So Jacobians are regular where nothing bifurcates, and
the same program serves every treatment. A knob is one number on which the flow depends: an array leaf of the model,
or the dose of a treatment (signals included: `signal(malate)=1` at dose 2 is a signal of 2).
"""

import abc
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError, did_you_mean
from pinnsim.landscape.coordinates import Numbers, frozen, kinetics_of, require_states, resolved
from pinnsim.landscape.dosage import linear_in_dose
from pinnsim.model import CellModel
from pinnsim.perturbation import Constant, Edits, Perturbation
from pinnsim.shapes import Scalar, State
from pinnsim.treatment import NONE, Treatment, as_treatment
from pinnsim.tree import named_leaves, path_name, replaced

Vector = Float[Array, " free"]


class AbstractKnob(eqx.Module):
    """One number on which the flow depends."""

    @abc.abstractmethod
    def turned(self, kinetics: AbstractKinetics, acting: Edits, value: Scalar) -> tuple[AbstractKinetics, Edits]:
        """The cell and its treatment with the knob at `value`."""


class ParameterKnob(AbstractKnob):
    """An array leaf of the resolved equations, all its entries or one. **Arguments:** `leaf`: its name; `entry`: index,
    `None` for all entries."""

    leaf: str = eqx.field(static=True)
    entry: int | None = eqx.field(static=True)

    def turned(self, kinetics: AbstractKinetics, acting: Edits, value: Scalar) -> tuple[AbstractKinetics, Edits]:
        old = _leaf(kinetics, self.leaf)
        new = jnp.full_like(old, 1.0) * value if self.entry is None else old.ravel().at[self.entry].set(value)
        return replaced(kinetics, {self.leaf: new.reshape(old.shape)}), acting


class DoseKnob(AbstractKnob):
    """The dose of a treatment that lasts, beside what already acts: `zero + dose * slope`, of one phase and for ever.

    **Arguments:** `saturating`: whether the effect is a Hill function of the dose, not proportional to it.
    """

    zero: Perturbation
    slope: Perturbation
    saturating: bool = eqx.field(static=True)

    def turned(self, kinetics: AbstractKinetics, acting: Edits, value: Scalar) -> tuple[AbstractKinetics, Edits]:
        scaled = jax.tree.map(lambda zero, slope: zero + value * slope, self.zero, self.slope)
        if self.saturating:
            now = frozen(scaled, jnp.inf).at(jnp.zeros_like(value))
        else:  # what has no threshold is read as it is: half the program
            now = Edits(
                factor=scaled.factor[0],
                activity=scaled.activity[0],
                drive=scaled.drive[0],
                hold=scaled.hold[0] > 0,
                level=scaled.level[0],
                edge_factor=scaled.edge_factor[0],
                signal=scaled.signal[0],
            )
        both = Edits(
            factor=acting.factor * now.factor,
            activity=acting.activity * now.activity,
            drive=acting.drive + now.drive,
            hold=acting.hold | now.hold,
            level=jnp.where(now.hold, now.level, acting.level),
            edge_factor=acting.edge_factor * now.edge_factor,
            signal=acting.signal + now.signal,
        )
        return kinetics, both


class System(eqx.Module):
    """A cell under a lasting treatment in its free coordinates.

    **Arguments:** `kinetics`, `acting`: the cell, resolved, and what acts for ever; `knobs`: in the order of
    their values; `base`: (species,); `basis`: (species, free), orthonormal columns.
    """

    kinetics: AbstractKinetics
    acting: Edits
    knobs: tuple[AbstractKnob, ...]
    base: State
    basis: Float[Array, "species free"]

    def turned(self, values: Float[Array, " knob"]) -> tuple[AbstractKinetics, Constant]:
        """The cell with its knobs at these values."""
        kinetics, acting = self.kinetics, self.acting
        for number, knob in enumerate(self.knobs):
            kinetics, acting = knob.turned(kinetics, acting, values[number])
        return kinetics, Constant(acting)

    def state(self, y: Vector) -> State:
        """x of free coordinates."""
        return self.base + self.basis @ y

    def free(self, state: State) -> Vector:
        """Free coordinates of a state."""
        return self.basis.T @ state

    def force(self, y: Vector, values: Float[Array, " knob"]) -> Vector:
        """y', per time unit."""
        kinetics, acting = self.turned(values)
        return self.basis.T @ kinetics.vector_field(jnp.zeros((), y.dtype), self.state(y), acting)


def system_of(
    model: CellModel | AbstractKinetics,
    treatment: Treatment | Perturbation | str = NONE,
    state: Numbers | None = None,
    knobs: Sequence[AbstractKnob] = (),
) -> System:
    """The autonomous system of a model under what of a treatment never ends.

    **Arguments:** `state`: (species,), fixes conserved totals and held levels (default: the model's default state).

    **Raises** `E_USAGE` (single precision, NaN parameters, unknown leaf), `E_INIT`, `E_PERTURB_...`.
    """
    kinetics = kinetics_of(model)
    for knob in knobs:
        if isinstance(knob, ParameterKnob):
            _check_leaf(kinetics, knob)
    acting = frozen(resolved(treatment, kinetics), jnp.inf).at(jnp.zeros(()))
    here = np.asarray(kinetics.default_state() if state is None else state, dtype=float)
    require_states(here[None] if here.ndim == 1 else here, kinetics, "state")
    hold, level = np.asarray(acting.hold), np.asarray(acting.level)
    driven = np.asarray(acting.drive != 0)
    for knob in knobs:
        if isinstance(knob, DoseKnob):
            hold = hold | np.asarray((knob.zero.hold + knob.slope.hold > 0).any(axis=0))
            driven = driven | np.asarray((knob.slope.drive != 0).any(axis=0))
    basis = _basis(kinetics, hold, driven, np.asarray(acting.factor != 0))
    here = np.where(hold, level, here)
    base = here - basis @ (basis.T @ here)
    return System(kinetics, acting, tuple(knobs), jnp.asarray(base), jnp.asarray(basis))


def parameter(leaf: str, entry: int | None = None) -> ParameterKnob:
    """The knob of a model's array leaf, for example `parameter("law/strength", 0)`; all entries without `entry`.

    Names are those of `pinnsim.tree.named_leaves` of the resolved equations.
    """
    return ParameterKnob(leaf, entry)


def dose(model: CellModel | AbstractKinetics, template: Treatment | str) -> DoseKnob:
    """The knob that turns the dose of a treatment, for example `dose(model, "drive(GATA1)=1")` or `"signal(malate)=1"`.

    **Raises** `E_USAGE` for templates that are not proportional to a dose, `E_PERTURB_...`.
    """
    zero, slope, _ = linear_in_dose(as_treatment(template), kinetics_of(model))
    return DoseKnob(zero, slope, zero.phases > 1 or bool((zero.ic50 > 0).any()))


def jacobian(system: System, y: Vector, values: Float[Array, " knob"]) -> Float[Array, "free free"]:
    """d y'_i / d y_j, exact."""
    return jax.jacfwd(system.force)(y, values)


def _leaf(kinetics: AbstractKinetics, name: str) -> Array:
    found: list[Array] = []

    def keep(path: tuple, leaf: Array) -> Array:
        if path_name(path) == name:
            found.append(leaf)
        return leaf

    jax.tree_util.tree_map_with_path(keep, eqx.filter(kinetics, eqx.is_array))
    return found[0]


def _check_leaf(kinetics: AbstractKinetics, knob: ParameterKnob) -> None:
    leaves = {name: leaf for name, leaf in named_leaves(kinetics).items() if leaf.dtype.kind == "f"}
    if knob.leaf not in leaves:
        raise PinnsimError.of(
            "E_USAGE",
            f"'{knob.leaf}' is not among the model's {len(leaves)} parameters{did_you_mean(knob.leaf, leaves)}; list "
            "them with pinnsim.tree.named_leaves.",
        )
    size = leaves[knob.leaf].size
    if knob.entry is not None and not 0 <= knob.entry < size:
        raise PinnsimError.of("E_USAGE", f"Entry {knob.entry} of '{knob.leaf}' is not there; it has {size} entries.")


def _basis(kinetics: AbstractKinetics, hold: np.ndarray, driven: np.ndarray, running: np.ndarray) -> np.ndarray:
    """Orthonormal directions of motion: what running reactions and drives change, less what is held."""
    count = len(hold)
    unit, free = np.eye(count), ~hold
    plain = unit[:, free]
    changes = kinetics.stoichiometry().astype(float)
    if not changes.shape[1]:
        return plain
    moved = np.concatenate([changes[:, running], unit[:, driven]], axis=1)
    moved = np.concatenate([moved, unit[:, ~np.asarray(kinetics.material())]], axis=1)[free]
    if not moved.shape[1] or np.linalg.matrix_rank(moved) == free.sum():
        return plain
    left, size, _ = np.linalg.svd(moved, full_matrices=False)
    basis = np.zeros((count, int((size > 1e-10 * size.max(initial=1.0)).sum())))
    basis[free] = left[:, : basis.shape[1]]
    return basis

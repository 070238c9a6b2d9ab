"""Models that differ in their numbers only, and the valleys that each of them has: what a verdict must survive.

Members are draws of a posterior, fits from other starts, or any list of models with the same equations. A member's
attractors are its own: from each attractor of the reference the member's own flow is followed to where it rests
(pseudo-transient continuation, certified), all members and points in one program, and compared:

    kept       a stable point, and nearer to the reference's own than to any other of the reference's
    merged     it flows to another of the reference's valleys: this one is no more
    unstable   it rests where no cell can stay
    lost       nothing certified was found (it goes round, runs away, or is not finite)
"""

import dataclasses
import enum
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError
from pinnsim.landscape.coordinates import coordinates, distance, floors, frozen
from pinnsim.landscape.fixed_points import classify
from pinnsim.model import CellModel
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import State
from pinnsim.simulate import Outcome, steady_state
from pinnsim.tree import brief, named_leaves, named_shapes, stack

Models = CellModel | AbstractKinetics | Sequence[CellModel] | Sequence[AbstractKinetics]


class Kept(enum.IntEnum):
    """What became of a reference's valley in a member."""

    KEPT = 0
    MERGED = 1
    UNSTABLE = 2
    LOST = 3

    @property
    def sentence(self) -> str:
        """What it means for a reader."""
        return {
            Kept.KEPT: "has the valley",
            Kept.MERGED: "flows from there to another valley",
            Kept.UNSTABLE: "rests there, but is not stable",
            Kept.LOST: "does not come to rest from there",
        }[self]


@dataclasses.dataclass(frozen=True)
class MemberValleys:
    """The valleys of every member.

    **Arguments:** `states`: (member, point, species), NaN where a valley is not kept; `kind`: (member, point), see
    `Kept`; `names`: of the reference's valleys, (point,).
    """

    __repr__ = brief

    states: np.ndarray
    kind: np.ndarray
    names: tuple[str, ...]

    @property
    def same(self) -> np.ndarray:
        """(member,), whether it has all valleys of the reference."""
        return (self.kind == Kept.KEPT).all(axis=1)

    def table(self) -> pd.DataFrame:
        """A row per member, a column per valley, in words."""
        words = [[Kept(int(k)).sentence for k in row] for row in self.kind]
        return pd.DataFrame(words, columns=list(self.names), index=pd.RangeIndex(len(self.kind), name="member"))

    def describe(self) -> str:
        """One plain sentence."""
        count = len(self.kind)
        parts = [f"{int(self.same.sum())} of {count} members have all {len(self.names)} valleys of the reference"]
        for k, name in enumerate(self.names):
            lost = int((self.kind[:, k] != Kept.KEPT).sum())
            if lost:
                parts.append(f"{lost} lack {name}")
        return ", ".join(parts) + "."


def stacked(reference: AbstractKinetics, members: Models) -> AbstractKinetics:
    """Equations of the reference and then of all members, resolved, every array with a leading axis for them.

    **Arguments:** `members`: one model whose arrays have a leading member axis (`Draws.sample`), or a list of models.

    **Raises** `E_USAGE` for no member and for members whose equations differ in more than their numbers.
    """
    if isinstance(members, Sequence):
        each = [resolve(m.kinetics if isinstance(m, CellModel) else m) for m in members]
        shapes = [named_shapes(m) for m in each]
    else:
        inner = members.kinetics if isinstance(members, CellModel) else members
        whole = eqx.filter_vmap(resolve)(inner)
        leading = {shape[:1] for shape in named_shapes(whole).values()}
        shapes = [{name: shape[1:] for name, shape in named_shapes(whole).items()}] if len(leading) == 1 else [{}]
        each = []
    wanted = named_shapes(reference)
    if not shapes or any(own != wanted for own in shapes):
        raise PinnsimError.of(
            "E_USAGE",
            f"Argument `members` must hold one or more models with the {len(wanted)} parameter arrays of the "
            "reference; give a list of such models, or one whose arrays have a leading member axis.",
        )
    if each:
        every = stack([reference, *each])
    else:
        ours, rest = eqx.partition(reference, eqx.is_array)
        theirs = eqx.filter(whole, eqx.is_array)
        leaves = [jnp.concatenate([a[None], b]) for a, b in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True)]
        every = eqx.combine(jax.tree.unflatten(jax.tree.structure(ours), leaves), rest)
    for name, leaf in named_leaves(every).items():
        if leaf.dtype.kind != "f" and (leaf != leaf[:1]).any():
            raise PinnsimError.of(
                "E_USAGE",
                f"Members differ from the reference in '{name}', which is no rate; give models of one network.",
            )
    return every


def member_valleys(
    kinetics: AbstractKinetics, treatment: Perturbation, points: np.ndarray, names: tuple[str, ...]
) -> MemberValleys:
    """The members' own valleys beside the reference's.

    **Arguments:** `kinetics`: `stacked`; `treatment`: what acts all the time; `points`: (point, species), stable points
    of the reference.
    """
    acting = frozen(treatment, np.inf)
    states, jacobians, certified, gaps = (np.asarray(a) for a in _settled(kinetics, acting, jnp.asarray(points)))
    free = ~np.asarray(acting.hold[0] > 0)
    kind = np.full(certified.shape, Kept.LOST)
    for place in np.argwhere(certified):
        m, k = place
        inner = jacobians[m, k][np.ix_(free, free)]
        if not np.isfinite(inner).all():
            continue
        norm = float(np.linalg.norm(inner, 2)) if inner.size else 0.0
        stable = classify(np.linalg.eigvals(inner).astype(complex), norm)[0] == "stable"
        nearest = int(np.argmin(gaps[m, k])) == k
        kind[m, k] = Kept.UNSTABLE if not stable else Kept.KEPT if nearest else Kept.MERGED
    return MemberValleys(np.where((kind == Kept.KEPT)[..., None], states, np.nan), kind, names)


@eqx.filter_jit
def _settled(
    kinetics: AbstractKinetics, acting: Perturbation, points: Float[Array, "point species"]
) -> tuple[Array, Array, Array, Array]:
    """Where each member rests from each point, the Jacobian there, whether that is certified, and how far it is from
    every point."""

    def one(kinetics: AbstractKinetics, point: State) -> tuple[Array, Array, Array, Array]:
        found = steady_state(kinetics, acting, point)
        certified = found.outcome == Outcome.DONE
        state = jnp.where(certified, found.state, point)
        jacobian = jax.jacfwd(lambda x: kinetics.vector_field(jnp.zeros((), x.dtype), x, acting))(state)
        floor, material = floors(kinetics), kinetics.material()
        known = coordinates(points, floor, material)
        gaps = distance(jnp.broadcast_to(coordinates(state, floor, material), known.shape), known)
        return state, jacobian, certified, gaps

    return eqx.filter_vmap(lambda kinetics: jax.vmap(lambda point: one(kinetics, point))(points))(kinetics)

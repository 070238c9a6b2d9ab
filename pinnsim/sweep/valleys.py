"""The landscape of every point: where the cell that a point describes can rest, and to which valley a push took it.

Each point has numbers of its own, so it has attractors of its own. Its lanes are the state it began in, the state it
ended in, and `starts` states shared by all points (Sobol points of a box); all follow the point's flow under what acts
for ever, without the push. Those that have come to rest are gathered, one of each place is polished by Newton's method
and certified by its residual and the eigenvalues of its exact Jacobian, as in `pinnsim.landscape.resting`:

    x' = f(x; p) = 0,   Re eig(df/dx) < 0.

Valley 0 is the one that the point's cell begins in (where it comes to rest), the others follow in the order in which
starts reach them. All but the eigenvalues, which are LAPACK's on the host, is part of the one compiled program.

Source: S. Huang, G. Eichler, Y. Bar-Yam and D. E. Ingber, Phys. Rev. Lett. 94:128701 (2005), attractors as cell types.
"""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.landscape.attractors import ARRIVED
from pinnsim.landscape.coordinates import coordinates, distance, floors
from pinnsim.landscape.fixed_points import jacobian_at
from pinnsim.landscape.resting import different, spectra
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import Scalar, State
from pinnsim.simulate import Outcome, steady_state
from pinnsim.simulate.solve import Solution

RAW = "search/"  # begins the names of what the host has still to judge
RETURNED, SWITCHED, NOWHERE, UNKNOWN = 0, 1, 2, -1
MEANINGS = "0 back in the valley it came from, 1 in another, 2 comes to rest nowhere known, -1 failed"

_TOGETHER = 3e-3  # lanes that ended closer than this in every coordinate are polished as one
_LAST = 0.9  # share of the span after which a lane that arrives hardly moves
_STEPS = 24  # of Newton's method
_SAME = 1e-6  # relative, points closer than this are one


class Search(eqx.Module):
    """How valleys are looked for.

    **Arguments:** `starts`: (start, species), shared by all points; `span`: how long they are followed; `most`: valleys
    that are kept of a point.
    """

    starts: Float[Array, "start species"]
    span: Scalar
    most: int = eqx.field(static=True)

    @property
    def times(self) -> Float[Array, " 3"]:
        """When lanes are looked at."""
        return jnp.stack([jnp.zeros_like(self.span), _LAST * self.span, self.span])

    def lanes(
        self, begin: Float[Array, "point species"], end: Float[Array, "point species"]
    ) -> Float[Array, "point lane species"]:
        """Where all lanes of all points start."""
        end = jnp.where(jnp.isfinite(end), end, begin)
        shared = jnp.broadcast_to(self.starts[None], (begin.shape[0], *self.starts.shape))
        return jnp.concatenate([begin[:, None], end[:, None], shared], axis=1)

    def gathered(self, kinetics: AbstractKinetics, acting: Perturbation, found: Solution) -> dict[str, Array]:
        """The rests of one point's lanes, polished.

        **Arguments:** `found`: of the lanes, (lane, 3, species).
        """
        material, floor = kinetics.material(), floors(kinetics)
        states = jnp.where(material[None, None], jnp.maximum(found.states, 0.0), found.states)
        fine = (found.outcome == Outcome.DONE) & jnp.all(jnp.isfinite(states), axis=(1, 2))
        here = coordinates(jnp.where(fine[:, None, None], states, 1.0), floor, material)
        still = fine & (distance(here[:, 1], here[:, 2]) <= ARRIVED)
        first = _leaders(here[:, 2], still)
        leads = first == jnp.arange(len(first))
        rank = jnp.cumsum(leads) - 1
        chosen = jnp.nonzero(leads, size=self.most, fill_value=0)[0]

        def polished(guess: State) -> tuple[State, Bool[Array, ""], Float[Array, "row column"]]:
            rest = steady_state(kinetics, acting, guess, max_steps=_STEPS)
            return rest.state, rest.outcome == Outcome.DONE, jacobian_at(kinetics, acting, rest.state)

        guesses = jnp.where(fine[chosen][:, None], states[chosen, 2], 1.0)
        rests, certified, jacobians = jax.vmap(polished)(guesses)
        safe = jnp.where(jnp.isfinite(rests), rests, 1.0)
        near = distance(coordinates(safe, floor, material), here[chosen, 2]) <= ARRIVED
        good = certified & near & (jnp.arange(self.most) < jnp.sum(leads))
        good = good & jnp.all(jnp.isfinite(jacobians), axis=(1, 2)) & jnp.all(jnp.isfinite(rests), axis=1)
        slot = jnp.where(first >= 0, rank[jnp.maximum(first, 0)], -1)
        return {
            f"{RAW}state": rests,
            f"{RAW}good": good,
            f"{RAW}jacobian": jnp.where(good[:, None, None], jacobians, 0.0),
            f"{RAW}held": acting.hold[0] > 0,
            f"{RAW}slot": jnp.where(slot < self.most, slot, -1).astype(jnp.int32),
        }


def _leaders(here: Float[Array, "lane species"], valid: Bool[Array, " lane"]) -> Int[Array, " lane"]:
    """The first lane that each lane is near to, -1 for those that are not `valid`."""

    def one(k: Array, first: Int[Array, " lane"]) -> Int[Array, " lane"]:
        leads = valid[k] & (first[k] < 0)
        near = jnp.max(jnp.abs(here - here[k][None]), axis=1) < _TOGETHER
        return jnp.where(valid & (first < 0) & leads & near, k, first)

    count = here.shape[0]
    return jax.lax.fori_loop(0, count, one, jnp.full(count, -1, dtype=int))


def judged(found: Mapping[str, np.ndarray], material: np.ndarray, record: tuple[str, ...]) -> dict[str, np.ndarray]:
    """What is kept of points: certified stable rests, told apart, and verdicts.

    **Arguments:** `found`: what `run_block` gave, (point, ...), raw numbers of the search among it.
    """
    states, good, jacobians, held, slot = (
        found[f"{RAW}{name}"] for name in ("state", "good", "jacobian", "held", "slot")
    )
    points, most, species = states.shape
    leading, kinds = spectra(jacobians.reshape(-1, species, species), np.repeat(held, most, axis=0))
    stable = good & (np.array(kinds) == "stable").reshape(points, most)
    first = different(np.where(stable[..., None], states, np.nan), material, _SAME)
    keep = first == np.arange(most)
    # Valleys without gaps, in the order in which they were found.
    order = np.argsort(~keep, axis=1, kind="stable")
    number = np.where(keep, np.cumsum(keep, axis=1) - 1, -1)
    number = np.where(first >= 0, np.take_along_axis(number, np.maximum(first, 0), axis=1), -1)
    lane = np.where(slot >= 0, np.take_along_axis(number, np.maximum(slot, 0), axis=1), -1)
    count = keep.sum(axis=1)
    there = np.arange(most) < count[:, None]
    kept: dict[str, np.ndarray] = {}
    if "landscape" in record:
        shared = lane[:, 2:]
        share = np.mean(shared[:, :, None] == np.arange(most), axis=1)
        rate = -np.take_along_axis(leading.real.reshape(points, most), order, axis=1)
        placed = np.take_along_axis(states, order[..., None], axis=1)
        kind = states.dtype
        kept["attractors"] = count.astype(np.int16)
        kept["attractor_state"] = np.where(there[..., None], placed, np.nan).astype(kind)
        kept["attractor_share"] = np.where(there, share, np.nan).astype(kind)
        kept["attractor_rate"] = np.where(there, rate, np.nan).astype(kind)
        kept["unsettled"] = np.mean(shared < 0, axis=1).astype(kind)
    if "verdict" in record:
        before, after = lane[:, 0], lane[:, 1]
        verdict = np.where(after < 0, NOWHERE, np.where(before == after, RETURNED, SWITCHED))
        failed = (found["outcome"] != Outcome.DONE) | (before < 0)
        kept["verdict"] = np.where(failed, UNKNOWN, verdict).astype(np.int16)
    return kept

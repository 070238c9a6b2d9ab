"""The domain an operator is declared for: rates within a factor, initial states, kinds of perturbations, a horizon.

What is inside is sampled from, for training and calibration; what is outside is never certified, whatever its residual
says. Inside means: every rate that may vary lies within the factor of its nominal value, everything else in the model
is the nominal model's; amounts of the first state lie between bounds; between switches at most `most` numbers are
edited, each by a declared kind within its strengths; no dose curve moves; the span is not longer than the horizon.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from pinnsim.dynamics.gene_kinetics import GeneKinetics
from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import Problems, did_you_mean
from pinnsim.parameter import Parameter, frozen
from pinnsim.perturbation import Perturbation, neutral_arrays
from pinnsim.shapes import Numbers, State, Times
from pinnsim.tree import named_shapes, path_name, replaced

Field = Literal["factor", "activity", "drive", "hold", "edge_factor", "signal"]
_FIELDS: tuple[Field, ...] = ("factor", "activity", "drive", "hold", "edge_factor", "signal")
_SLACK = 1e-6  # relative: what was drawn at a bound is inside it in any precision


class Kind(eqx.Module):
    """One kind of perturbation: which entries of which array of a `Perturbation` it may change, and how strongly.

    **Arguments:** `name`; `field`: the array ("hold" clamps at a level); `where`: positions; `low`, `high`:
    (position,), strengths; drawn log-uniformly where `low` > 0, else uniformly.
    """

    name: str = eqx.field(static=True)
    field: Field = eqx.field(static=True)
    where: tuple[int, ...] = eqx.field(static=True)
    low: Parameter
    high: Parameter


class Draws(NamedTuple):
    """Lanes drawn from a domain: `own`: rates by name, (lane, ...); perturbations and first states, lanes first;
    `kind`: (lane,), position among the kinds, or their number for an unperturbed lane."""

    own: dict[str, Array]
    perturbation: Perturbation
    states: Float[Array, "lane species"]
    kind: np.ndarray


class Domain(eqx.Module):
    """Build it with `declare`.

    **Arguments:** `kinetics`: nominal, resolved; `rates`: names of the leaves that may vary; `factor`: by how much;
    `low`, `high`: (species,), bounds of the first state; `kinds`; `horizon`: time; `most`: edits at once; `pulses`:
    whether edits may start and stop inside the span.
    """

    kinetics: AbstractKinetics
    rates: tuple[str, ...] = eqx.field(static=True)
    factor: Parameter
    low: Parameter
    high: Parameter
    kinds: tuple[Kind, ...]
    horizon: Parameter
    most: int = eqx.field(static=True)
    pulses: bool = eqx.field(static=True)

    def sample(self, key: PRNGKeyArray, count: int, *, plain: float = 0.1) -> Draws:
        """`count` lanes: rates and positive first states log-uniform, one edit of a random kind each, and none in a
        share `plain` of them. With `pulses`, half of the edits start and stop inside the horizon."""
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).astype(np.uint32).tolist())
        shapes, nominal = named_shapes(self.kinetics), _leaves(self.kinetics)
        span = np.log(_number(self.factor))
        own = {n: jnp.asarray(nominal[n] * np.exp(span * rng.uniform(-1, 1, (count, *shapes[n])))) for n in self.rates}
        low, high = (_array(bound) for bound in (self.low, self.high))
        states = jnp.asarray(_between(rng.random((count, len(low))), low, high))
        kind = np.where(rng.random(count) < plain, len(self.kinds), rng.integers(0, max(len(self.kinds), 1), count))
        arrays = {n: np.repeat(a[None], count, axis=0) for n, a in neutral_arrays(self.kinetics.table, 1).items()}
        horizon = _number(self.horizon)
        for number, one in enumerate(self.kinds):
            lanes = np.flatnonzero(kind == number)
            at = rng.integers(0, len(one.where), len(lanes))
            strength = _between(rng.random(len(lanes)), _array(one.low)[at], _array(one.high)[at])
            position = np.asarray(one.where)[at]
            if one.field == "hold":
                arrays["hold"][lanes, 0, position] = 1.0
                arrays["level"][lanes, 0, position] = strength
            else:
                arrays[one.field][lanes, 0, position] = strength
            pulsed = (rng.random(len(lanes)) < 0.5) & self.pulses
            ends = np.sort(rng.uniform(0.0, horizon, (2, len(lanes))), axis=0)
            arrays["start"][lanes, 0] = np.where(pulsed, ends[0], -np.inf)
            arrays["stop"][lanes, 0] = np.where(pulsed, ends[1], np.inf)
        plain_lane, names = Perturbation.none(self.kinetics.table), list(arrays)
        lanes_of = eqx.tree_at(
            lambda p: [getattr(p, n) for n in names], plain_lane, [jnp.asarray(arrays[n]) for n in names]
        )
        return Draws(own, lanes_of, states, kind)

    def contains(
        self, kinetics: AbstractKinetics, times: Times, perturbation: Perturbation, state: State, edges: Array
    ) -> Bool[Array, ""]:
        """Whether one lane is inside. **Arguments:** `kinetics`: resolved, its own; `edges`: ends of the stretches
        between switches."""
        inside = self._rates_inside(kinetics)
        low, high = _widened(self.low, self.high, state.dtype)
        inside &= jnp.all((state >= low) & (state <= high))
        inside &= times[-1] - times[0] <= jnp.asarray(self.horizon, times.dtype) * (1 + _SLACK)
        inside &= ~jnp.any(jnp.isfinite(perturbation.ka) | (perturbation.ke > 0))
        cut = (edges > times[0]) & (edges < times[-1])
        inside &= self.pulses | ~jnp.any(cut)
        for left, right in zip(edges[:-1], edges[1:], strict=True):
            inside &= (right <= left) | self._edits_inside(perturbation, left, right)
        return inside

    def _rates_inside(self, kinetics: AbstractKinetics) -> Bool[Array, ""]:
        given = jax.tree_util.tree_flatten_with_path(eqx.filter(kinetics, eqx.is_array))[0]
        nominal = jax.tree_util.tree_flatten_with_path(eqx.filter(self.kinetics, eqx.is_array))[0]
        inside = jnp.asarray([name for name, _ in given] == [name for name, _ in nominal])
        factor = jnp.asarray(self.factor) * (1 + _SLACK)
        for (path, value), (_, middle) in zip(given, nominal, strict=False):
            if value.shape != middle.shape:
                return jnp.asarray(False)
            if path_name(path) in self.rates:
                ratio = value / middle.astype(value.dtype)
                inside &= jnp.all((ratio <= factor.astype(value.dtype)) & (ratio * factor.astype(value.dtype) >= 1.0))
            else:
                inside &= jnp.all(_same(value, middle))
        return inside

    def _edits_inside(self, perturbation: Perturbation, left: Array, right: Array) -> Bool[Array, ""]:
        edits = perturbation.during(left, right).at(0.5 * (left + right))
        given = {name: getattr(edits, name) for name in _FIELDS}
        inside, edited = jnp.asarray(True), jnp.zeros((), int)
        for field, values in given.items():
            value = edits.level if field == "hold" else values
            neutral = 1.0 if field in ("factor", "activity", "edge_factor") else 0.0
            changed = values if field == "hold" else values != neutral
            allowed = jnp.zeros(value.shape, bool)
            for kind in self.kinds:
                if kind.field == field:
                    # Bounds over all positions, the same for all lanes: a comparison is cheaper than a gather.
                    where, never = jnp.asarray(kind.where, int), jnp.full(value.shape, jnp.inf, value.dtype)
                    low, high = _widened(kind.low, kind.high, value.dtype)
                    least, most = never.at[where].set(low), (-never).at[where].set(high)
                    allowed |= (value >= least) & (value <= most)
            inside &= jnp.all(allowed | ~changed)
            edited += jnp.sum(changed, dtype=int)
        return inside & (edited <= self.most)


def declare(
    kinetics: AbstractKinetics,
    horizon: float,
    *,
    factor: float = 3.0,
    rates: Sequence[str],
    states: tuple[Numbers, Numbers],
    kinds: Sequence[Kind] = (),
    most: int = 1,
    pulses: bool = False,
) -> Domain:
    """A domain around a resolved model.

    **Arguments:** `horizon`: the longest span, in the model's time unit; `factor` (>= 1): by which rates may be above
    or below the nominal ones; `rates`: names of leaves (`"synthesis"`, `"law/constant"`); `states`: lower and upper
    bounds of first states, (species,); `kinds`: of perturbations (`gene_kinds` has ten); `most`: edits at once.

    **Raises** `E_USAGE` for unknown names and impossible numbers, all at once.
    """
    names = named_shapes(kinetics)
    low, high = (np.asarray(bound, dtype=float) for bound in states)
    species = len(kinetics.table.species)
    with Problems() as problems:
        for name in rates:
            if name not in names:
                near = did_you_mean(name, names)
                problems.add("E_USAGE", f"Argument `rates` names '{name}', which the model does not have{near}.")
        if not (factor >= 1 and horizon > 0 and most >= 1):
            problems.add(
                "E_USAGE",
                f"A domain needs factor >= 1, horizon > 0 and most >= 1, but got {factor}, {horizon} and {most}.",
            )
        if low.shape != (species,) or high.shape != (species,) or not (low <= high).all():
            problems.add(
                "E_USAGE", f"Argument `states` needs two rows of {species} numbers, the first nowhere above the second."
            )
    return Domain(
        kinetics, tuple(rates), frozen(factor), frozen(low), frozen(high), tuple(kinds), frozen(horizon), most, pulses
    )


def kind(name: str, field: Field, where: Sequence[int], low: Numbers, high: Numbers) -> Kind:
    """A kind of perturbation; `low`, `high`: one number for all positions or one each."""
    positions = tuple(int(i) for i in where)
    bounds = [frozen(np.broadcast_to(np.asarray(bound, dtype=float), (len(positions),))) for bound in (low, high)]
    return Kind(name, field, positions, *bounds)


def gene_kinds(kinetics: GeneKinetics, strengths: Mapping[str, tuple[float, float]] | None = None) -> tuple[Kind, ...]:
    """Kinds of perturbations of a gene-kinetics model, as many as its layers and edges allow (ten for unspliced,
    spliced and protein): knock-down and over-expression, splicing, RNA decay, translation and protein decay faster or
    slower, a drug on a regulator's activity, added production, a clamped product, and a changed binding site.

    **Arguments:** `kinetics`: resolved; `strengths`: name -> (low, high), in place of the defaults; drive and hold in
    shares of maximal synthesis and of the amount at half of it.
    """
    genes, table = kinetics.genes, kinetics.table
    bounds = {
        "knockdown": (0.05, 1.0), "overexpression": (1.0, 5.0), "splicing": (0.3, 3.0), "decay": (0.5, 4.0),
        "translation": (0.1, 3.0), "protein_decay": (0.5, 4.0), "drug": (0.05, 2.0), "drive": (0.02, 1.0),
        "hold": (0.1, 2.0), "edge": (0.1, 10.0),
    }  # fmt: skip
    bounds |= dict(strengths or {})
    reactions = {k: [table.reactions.index(f"{k}:{g}") for g in table.genes] for k in _reaction_kinds(table.reactions)}
    found = [kind("knockdown", "factor", reactions["transcription"], *bounds["knockdown"])]
    found.append(kind("overexpression", "factor", reactions["transcription"], *bounds["overexpression"]))
    found += [
        kind(name, "factor", reactions[name], *bounds[name])
        for name in ("splicing", "decay", "translation", "protein_decay")
        if name in reactions
    ]
    regulators = sorted({int(i) for i in np.asarray(kinetics.regulator_state)})
    if regulators:
        found.append(kind("drug", "activity", regulators, *bounds["drug"]))
    made = np.asarray(kinetics.synthesis)
    found.append(kind("drive", "drive", range(genes), bounds["drive"][0] * made, bounds["drive"][1] * made))
    last = range((len(kinetics.layers) - 1) * genes, len(kinetics.layers) * genes)
    amount = np.asarray(kinetics.default_state())[list(last)]
    found.append(kind("hold", "hold", last, bounds["hold"][0] * amount, bounds["hold"][1] * amount))
    if table.edges:
        found.append(kind("edge", "edge_factor", range(len(table.edges)), *bounds["edge"]))
    return tuple(found)


def lane_kinetics(kinetics: AbstractKinetics, own: Mapping[str, Array]) -> AbstractKinetics:
    """The model with a lane's own rates."""
    return replaced(kinetics, own)


def _reaction_kinds(reactions: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(name.partition(":")[0] for name in reactions))


def _same(value: Array, other: Array) -> Array:
    if jnp.issubdtype(value.dtype, jnp.floating):
        wide = other.astype(value.dtype)
        return jnp.abs(value - wide) <= 1e-5 * jnp.abs(wide)
    return value == other


def _widened(low: Any, high: Any, dtype: Any) -> tuple[Array, Array]:
    """Bounds with room for rounding."""
    low, high = jnp.asarray(low, dtype), jnp.asarray(high, dtype)
    return low - _SLACK * jnp.abs(low), high + _SLACK * jnp.abs(high)


def _between(share: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Log-uniform where bounds are positive, else uniform."""
    positive = np.broadcast_to(low > 0, share.shape)
    safe_low, safe_high = np.where(low > 0, low, 1.0), np.where(low > 0, high, 1.0)
    return np.where(positive, safe_low * (safe_high / safe_low) ** share, low + (high - low) * share)


def _leaves(kinetics: AbstractKinetics) -> dict[str, np.ndarray]:
    found = jax.tree_util.tree_flatten_with_path(eqx.filter(kinetics, eqx.is_array))[0]
    return {path_name(path): np.asarray(leaf) for path, leaf in found}


def _array(value: Any) -> np.ndarray:
    return np.asarray(getattr(value, "value", value), dtype=float)


def _number(value: Any) -> float:
    return float(_array(value))

"""Regulation: how active a promoter is, in [0, 1], given its regulators. Two classical forms, a sign per edge.

**Thermodynamic** (`Promoter`). Each regulator r binds the promoter of gene i on its own with statistical weight
`theta_e = f_e (x_r / K_e)^n_e` and, when bound, changes the weight of the active state by `omega_e = exp(w_e)`:

    a_i = sigmoid( b_i + sum_e [F_e(x_r) - F_e(x_r^ref)] + own_i + residual_i ),
    F_e = log((1 + omega_e theta_e) / (1 + theta_e)),

with w_e > 0 for activation and w_e < 0 for repression; b_i is the log-odds of activity where every regulator is at
its reference input (0: the bare promoter).

**Average of Hill functions** (`HillAverage`). Each regulator has a share of its target's activity, and regulators add
up:

    a_i = leak_i + (1 - leak_i) sum_e w_e h_e,
    h_e = theta_e / (1 + theta_e),  or 1 / (1 + theta_e) for a repressor,

with w_e >= 0 and sum_e w_e <= 1 per gene, so that a_i stays in [leak_i, 1].

`f_e` is the perturbation's edge factor. Each gene lists its edges in a padded row (ELL form), and sums run over the
columns of these rows: a gather of the regulators, arithmetic, and an addition per column, without scatters. That is
faster than one gather of the whole table with a sum along its axis, and lists per regulator for the gradient gain
nothing over it.

Sources: L. Bintu et al., Curr. Opin. Genet. Dev. 15:116 (2005), equations 4-7, for independent regulators;
A. V. Hill, J. Physiol. 40:iv (1910), for the response to one.
"""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from pinnsim.parameter import Parameter, frozen, positive
from pinnsim.shapes import EdgeIndex, PerEdge, PerGene, PerRegulator

# Stands for "absent" inside a logarithm: its occupancy (<= 1e-30) is far below rounding, and its gradient is finite.
_LEAST = 1e-30
# Natural logarithms of binding weights and of interaction factors are kept where neither they nor their products leave
# the range of single precision; what lies outside is as good as never or always bound.
_BINDING = (-80.0, 40.0)
_INTERACTION = (-87.0, 40.0)
_MOST = 1e15  # the largest input over affinity that is squared: as good as always bound, for the same reason
_UNROLLED = 32  # columns of edges written out one by one; longer rows are looped over

SlotIndex = Int[Array, "gene slot"]
PerSlot = Float[Array, "gene slot"]


class AbstractPromoter(eqx.Module):
    """From regulators to the activity of promoters."""

    @abc.abstractmethod
    def activity(self, regulators: PerRegulator, edge_factor: PerEdge, shift: PerGene | None = None) -> PerGene:
        """a, (gene,), in [0, 1].

        **Arguments:** `regulators`: (regulator,), inputs >= 0; `edge_factor`: (edge,), multiplies affinities; `shift`:
        (gene,), added to the log-odds of activity, `None` where nothing is.
        """

    @abc.abstractmethod
    def log_odds(self, regulators: PerRegulator, edge_factor: PerEdge) -> PerGene:
        """log(a / (1 - a)) of listed regulators alone, (gene,), finite."""

    @abc.abstractmethod
    def slopes(
        self, regulators: PerRegulator, edge_factor: PerEdge, shift: PerGene | None = None
    ) -> tuple[PerSlot, SlotIndex]:
        """Derivatives of activity by each regulator's input, edge by edge.

        **Returns** da_i/dx, (gene, slot), 0 where rows are padded, and the regulators of these edges, (gene, slot).
        """


class Promoter(AbstractPromoter):
    """Thermodynamic promoters: signed edges that add to the log-odds of activity.

    **Arguments:**

    - `basal`: (gene,), log-odds of activity at the regulators' reference inputs.
    - `reference`: (regulator,), those inputs; 0 for regulators that act by abundance, 1 for hidden activities.
    - `strength`: (edge,), unconstrained strength q: interaction energy w = sign * softplus(q) in kT, or w = q where
      the sign is unknown.
    - `sign`: (edge,), +1, -1 or 0 for unknown (learned).
    - `affinity`: (edge,), K, in the unit of the regulator's input; `hill`: (edge,), n in [1, 4].
    - `source`, `target`: (edge,), positions among regulators and genes.
    - `slots`: (gene, slot), each gene's edges, padded with the number of edges.
    """

    basal: Parameter
    reference: Parameter
    strength: Parameter
    sign: Parameter
    affinity: Parameter
    hill: Parameter
    source: EdgeIndex
    target: EdgeIndex
    slots: SlotIndex

    def energy(self) -> PerEdge:
        """Signed interaction energy w, (edge,): known signs cannot flip, unknown ones are free."""
        return jnp.where(self.sign == 0, self.strength, self.sign * jax.nn.softplus(self.strength))

    def activity(self, regulators: PerRegulator, edge_factor: PerEdge, shift: PerGene | None = None) -> PerGene:
        odds = self.log_odds(regulators, edge_factor)
        return jax.nn.sigmoid(odds if shift is None else odds + shift)

    def log_odds(self, regulators: PerRegulator, edge_factor: PerEdge) -> PerGene:
        if self.source.shape[0] == 0:
            return self.basal
        rows = self._rows()

        def total(inputs: PerRegulator, factor: PerEdge) -> PerGene:
            level = jnp.log(jnp.maximum(inputs, _LEAST))
            # A site that is only padding is never bound.
            factor = _padded(factor, 0.0)

            def share(source: Array, edge: Array, *how: Array) -> PerGene:
                return _log_share(_taken(level, source), _taken(factor, edge), *how)

            return _over_columns(share, rows)

        return self.basal + (total(regulators, edge_factor) - total(self.reference, jnp.ones_like(edge_factor)))

    def slopes(
        self, regulators: PerRegulator, edge_factor: PerEdge, shift: PerGene | None = None
    ) -> tuple[PerSlot, SlotIndex]:
        if self.source.shape[0] == 0:
            return jnp.zeros(self.slots.shape, regulators.dtype), jnp.zeros_like(self.slots)
        source, edge, *how = self._rows()
        active, factor = self.activity(regulators, edge_factor, shift), _padded(edge_factor, 0.0)

        def share(input: Array, factor: Array, *how: Array) -> Array:
            return _log_share(jnp.log(jnp.maximum(input, _LEAST)), factor, *how)

        steep = _by_input(share, _taken(regulators, source), _taken(factor, edge), *how)
        return (active * (1.0 - active))[:, None] * steep, source

    def _rows(self) -> tuple[Array, ...]:
        """Regulators, edges, Hill coefficients, n log K and omega in rows, (gene, slot)."""
        omega = jnp.exp(jnp.clip(self.energy(), *_INTERACTION))
        return (
            _padded(self.source, 0)[self.slots],
            self.slots,
            _padded(self.hill, 1.0)[self.slots],
            _padded(self.hill * jnp.log(self.affinity), 0.0)[self.slots],
            _padded(omega, 1.0)[self.slots],
        )


class HillAverage(AbstractPromoter):
    """Promoters whose regulators add up; build them with `hill_average`.

    **Arguments:** all but the first in rows of edges, (gene, slot); what padding holds does not matter, except that its
    `source` must be a regulator.

    - `leak`: (gene,), activity in [0, 1] where nothing activates.
    - `weight`: w >= 0, summing to at most 1 per gene.
    - `sign`: +1 activates, -1 represses, 0 is unknown: then `tilt`, the log-odds of activation, mixes both.
    - `affinity`: K, in the unit of the regulator's input; `hill`: n in [1, 4].
    - `source`: positions among regulators; `edge`: positions among edges, padded with the number of edges.
    - `square`: every n is 2 (and `hill` is not read), which needs no powers.
    """

    leak: Parameter
    weight: Parameter
    sign: Parameter
    tilt: Parameter
    affinity: Parameter
    hill: Parameter
    source: SlotIndex
    edge: SlotIndex
    square: bool = eqx.field(static=True)

    def activity(self, regulators: PerRegulator, edge_factor: PerEdge, shift: PerGene | None = None) -> PerGene:
        active = self._average(regulators, edge_factor)
        if shift is None:
            return active
        return _tilted(active, shift)

    def log_odds(self, regulators: PerRegulator, edge_factor: PerEdge) -> PerGene:
        active = self._average(regulators, edge_factor)
        return jnp.log(jnp.maximum(active, _LEAST)) - jnp.log(jnp.maximum(1.0 - active, _LEAST))

    def slopes(
        self, regulators: PerRegulator, edge_factor: PerEdge, shift: PerGene | None = None
    ) -> tuple[PerSlot, SlotIndex]:
        if edge_factor.shape[0] == 0:
            return jnp.zeros(self.source.shape, regulators.dtype), self.source
        *ends, how = self._rows(edge_factor.shape[0])
        factor = _taken(_padded(edge_factor, 0.0), self.edge)

        def share(input: Array, free: Array, bound: Array, factor: Array, *how: Array) -> Array:
            return self._share(self._seen(input), free, bound, factor, *how)

        steep = _by_input(share, _taken(regulators, self.source), *ends, factor, *how)
        if shift is None:
            return steep, self.source
        tilted = jax.jvp(
            lambda active: _tilted(active, shift),
            (self._average(regulators, edge_factor),),
            (jnp.ones_like(self.leak),),
        )[1]
        return tilted[:, None] * steep, self.source

    def _average(self, regulators: PerRegulator, edge_factor: PerEdge) -> PerGene:
        edges = edge_factor.shape[0]
        if edges == 0:
            return self.leak
        free, bound, how = self._rows(edges)
        seen, factor = self._seen(regulators), _padded(edge_factor, 0.0)

        def share(free: Array, bound: Array, source: Array, edge: Array, *how: Array) -> PerGene:
            return self._share(_taken(seen, source), free, bound, _taken(factor, edge), *how)

        return self.leak + _over_columns(share, (free, bound, self.source, self.edge, *how))

    def _rows(self, edges: int) -> tuple[Array, Array, tuple[Array, ...]]:
        """What a site adds where it is free and where it is bound, and how it binds: 1 / K, or n and n log K."""
        rising = jnp.where(self.sign == 0, jax.nn.sigmoid(self.tilt), jnp.where(self.sign > 0, 1.0, 0.0))
        weight = jnp.where(self.edge < edges, self.weight, 0.0) * (1.0 - self.leak)[:, None]
        how = (1.0 / self.affinity,) if self.square else (self.hill, self.hill * jnp.log(self.affinity))
        return weight * (1.0 - rising), weight * rising, how

    def _seen(self, inputs: Array) -> Array:
        """What powers are taken of: a square needs no logarithm."""
        return inputs if self.square else jnp.log(jnp.maximum(inputs, _LEAST))

    def _share(self, here: Array, free: Array, bound: Array, factor: Array, *how: Array) -> Array:
        if self.square:
            theta = factor * jnp.square(jnp.minimum(here * how[0], _MOST))
        else:
            theta = factor * jnp.exp(jnp.clip(how[0] * here - how[1], *_BINDING))
        return (free + bound * theta) / (1.0 + theta)


def hill_average(
    source: np.ndarray,
    target: np.ndarray,
    sign: np.ndarray,
    genes: int,
    *,
    leak: ArrayLike = 0.05,
    weight: ArrayLike | None = None,
    affinity: ArrayLike = 1.0,
    hill: ArrayLike = 2.0,
) -> HillAverage:
    """`HillAverage` from lists of edges, on the host.

    **Arguments:** `source`, `target`, `sign`: (edge,); `leak`: (gene,) or one number; `weight` (default: the same for
    all regulators of a gene, summing to 1), `affinity`, `hill`: (edge,) or one number.

    **Returns** promoters with learnable affinities; everything else is frozen.
    """
    source, target = np.asarray(source, dtype=int), np.asarray(target, dtype=int)
    slots = edge_slots(target, genes)
    if weight is None:
        weight = 1.0 / np.maximum(np.bincount(target, minlength=genes), 1)[target]

    def rows(values: ArrayLike, padding: float) -> np.ndarray:
        return np.append(np.broadcast_to(np.asarray(values, dtype=float), source.shape), padding)[slots]

    return HillAverage(
        leak=frozen(np.broadcast_to(np.asarray(leak, dtype=float), (genes,))),
        weight=frozen(rows(weight, 0.0)),
        sign=frozen(rows(sign, 1.0)),
        tilt=jnp.zeros(slots.shape),
        affinity=positive(rows(affinity, 1.0)),
        hill=frozen(rows(hill, 2.0)),
        source=jnp.asarray(np.append(source, 0)[slots], dtype=int),
        edge=jnp.asarray(slots, dtype=int),
        square=bool(np.all(np.asarray(hill) == 2.0)),
    )


def edge_slots(target: np.ndarray, genes: int) -> np.ndarray:
    """Rows of edge numbers per gene, padded with the number of edges (on the host), (gene, longest row).

    >>> edge_slots(np.array([1, 0, 1]), 3).tolist()
    [[1, 3], [0, 2], [3, 3]]
    """
    edges = len(target)
    counts = np.bincount(target, minlength=genes)
    slots = np.full((genes, max(int(counts.max(initial=0)), 1)), edges)
    order = np.argsort(target, kind="stable")
    rank = np.arange(edges) - np.repeat(np.cumsum(counts) - counts, counts)
    slots[target[order], rank] = order
    return slots


def _log_share(level: Array, factor: Array, hill: Array, offset: Array, omega: Array) -> Array:
    """F_e, where `level` is log x."""
    theta = factor * jnp.exp(jnp.clip(hill * level - offset, *_BINDING))
    return jnp.log((1.0 + omega * theta) / (1.0 + theta))


def _tilted(active: PerGene, shift: PerGene) -> PerGene:
    """sigmoid(logit(a) + shift), without a logit that 0 and 1 do not have."""
    odds = active * jnp.exp(jnp.clip(shift, -40.0, 40.0))
    return odds / (1.0 - active + odds)


def _by_input(share: Callable[..., Array], inputs: PerSlot, *rows: Array) -> PerSlot:
    """The derivative of every edge's share by its own input."""
    return jax.jvp(lambda x: share(x, *rows), (inputs,), (jnp.ones_like(inputs),))[1]


def _padded(values: Array, padding: int | float) -> Array:
    return jnp.concatenate([values, jnp.full(1, padding, values.dtype)])


def _taken(values: Array, index: Array) -> Array:
    """`values[index]`, without a look at each index whether it is in range."""
    return values.at[index].get(mode="promise_in_bounds", wrap_negative_indices=False)


def _over_columns(share: Callable[..., PerGene], rows: tuple[Array, ...]) -> PerGene:
    """Sum over edges: `share` of each column of the rows, (gene, slot), added up."""
    count = rows[0].shape[1]
    total = share(*(row[:, 0] for row in rows))
    if count <= _UNROLLED:
        for k in range(1, count):
            total = total + share(*(row[:, k] for row in rows))
        return total
    columns = [row[:, 1:].T for row in rows]
    return jax.lax.scan(lambda total, column: (total + share(*column), None), total, columns)[0]

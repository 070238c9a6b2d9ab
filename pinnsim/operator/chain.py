"""The linear part of gene kinetics, solved exactly: what flows down a chain whose head is fed a piecewise linear
production.

Between switches every gene is a line of first-order layers (unspliced, spliced, protein),

    x_1' = w(t) + d_1 - l_1 x_1,      x_j' = g_(j-1) x_(j-1) + d_j - l_j x_j,

and only w = c a(t) is not linear in the state. Where w is linear over a step of length h,

    x(h) = M x(0) + V_0 w(0) + V_1 w(h) + D,      M = exp(A h),  V_0 + V_1 = int_0^h exp(A t) dt e_1,

with `A` of that line; a bend b 4 t (h - t) / h^2 of the production adds B b. All of M, V_0, V_1, B, D are >= 0, so
whatever w >= 0 is put in, amounts stay >= 0, start where they start, and never leave what synthesis and decay allow.
Series give a short step; a step of twice the length is two steps,

    M' = M M,  D' = D + M D,  V_0' = M V_0 + V_m / 2,  V_1' = V_1 + V_m / 2,    V_m = M V_1 + V_0,
    B' = V_m + (B + M B) / 4,

which only adds and multiplies numbers >= 0: nothing cancels, equal rates included. A grid whose steps double
(`Grid`) has all of its steps from one series.

Source: C. Moler and C. Van Loan, SIAM Rev. 45:3 (2003), method 3, scaling and squaring.
"""

import itertools
import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from pinnsim.dynamics.gene_kinetics import GeneKinetics
from pinnsim.perturbation import Edits
from pinnsim.shapes import PerGene, Scalar

_TERMS = 6  # of the series
_SHORT = 1.0  # loss times step up to which so many terms are exact to 2e-4, and to 1e-7 at a third of it

Layers = tuple[PerGene, ...]


class Line(NamedTuple):
    """What a gene's layers lose, pass on and are given, between switches.

    **Arguments:** `loss`, `gain`, `supply`: per layer, (gene,): lost and made of the layer before (0 for the first),
    per time; given, amount per time; `synthesis`: (gene,), production of the first layer at full activity. Held layers
    lose and are given nothing.
    """

    loss: Layers
    gain: Layers
    supply: Layers
    synthesis: PerGene


class Step(NamedTuple):
    """Steps of one length (of several, along a leading axis). **Arguments:** `move`: per layer i and layer j <= i,
    (gene,), what is in i of what was in j; per layer: `left`, `right`, of the production at the step's ends; `bend`, of
    how far its middle is above their mean; `given`, of what is supplied."""

    move: tuple[tuple[Array, ...], ...]
    left: tuple[Array, ...]
    right: tuple[Array, ...]
    bend: tuple[Array, ...]
    given: tuple[Array, ...]


class Grid(eqx.Module):
    """Nodes over a window whose steps double: `levels` are the logarithms (base 2) of the steps' lengths.

    Good values: two to four steps of each length; `graded(4)`, 10 steps over 32 units.
    """

    levels: tuple[int, ...] = eqx.field(static=True)

    @property
    def steps(self) -> int:
        """Number of steps; nodes are one more."""
        return len(self.levels)

    @property
    def units(self) -> int:
        """Length of the window in shortest steps."""
        return sum(2**level for level in self.levels)

    @property
    def nodes(self) -> np.ndarray:
        """Where the nodes lie, as shares of the window, (node,), 0 to 1."""
        return np.concatenate([[0.0], np.cumsum([2.0**level for level in self.levels])]) / self.units

    @property
    def bends(self) -> np.ndarray:
        """From values at nodes to how far a smooth course is above the mean of the ends in the middle of each step,
        (step, node): that of the polynomial through the four nearest nodes (of all, where there are fewer)."""
        nodes, found = self.nodes, np.zeros((self.steps, self.steps + 1))
        for step in range(self.steps):
            low = max(0, min(step - 1, self.steps - 3))
            near = list(range(low, min(low + 4, self.steps + 1)))
            middle = 0.5 * (nodes[step] + nodes[step + 1])
            for i in near:
                others = nodes[[k for k in near if k != i]]
                found[step, i] = np.prod((middle - others) / (nodes[i] - others))
            found[step, step : step + 2] -= 0.5
        return found

    def halvings(self, fastest: float, window: float) -> int:
        """How often the shortest step is halved for the series to be exact for losses up to `fastest`."""
        return max(0, math.ceil(math.log2(max(fastest * window / self.units / _SHORT, 1.0))))


def graded(octaves: int, each: int = 2) -> Grid:
    """`each` steps per doubling (twice as many of the shortest), over `octaves` lengths.

    >>> graded(2).nodes.tolist()
    [0.0, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0]
    """
    return Grid((0,) * each + tuple(level for level in range(octaves) for _ in range(each)))


def line_of(kinetics: GeneKinetics, edits: Edits) -> Line:
    """The linear part of resolved gene kinetics under edits that do not change."""
    factor, genes = kinetics.by_kind(edits.factor), kinetics.genes
    rate = {
        "splicing": kinetics.splicing,
        "decay": kinetics.decay,
        "translation": kinetics.translation,
        "protein_decay": kinetics.protein_decay,
    }
    rates = {kind: factor[kind] * value for kind, value in rate.items() if value is not None}
    lost = {"unspliced": "splicing", "spliced": "decay", "mrna": "decay", "protein": "protein_decay"}
    made = {"spliced": "splicing", "protein": "translation"}
    free = jnp.where(edits.hold, 0.0, 1.0).astype(edits.level.dtype)
    parts = [slice(k * genes, (k + 1) * genes) for k in range(len(kinetics.layers))]
    none = jnp.zeros(genes, edits.level.dtype)
    return Line(
        loss=tuple(free[at] * rates[lost[layer]] for at, layer in zip(parts, kinetics.layers, strict=True)),
        gain=(none, *(free[at] * rates[made[name]] for at, name in zip(parts[1:], kinetics.layers[1:], strict=True))),
        supply=tuple(free[at] * edits.drive[at] for at in parts),
        synthesis=free[parts[0]] * factor["transcription"] * kinetics.synthesis,
    )


def steps_of(line: Line, shortest: Scalar, levels: int, halvings: int) -> list[Step]:
    """Steps of lengths `shortest * 2^k`, k = 0 ... `levels - 1`.

    Loops, so that the compiler works every length out once.
    """

    def twice(step: Step, _: None) -> tuple[Step, Step]:
        return _doubled(step), step

    first = jax.lax.fori_loop(0, halvings, lambda _, step: _doubled(step), _series(line, shortest * 0.5**halvings))
    found = jax.lax.scan(twice, first, length=levels)[1]
    return [jax.tree.map(lambda array, k=k: array[k], found) for k in range(levels)]


def course_of(steps: list[Step], levels: tuple[int, ...], begin: Layers, ends: Array, bends: Array) -> Array:
    """Amounts at all nodes, (node, layer x gene), of productions `ends`: (node, gene) and `bends`: (step, gene)."""
    amounts, rows, done = begin, [jnp.concatenate(begin)[None]], 0
    for level, run in itertools.groupby(levels):
        count = len(list(run))
        inputs = (ends[done : done + count], ends[done + 1 : done + count + 1], bends[done : done + count])

        def step(amounts: Layers, at: tuple[Array, Array, Array], one: Step = steps[level]) -> tuple[Layers, Layers]:
            after = moved(one, amounts, *at)
            return after, after

        amounts, made = jax.lax.scan(step, amounts, inputs)
        rows.append(jnp.concatenate(made, axis=1))
        done += count
    return jnp.concatenate(rows)


def moved(step: Step, amounts: Layers, left: PerGene, right: PerGene, bend: PerGene) -> Layers:
    """The layers after a step, whose production goes from `left` to `right`, bent by `bend` in the middle."""
    made = zip(step.left, step.right, step.bend, step.given, _image(step, amounts), strict=True)
    return tuple(a * left + b * right + c * bend + d + passed for a, b, c, d, passed in made)


def _image(step: Step, column: Layers) -> list[Array]:
    """What is left of, and made from, the amounts of a step's begin."""
    found = []
    for row in step.move:
        total = row[0] * column[0]
        for entry, amount in zip(row[1:], column[1:], strict=False):
            total = total + entry * amount
        found.append(total)
    return found


def _series(line: Line, h: Scalar) -> Step:
    """exp(A h) and its integrals, by Horner's scheme; the diagonal of M by `exp`."""
    layers, none = range(len(line.loss)), jnp.zeros_like(line.synthesis)
    lost, gained = [h * loss for loss in line.loss], [h * gain for gain in line.gain]

    def phi(begin: list[Array], order: int) -> list[Array]:
        """`sum_k (h A)^k begin order! / (k + order)!`."""

        def term(number: Array, total: list[Array]) -> list[Array]:
            share = 1.0 / (_TERMS - number + order).astype(h.dtype)
            image = [gained[i] * total[i - 1] - lost[i] * total[i] if i else -lost[0] * total[0] for i in layers]
            return [b + share * x for b, x in zip(begin, image, strict=True)]

        return jax.lax.fori_loop(0, _TERMS, term, begin)

    unit = [[none + (1.0 if i == j else 0.0) for i in layers] for j in layers]
    columns = [phi(unit[j], 0) for j in layers]
    # Beyond the range of the series nothing may turn negative: what is wrong there still is no debt.
    move = tuple(
        tuple(jnp.exp(-lost[i]) if i == j else jnp.maximum(columns[j][i], 0.0) for j in range(i + 1)) for i in layers
    )
    whole, ramp, square = (phi(unit[0], order) for order in (1, 2, 3))
    right = tuple(jnp.maximum(0.5 * h * x, 0.0) for x in ramp)
    left = tuple(jnp.maximum(h * x - r, 0.0) for x, r in zip(whole, right, strict=True))
    # 4 t (1 - t) has the moments 4 (phi_2 - 2 phi_3), where phi_3 = square / 6.
    bend = tuple(jnp.maximum(h * (2.0 * r - (4.0 / 3.0) * q), 0.0) for r, q in zip(ramp, square, strict=True))
    given = tuple(jnp.maximum(h * x, 0.0) for x in phi(list(line.supply), 1))
    return Step(move, left, right, bend, given)


def _doubled(step: Step) -> Step:
    """Two steps as one."""
    layers = range(len(step.left))
    move = tuple(
        tuple(_sum([step.move[i][k] * step.move[k][j] for k in range(j, i + 1)]) for j in range(i + 1)) for i in layers
    )
    middle = [a + b for a, b in zip(_image(step, step.right), step.left, strict=True)]
    return Step(
        move=move,
        left=tuple(a + 0.5 * b for a, b in zip(_image(step, step.left), middle, strict=True)),
        right=tuple(a + 0.5 * b for a, b in zip(step.right, middle, strict=True)),
        bend=tuple(m + 0.25 * (a + b) for m, a, b in zip(middle, _image(step, step.bend), step.bend, strict=True)),
        given=tuple(a + b for a, b in zip(step.given, _image(step, step.given), strict=True)),
    )


def _sum(parts: list[Array]) -> Array:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total

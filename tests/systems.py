"""Systems with known answers, and small models of every kind, shared by the tests.

`LinearCascade`: k * signal -> x -> y -> nothing, solved exactly by the matrix exponential. `ring`: perfect repressors
in a circle as gene kinetics; two make Gardner's toggle, with attractors in closed form (T. S. Gardner et al., Nature
403:339, 2000), three a repressilator. `Parabola`: a fixed point and its ghost. Random models, states and perturbations
are those of `pinnsim.specimens`, under the same names here.
"""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Bool

from pinnsim.dynamics.activity import no_hidden_activity
from pinnsim.dynamics.gene_kinetics import GeneKinetics
from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.dynamics.regulation import Promoter, edge_slots
from pinnsim.dynamics.residual import NoResidual
from pinnsim.perturbation import Acting, Edits
from pinnsim.shapes import Rates, Scalar, State
from pinnsim.specimens import (  # noqa: F401
    model_of,
    network_of,
    prior_of,
    random_perturbation,
    random_state,
    randomised,
    rewired,
)
from pinnsim.table import Table

CASCADE = Table(
    ("a", "b"), (), ("s",), ("make:a", "make:b", "decay:a", "decay:b"), ("a.mrna", "b.mrna"), ()
)  # reactions are named as gene kinetics name theirs: kind:gene


class LinearCascade(AbstractKinetics):
    """`x' = supply * signal - loss_x x`, `y' = x - loss_y y`: mass flows down a line, so everything is exact."""

    supply: Array
    loss: Array
    table: Table = eqx.field(static=True, default=CASCADE)
    time_unit: str = eqx.field(static=True, default="min")

    def propensities(self, time: Scalar, state: State, perturbation: Acting) -> Rates:
        return self._rates(state, perturbation.at(time))

    def _rates(self, state: State, edits: Edits) -> Rates:
        made = jnp.stack([self.supply * edits.signal[0], state[0]])
        return jnp.concatenate([made, self.loss * state]) * edits.factor

    def vector_field(self, time: Scalar, state: State, perturbation: Acting) -> State:
        edits = perturbation.at(time)
        state = jnp.where(edits.hold, edits.level, state)
        rates = self._rates(state, edits)
        return jnp.where(edits.hold, 0.0, rates[:2] - rates[2:] + edits.drive)

    def stoichiometry(self) -> np.ndarray:
        return np.array([[1, 0, -1, 0], [0, 1, 0, -1]])

    def material(self) -> Bool[Array, " species"]:
        return jnp.ones(2, bool)

    def default_state(self) -> State:
        return jnp.zeros(2)


def cascade(supply: float = 1.0, loss: Sequence[float] = (0.5, 0.3)) -> LinearCascade:
    """The cascade with these rates per minute."""
    return LinearCascade(jnp.asarray(supply), jnp.asarray(loss, dtype=float))


def cascade_exact(model: LinearCascade, times: Sequence[float], pieces: Sequence[tuple], begin: Sequence[float]):
    """States at `times`, exactly: `pieces` are (from, supply, held level of x or None), in order, each until the next.

    A held x jumps to its level and stays. The affine system `z' = M z` with z = (x, y, 1) is solved by `expm`.
    """
    loss = np.asarray(model.loss)
    states, here, z = [], pieces[0][0], np.array([*begin, 1.0])

    def flow(z: np.ndarray, piece: tuple, span: float) -> np.ndarray:
        _, supply, level = piece
        rate, source = (loss[0], supply) if level is None else (0.0, 0.0)
        matrix = np.array([[-rate, 0.0, source], [1.0, -loss[1], 0.0], [0.0, 0.0, 0.0]])
        return scipy.linalg.expm(matrix * span) @ z

    ends = [piece[0] for piece in pieces[1:]] + [np.inf]
    for piece, end in zip(pieces, ends, strict=True):
        if piece[2] is not None:
            z = np.array([piece[2], *z[1:]])
        states += [flow(z, piece, t - here)[:2] for t in times if here < t <= end or (t == here == pieces[0][0])]
        if np.isfinite(end):
            z, here = flow(z, piece, end - here), end
    return np.array(states)


def ring(names: tuple[str, ...], a: float, n: float, odds: float = 1e-2) -> GeneKinetics:
    """Genes in a circle, each repressing the next: `x_i' = a / (1 + x_{i-1}^n) - x_i`.

    A promoter is active with probability `1 / (1 + q (1 + theta))`, q = exp(-basal) and theta = (x / K)^n, so
    `c = a (1 + q)` and `K^n = q / (1 + q)` give the textbook form for any bare-promoter odds q = `odds`.
    """
    count = len(names)
    source, target = np.arange(count), (np.arange(count) + 1) % count
    edges = tuple(f"{names[s]}->{names[t]}" for s, t in zip(source, target, strict=True))
    reactions = tuple(f"{kind}:{gene}" for kind in ("transcription", "decay") for gene in names)
    table = Table(names, names, (), reactions, tuple(f"{name}.mrna" for name in names), edges)
    promoter = Promoter(
        basal=jnp.full(count, -np.log(odds)),
        reference=jnp.zeros(count),
        strength=jnp.full(count, 90.0),  # omega = exp(-90): bound means silent
        sign=-jnp.ones(count),
        affinity=jnp.full(count, (odds / (1 + odds)) ** (1 / n)),
        hill=jnp.full(count, n),
        source=jnp.asarray(source),
        target=jnp.asarray(target),
        slots=jnp.asarray(edge_slots(target, count)),
    )
    return GeneKinetics(
        table=table,
        layers=("mrna",),
        time_unit="min",
        own_inputs=False,
        synthesis=jnp.full(count, a * (1 + odds)),
        splicing=None,
        decay=jnp.ones(count),
        translation=None,
        protein_decay=None,
        promoter=promoter,
        residual=NoResidual(jnp.zeros(()), count),
        hidden=no_hidden_activity(0),
        gain=jnp.zeros((count, 0)),
        regulator_state=jnp.arange(count),
        regulator_hidden=jnp.zeros(count, bool),
    )


def toggle(a: float = 10.0, n: float = 2.0) -> GeneKinetics:
    """Gardner's toggle `u' = a / (1 + v^n) - u` and its mirror."""
    return ring(("u", "v"), a, n)


def roots(fu: float, fv: float, drive: float, loss: float) -> np.ndarray:
    """Stable rest states of u' = fu a / (1 + v^2) + drive - u, v' = fv a / (1 + u^2) - loss v, a = 10, by one
    polynomial in u.

    With q = 1 + u^2 and v = b / q, b = fv a / loss: (u - drive) (q^2 + b^2) = fu a q^2.
    """
    a = 10.0
    q, b = np.polynomial.Polynomial([1.0, 0.0, 1.0]), fv * a / loss
    whole = np.polynomial.Polynomial([-drive, 1.0]) * (q**2 + b**2) - fu * a * q**2
    u = np.sort(whole.roots()[np.abs(whole.roots().imag) < 1e-7].real)
    v = b / (1 + u**2)
    slope = (-2 * v * fu * a / (1 + v**2) ** 2) * (-2 * u * fv * a / (1 + u**2) ** 2)
    return np.stack([u, v], axis=1)[slope < loss]


class Parabola(AbstractKinetics):
    """`x' = x^2 + offset`: two fixed points for a negative offset; only the ghost of one for a positive offset."""

    offset: Array
    table: Table = eqx.field(static=True, default=Table((), (), (), (), ("x",), ()))
    time_unit: str = eqx.field(static=True, default="min")

    def propensities(self, time: Scalar, state: State, perturbation: Acting) -> Rates:
        return jnp.zeros(0)

    def vector_field(self, time: Scalar, state: State, perturbation: Acting) -> State:
        return state**2 + self.offset

    def stoichiometry(self) -> np.ndarray:
        return np.zeros((1, 0), dtype=int)

    def material(self) -> Bool[Array, " species"]:
        return jnp.zeros(1, bool)

    def default_state(self) -> State:
        return -jnp.ones(1)

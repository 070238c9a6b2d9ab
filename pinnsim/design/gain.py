"""What an experiment is expected to tell: the algebra of linear models with normal errors, for many candidates at once.

Readings y = f + J (theta - estimate) + noise, theta ~ Normal(estimate, A A'), noise ~ Normal(0, R). In coordinates
z = A^-1 (theta - estimate), which are the unit normal, and with rows G = R^-1/2 J A of a candidate,

    EIG = 1/2 log det(R + J Sigma J') - 1/2 log det R = 1/2 log det(I + G G')         (nats)
    posterior covariance of z = (I + G' G)^-1.

Of goals g = Q z (some rates, a predicted number) an experiment tells, with B an orthonormal basis of Q's rows,

    -1/2 log det B' (I + G' G)^-1 B,     and leaves the variances diag Q (I + G' G)^-1 Q'.

After a choice all other candidates are G T, T = (I + G_c' G_c)^-1/2 = I - V diag(1 - 1 / sqrt(1 + s^2)) V', with
G_c = U diag(s) V': an update of rank at most that of the choice's readings. The information of sets is submodular, so
a batch chosen greedily has at least 1 - 1/e of the information of the best batch of its size.

Sources: D. V. Lindley, Ann. Math. Stat. 27:986 (1956), information of an experiment; K. Chaloner and I. Verdinelli,
Stat. Sci. 10:273 (1995), linear models; A. Krause, A. Singh and C. Guestrin, JMLR 9:235 (2008), greedy batches.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pinnsim.design.experiments import Layout
from pinnsim.design.parts import in_parts
from pinnsim.shapes import Scalar

_SIDE_BY_SIDE = 64  # candidates

Rows = Float[Array, "reading direction"]
Table3 = Float[Array, "treatment time gene"]
Correlation = Float[Array, "treatment gene time time"]


class Outlook(eqx.Module):
    """What is expected of every treatment, and how unsure that is.

    **Arguments:** `mean`, `sd`: (treatment, time, gene), expected readings and the instrument's standard deviations;
    `roots`: (treatment, time, gene, direction), change of readings per unit of each direction z; `correlation`:
    (treatment, gene, time, time), of the instrument's errors, or `None` where they are independent; `usable`:
    (treatment,), whether the model could be solved under it.
    """

    mean: Table3
    sd: Table3
    roots: Float[Array, "treatment time gene direction"]
    correlation: Correlation | None
    usable: Array


class Goals(eqx.Module):
    """Numbers that an experiment should tell: `rows`: (goal, direction), their changes per unit of z; `basis`:
    (direction, rank), orthonormal, of what spans them."""

    rows: Float[Array, "goal direction"]
    basis: Float[Array, "direction rank"]


class Gains(NamedTuple):
    """By candidate: information of everything, information of the goals (nats), and the goals' variances left as
    shares of those before (mean over goals); the last two are those of everything where no goal is given."""

    gain: Float[Array, " candidate"]
    goal: Float[Array, " candidate"]
    left: Float[Array, " candidate"]


def goals_of(rows: Float[Array, "goal direction"]) -> Goals:
    """Goals from their rows; what is not uncertain at all adds nothing to the basis."""
    _, size, vectors = jnp.linalg.svd(rows, full_matrices=False)
    return Goals(rows, jnp.where((size > 1e-6 * jnp.max(size))[None, :], vectors.T, 0.0))


def whitened(outlook: Outlook, layout: Layout, number: Int[Array, ""]) -> Rows:
    """G of one candidate; rows of padding, and readings of which the instrument shows nothing, are 0."""
    treatment, time, gene = layout.treatment[number], layout.time[number], layout.gene[number]
    sd, read = outlook.sd[treatment, time, gene], layout.read[number]
    told = read & (sd > 0) & jnp.isfinite(sd)
    scale = jnp.where(told, jnp.sqrt(layout.replicates[number]) / jnp.where(told, sd, 1.0), 0.0)
    rows = scale[:, None] * outlook.roots[treatment, time, gene]
    if outlook.correlation is None:
        return rows
    factor = jnp.linalg.cholesky(correlated(outlook.correlation[treatment], time, gene, told))
    return jax.scipy.linalg.solve_triangular(factor, rows, lower=True)


def correlated(
    correlation: Float[Array, "gene time time"], time: Int[Array, " reading"], gene: Int[Array, " reading"], told: Array
) -> Float[Array, "reading reading"]:
    """Correlations between readings of one candidate: of one gene at several times only."""
    between = correlation[gene[:, None], time[:, None], time[None, :]]
    related = (gene[:, None] == gene[None, :]) & told[:, None] & told[None, :]
    return jnp.where(related, between, 0.0).at[jnp.diag_indices(time.shape[0])].set(1.0)


def information(rows: Rows) -> Scalar:
    """1/2 log det(I + G G'), from the smaller of the two Gram matrices."""
    gram = rows @ rows.T if rows.shape[0] <= rows.shape[1] else rows.T @ rows
    factor = jnp.linalg.cholesky(gram + jnp.eye(gram.shape[0], dtype=gram.dtype))
    return jnp.sum(jnp.log(jnp.diagonal(factor)))


def goal_information(rows: Rows, goals: Goals) -> tuple[Scalar, Scalar]:
    """What is told of the goals, in nats, and the mean share of their variances that is left."""
    factor = jnp.linalg.cholesky(rows.T @ rows + jnp.eye(rows.shape[1], dtype=rows.dtype))
    basis, seen = (
        jax.scipy.linalg.solve_triangular(factor, columns, lower=True) for columns in (goals.basis, goals.rows.T)
    )
    # Columns of 0 are directions that the goals do not have.
    present = jnp.diag(jnp.where(jnp.sum(goals.basis**2, axis=0) > 0, 0.0, 1.0).astype(rows.dtype))
    told = -jnp.sum(jnp.log(jnp.diagonal(jnp.linalg.cholesky(basis.T @ basis + present))))
    before = jnp.sum(goals.rows**2, axis=1)
    left = jnp.where(before > 0, jnp.sum(seen**2, axis=0) / jnp.where(before > 0, before, 1.0), 1.0)
    return told, jnp.mean(left)


def all_gains(outlook: Outlook, layout: Layout, goals: Goals | None) -> Gains:
    """The gains of every candidate, NaN where the model could not be solved. Pure; `gains` is the compiled one."""

    def one(number: Int[Array, ""]) -> Gains:
        rows = whitened(outlook, layout, number)
        usable = outlook.usable[layout.treatment[number]]
        safe = jnp.where(usable, rows, 0.0)
        total = information(safe)
        if goals is None:
            told, left = total, jnp.ones_like(total)
        else:
            told, left = goal_information(safe, goals)
        return Gains(*(jnp.where(usable, value, jnp.nan) for value in (total, told, left)))

    numbers = jnp.arange(layout.treatment.shape[0])
    return in_parts(one, numbers, _SIDE_BY_SIDE)


def conditioned(outlook: Outlook, goals: Goals | None, rows: Rows) -> tuple[Outlook, Goals | None]:
    """What is expected, and the goals, once readings with these rows G are known."""
    _, size, vectors = jnp.linalg.svd(rows, full_matrices=False)
    narrowed = 1.0 - 1.0 / jnp.sqrt(1.0 + size**2)

    def squeezed(rows: Array) -> Array:
        return rows - (rows @ vectors.T * narrowed[None, :]) @ vectors

    flat = outlook.roots.reshape(-1, outlook.roots.shape[-1])
    left = eqx.tree_at(lambda o: o.roots, outlook, squeezed(flat).reshape(outlook.roots.shape))
    return left, None if goals is None else goals_of(squeezed(goals.rows))


@eqx.filter_jit
def gains(outlook: Outlook, layout: Layout, goals: Goals | None) -> Gains:
    """The gains of every candidate, in one program."""
    return all_gains(outlook, layout, goals)


@eqx.filter_jit
def after_choice(
    outlook: Outlook, layout: Layout, goals: Goals | None, number: Int[Array, ""]
) -> tuple[Outlook, Goals | None]:
    """What is expected, and the goals, once this candidate has been measured."""
    return conditioned(outlook, goals, whitened(outlook, layout, number))

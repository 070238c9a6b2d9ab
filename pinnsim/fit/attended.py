"""Which edges an attention residual used: weights and contributions of listed edges, averaged over the data's states.

For edge e = (r -> i), over the middles of all steps of all cultures' courses (T in all),

    attention_e    = 1/T sum_t w_e(x_t),        the weight of `dynamics.attention`, between 0 and 1;
    contribution_e = 1/T sum_t [correction_i(x_t) - correction_i(x_t without r at this edge)],   in log-odds.

What that means: where the correction of the promoter's odds came from, in the states that were seen. What it does not
mean: that an edge exists. The promoter itself uses the same edges, and what it already explains needs no attention; a
head whose regulators move together can share its weight among them in any way; weights of a gene whose correction is
about 0 say nothing at all. So read a weight together with its contribution, and both beside the strength and its
interval (`edge_table`), and take the sign of a contribution for what was learned, not for what was listed: with hard
signs it cannot differ from a listed one.

Source: S. Jain and B. Wallace, NAACL (2019), for what attention weights do not explain.
"""

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array

from pinnsim.dynamics.attention import AttentionResidual
from pinnsim.errors import PinnsimError
from pinnsim.fit.cultures import Cultures
from pinnsim.fit.plan import FitPlan, Settings
from pinnsim.fit.score_test import along as read_along
from pinnsim.fit.score_test import courses
from pinnsim.fit.stages import solved
from pinnsim.model import CellModel
from pinnsim.parameter import resolve
from pinnsim.perturbation import Edits
from pinnsim.shapes import State


def attention_table(
    model: CellModel, data: Cultures, plan: FitPlan, *, along: Literal["fitted", "measured"] | None = None
) -> pd.DataFrame:
    """Listed edges with the attention they get and what they add to their target's log-odds of activity.

    **Arguments:** `model`: one member of a fit, not resolved, whose residual is attention; `data`: the cultures it was
    fitted to; `plan`: the fit's; `along`: the courses that are averaged over, by default the fitted ones if the fit's
    last stage was through the solver, otherwise the measured ones.

    **Returns** a row per edge, in the network's order: `source`, `target`, `sign` (as listed; 0: unknown), `attention`
    in [0, 1], `contribution` in log-odds, with its sign. Cultures that cannot be solved are left out.

    **Raises** `E_USAGE` for another residual, `E_FIT` where no culture has a course.
    """
    residual = model.kinetics.residual
    if not isinstance(residual, AttentionResidual):
        raise PinnsimError.of(
            "E_USAGE",
            "The model has no attention to be listed; set residual = { kind = 'attention' } and fit it anew.",
        )
    follow = along or ("fitted" if solved(plan) else "measured")
    weight, added, count = (np.asarray(a) for a in _means(model, data.anonymous(), plan.settings(), follow == "fitted"))
    if not count:
        raise PinnsimError.of(
            "E_FIT", "No culture has a course that could be averaged over; look at the fit's outcomes."
        )
    slot, numbers = np.asarray(residual.edge), np.asarray(residual.source)
    target = np.broadcast_to(np.arange(slot.shape[0])[:, None], slot.shape)

    def listed(rows: np.ndarray) -> np.ndarray:
        values = np.zeros(residual.edges + 1, rows.dtype)
        values[slot] = rows
        return values[:-1]

    return pd.DataFrame(
        {
            # From the arrays, not from the edges' names: a shuffled network keeps the real one's.
            "source": [model.table.regulators[number] for number in listed(numbers)],
            "target": [model.table.genes[number] for number in listed(target)],
            "sign": listed(np.asarray(resolve(residual).sign)),
            "attention": listed(weight),
            "contribution": listed(added),
        }
    )


@eqx.filter_jit
def _means(model: CellModel, data: Cultures, settings: Settings, fitted: bool) -> tuple[Array, Array, Array]:
    """Weights and contributions, (gene, slot), over the states of all usable cultures, and how many of these."""
    cell = resolve(model)
    kinetics = cell.kinetics
    residual: Any = kinetics.residual

    def read(seen: State, edits: Edits) -> tuple[Array, Array]:
        return residual.attended(kinetics.regulator_inputs(seen, edits), edits.signal, edits.edge_factor)

    def mean(total: tuple, culture: tuple) -> tuple[tuple, None]:
        state, perturbation, grid, rna, fine = culture
        rows = read_along(kinetics, state, perturbation, grid, rna, read)
        return jax.tree.map(lambda sum_, row: sum_ + jnp.where(fine, jnp.mean(row, axis=0), 0.0), total, rows), None

    states, rna, usable = courses(cell, data, settings, fitted)
    zero = jnp.zeros(residual.edge.shape, states.dtype)
    (weight, added), _ = jax.lax.scan(mean, (zero, zero), (states, data.perturbations, data.grid, rna, usable))
    count = jnp.sum(usable)
    over = jnp.maximum(count, 1).astype(states.dtype)
    return weight / over, added / over, count

"""A culture at rest: from its first sample, through the network, to the activities that nobody measured.

At rest mature RNA obeys `gamma_i s_i = c_i a_i`, so a sample gives each promoter's log-odds,
`l_i = logit(gamma_i s_i / c_i)`. What the listed regulators explain of it is the most probable hidden activity h under

    h_r ~ Normal(0, spread_r^2),      own_i ~ Normal(0, spread_i^2),
    l_i - (log-odds at the reference)_i = sum_e [F_e(exp h) - F_e(1)] + own_i,

found by a fixed number of damped Gauss-Newton steps; each gene's own input is the remainder, so the model starts
exactly at the sample. It needs no fitting: it works for cultures never seen.
"""

import jax
import jax.numpy as jnp

from pinnsim.dynamics.gene_kinetics import GeneKinetics
from pinnsim.parameter import resolve
from pinnsim.perturbation import Edits
from pinnsim.shapes import Hidden, PerGene, State

# The energy differences saturate, so that the problem is nearly quadratic: on real samples changes fall below 1e-6.
_STEPS = 5
_LONGEST = 2.0  # largest change of a log activity in one step
_EDGE = 1e-4  # promoter activity is kept this far from 0 and 1, where the log-odds of a noisy sample mean nothing


def infer_at_rest(kinetics: GeneKinetics, rna: PerGene, edits: Edits) -> State:
    """The full state at rest whose mature RNA is `rna`.

    **Arguments:** `rna`: (gene,), abundance of mature RNA, >= 0; `edits`: what acts on the culture while it rests
    (signals, activities and factors of rates; a rate that is switched off cannot have made the sample, so it counts as
    unedited; drives and holds are left out).

    **Returns:** (species,), all layers at rest with each other and hidden activities as most probable. Without own
    inputs promoters need not balance the sample exactly.
    """
    kinetics = resolve(kinetics)
    hidden = jnp.zeros_like(kinetics.hidden.tau)
    factor = jnp.where(edits.factor > 0, edits.factor, 1.0)
    state = kinetics.chain_at_rest(rna, hidden, factor)
    if hidden.size == 0:
        return state
    rates = kinetics.by_kind(factor)
    balanced = rates["decay"] * kinetics.decay * rna / (rates["transcription"] * kinetics.synthesis)
    activity = jnp.clip(balanced, _EDGE, 1.0 - _EDGE)
    wanted = jnp.log(activity) - jnp.log1p(-activity)
    genes, shared = kinetics.genes, hidden.size - kinetics.genes * kinetics.own_inputs
    first = kinetics.abundances

    def explained(listed: Hidden) -> PerGene:
        return kinetics.promoter_log_odds(state.at[first : first + shared].set(listed), edits)

    spread = kinetics.hidden.spread
    # Without own inputs the gap between sample and promoters is weighed with the regulators' own mean spread.
    gap_spread = spread[shared:] if kinetics.own_inputs else jnp.full(genes, jnp.mean(spread))

    def step(listed: Hidden, _: None) -> tuple[Hidden, None]:
        jacobian = jax.jacfwd(explained)(listed) / gap_spread[:, None]
        gap = (wanted - explained(listed)) / gap_spread
        matrix = jacobian.T @ jacobian + jnp.diag(1.0 / spread[:shared] ** 2)
        change = jnp.linalg.solve(matrix, jacobian.T @ gap - listed / spread[:shared] ** 2)
        return listed + _LONGEST * jnp.tanh(change / _LONGEST), None

    listed = hidden[:shared]
    if shared:
        listed, _ = jax.lax.scan(step, listed, None, length=_STEPS)
    state = state.at[first : first + shared].set(listed)
    if not kinetics.own_inputs:
        return state
    return state.at[first + shared :].set(wanted - kinetics.promoter_log_odds(state, edits))

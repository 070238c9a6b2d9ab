"""Which experiment tells rival models apart? The disagreement of their predicted readings.

Each model expects normal readings, `N(f, S)` with `S = R / replicates + J Sigma J'`: the instrument's errors, and the
model's own doubts where a posterior or an ensemble is given. Two models disagree by the symmetrised divergence of
Kullback and Leibler (Jeffreys),

    KL(p, q) + KL(q, p) = 1/2 [tr(S_p^-1 S_q) + tr(S_q^-1 S_p) - 2 n + d' (S_p^-1 + S_q^-1) d],     d = f_p - f_q,

summed over the mean of the replicates and their n (replicates - 1) contrasts, whose covariances are R. In nats: the
mean evidence, for and against, that the readings give whichever of the two is right.

Sources: H. Jeffreys, Proc. R. Soc. A 186:453 (1946); G. E. P. Box and W. J. Hill, Technometrics 9:57 (1967), designs
that tell models apart.
"""

import itertools
from collections.abc import Mapping, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int

from pinnsim.design.experiments import Experiment, Layout, Number, check_experiments, described, layout_of
from pinnsim.design.gain import Outlook, correlated
from pinnsim.design.outlook import Belief, outlook_of, setting_of
from pinnsim.design.parts import in_parts
from pinnsim.errors import PinnsimError, Problems
from pinnsim.fit import Draws, Laplace
from pinnsim.shapes import Scalar
from pinnsim.simulate import AbstractInitial, AtRest

_SIDE_BY_SIDE = 32


def disagreement(
    rivals: Mapping[str, Belief],
    experiments: Sequence[Experiment],
    *,
    start: Number = 0.0,
    initial: AbstractInitial | None = None,
    rtol: float = 1e-6,
    atol: float = 1e-8,
    progress: bool = True,
) -> pd.DataFrame:
    """Ranks candidate experiments by how far rival models disagree about them.

    **Arguments:** `rivals`: two or more by name: one model each, or its posterior, draws or ensemble, of the same
    genes (networks and layers may differ); the others as for `design`.

    **Returns** a row per candidate, first what disagrees most: `experiment` (position), `treatment`, `times`, `genes`,
    `replicates`, `cost`, `disagreement` (mean over pairs, nats), `disagreement_per_cost`, `least` (that of the pair
    told apart worst), `pair` (its names), `outcome`.

    **Raises** `E_USAGE` for fewer than two rivals, `E_GENE_UNMATCHED` for other genes, and what `design` raises.
    """
    models = {name: one.free.model if isinstance(one, Laplace | Draws) else one for name, one in rivals.items()}
    with Problems() as problems:
        if len(rivals) < 2:
            problems.add("E_USAGE", f"Disagreement needs two or more rival models, but got {len(rivals)}.")
        genes = {model.table.genes for model in models.values()}
        if len(genes) > 1:
            problems.add("E_GENE_UNMATCHED", "Rival models list other genes, or in another order; build them alike.")
        for model in models.values():
            try:
                check_experiments(experiments, model.table, start)
            except PinnsimError as error:
                problems.absorb(error)
    layout = layout_of(experiments, next(iter(models.values())).table, start)
    rule = AtRest() if initial is None else initial
    views = [
        outlook_of(belief, layout, setting_of(models[name], layout, rule, rtol, atol), progress)
        for name, belief in rivals.items()
    ]
    pairs = list(itertools.combinations(range(len(views)), 2))
    apart = np.stack([np.asarray(_divergences(views[p], views[q], layout)) for p, q in pairs])
    usable = np.all([np.asarray(view.usable) for view in views], axis=0)[np.asarray(layout.treatment)]
    apart = np.where(usable, apart, np.nan)
    worst = np.where(usable, np.argmin(np.where(np.isfinite(apart), apart, np.inf), axis=0), 0)
    names, cost = list(rivals), np.array([one.cost for one in experiments])
    table = pd.DataFrame(
        {
            **described(experiments),
            "disagreement": apart.mean(axis=0),
            "disagreement_per_cost": apart.mean(axis=0) / cost,
            "least": apart.min(axis=0),
            "pair": [" / ".join(names[k] for k in pairs[w]) for w in worst],
            "outcome": np.where(usable, "done", "could not be solved"),
        }
    )
    return table.sort_values("disagreement", ascending=False, kind="stable").reset_index(drop=True)


@eqx.filter_jit
def _divergences(one: Outlook, other: Outlook, layout: Layout) -> Float[Array, " candidate"]:
    """Of every candidate, in one program."""

    def candidate(number: Int[Array, ""]) -> Scalar:
        told = _told(one, layout, number) & _told(other, layout, number)
        f, r_f, s_f = _normal(one, layout, number, told)
        g, r_g, s_g = _normal(other, layout, number, told)
        contrasts = (layout.replicates[number] - 1.0) * _between(r_f, r_g, jnp.zeros_like(f))
        return _between(s_f, s_g, f - g) + contrasts

    numbers = jnp.arange(layout.treatment.shape[0])
    return in_parts(candidate, numbers, _SIDE_BY_SIDE)


def _told(view: Outlook, layout: Layout, number: Int[Array, ""]) -> Array:
    sd = view.sd[layout.treatment[number], layout.time[number], layout.gene[number]]
    return layout.read[number] & (sd > 0) & jnp.isfinite(sd) & view.usable[layout.treatment[number]]


def _normal(view: Outlook, layout: Layout, number: Int[Array, ""], told: Array) -> tuple[Array, Array, Array]:
    """Mean, the instrument's covariance of one replicate, and the covariance of their mean; unit rows of padding."""
    treatment, time, gene = layout.treatment[number], layout.time[number], layout.gene[number]
    mean = jnp.where(told, view.mean[treatment, time, gene], 0.0)
    sd = jnp.where(told, view.sd[treatment, time, gene], 1.0)
    roots = jnp.where(told[:, None], view.roots[treatment, time, gene], 0.0)
    related = jnp.eye(sd.shape[0], dtype=sd.dtype)
    if view.correlation is not None:
        related = correlated(view.correlation[treatment], time, gene, told)
    errors = sd[:, None] * related * sd[None, :]
    share = jnp.where(told, 1.0 / layout.replicates[number], 1.0)
    return mean, errors, errors * jnp.sqrt(share[:, None] * share[None, :]) + roots @ roots.T


def _between(s: Array, t: Array, apart: Array) -> Scalar:
    """KL both ways between normals of these covariances with means this far apart."""
    a, b = jnp.linalg.cholesky(s), jnp.linalg.cholesky(t)
    ratio, inverse = (
        jax.scipy.linalg.solve_triangular(x, y, lower=True) for x, y in ((a, b), (b, a))
    )  # tr(S^-1 T) = |A^-1 B|^2
    near, far = (jax.scipy.linalg.solve_triangular(x, apart, lower=True) for x in (a, b))
    traces = jnp.sum(ratio**2) + jnp.sum(inverse**2) - 2.0 * apart.shape[0]
    return 0.5 * (traces + jnp.sum(near**2) + jnp.sum(far**2))

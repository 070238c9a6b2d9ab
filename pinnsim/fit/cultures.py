"""Data as a fit sees them: one culture per condition and replicate, padded to equal shapes, with their perturbations resolved."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from pinnsim.data import Dataset
from pinnsim.errors import Problems
from pinnsim.perturbation import Perturbation
from pinnsim.table import Table


class Cultures(eqx.Module):
    """Arrays of all cultures of a data set.

    **Arguments:** `times`: (culture, time); `readings`, `measured_sd`: (culture, time, gene), 0 where unknown; `mask`: true where a reading was made and counts;
    `perturbations`: leading culture axis; `grid`: (culture, node), time nodes of the collocation, every sample time among them; `at`: (culture, time), position of each time in `grid`.
    """

    times: Float[Array, "culture time"]
    readings: Float[Array, "culture time gene"]
    measured_sd: Float[Array, "culture time gene"]
    mask: Bool[Array, "culture time gene"]
    perturbations: Perturbation
    grid: Float[Array, "culture node"]
    at: Array
    names: tuple[str, ...] = eqx.field(static=True)


def cultures(dataset: Dataset, table: Table, *, substeps: int = 6) -> Cultures:
    """The cultures of `dataset` for a model with this `table`.

    **Raises** `E_GENE_UNMATCHED` when genes differ, `E_INIT` for cultures whose first sample lacks genes, `E_TIME_FEW` for fewer than two times, `E_PERTURB_...`.
    """
    conditions, replicates = len(dataset.conditions), len(dataset.replicates)
    rows = [(c, r) for c in range(conditions) for r in range(replicates) if np.asarray(dataset.mask)[c, r].any()]
    with Problems() as problems:
        if tuple(dataset.genes) != table.genes:
            problems.add("E_GENE_UNMATCHED", "The data set lists other genes, or in another order, than the model; select them with dataset.select(genes=model.table.genes).")
        for c, r in rows:
            seen = np.asarray(dataset.mask)[c, r]
            name = f"{dataset.conditions[c]}, replicate {dataset.replicates[r]}"
            if seen.any(axis=1).sum() < 2:
                problems.add("E_TIME_FEW", f"Culture '{name}' has readings at fewer than 2 times; dynamics cannot be fitted to it.")
            if not seen[0].all():
                lacking = [dataset.genes[g] for g in np.flatnonzero(~seen[0])]
                problems.add("E_INIT", f"Culture '{name}' lacks {len(lacking)} genes in its first sample (first: {', '.join(lacking[:3])}), so where it starts is unknown; average replicates with dataset.mean(), or drop it.")
    times = np.stack([np.asarray(dataset.times)[c] for c, _ in rows])
    perturbations = Perturbation.stack([dataset.treatments[c].resolve(table) for c, _ in rows])
    mask = np.stack([np.asarray(dataset.mask)[c, r] for c, r in rows])
    readings = np.where(mask, np.stack([np.asarray(dataset.values)[c, r] for c, r in rows]), 0.0)
    measured = np.nan_to_num(np.stack([np.asarray(dataset.sd)[c, r] for c, r in rows]), nan=0.0)
    fractions = np.arange(substeps) / substeps
    grid = np.concatenate([(times[:, :-1, None] + np.diff(times)[:, :, None] * fractions).reshape(len(rows), -1), times[:, -1:]], axis=1)
    at = np.broadcast_to(np.arange(times.shape[1]) * substeps, times.shape)
    names = tuple(f"{dataset.conditions[c]}/{dataset.replicates[r]}" for c, r in rows)
    return Cultures(*(jnp.asarray(a, dtype=float) for a in (times, readings, measured)), jnp.asarray(mask), perturbations, jnp.asarray(grid, dtype=float), jnp.asarray(at), names)

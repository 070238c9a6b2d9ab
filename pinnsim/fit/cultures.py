"""Data as a fit sees them: one culture per condition and replicate, padded to equal shapes, with their perturbations
resolved."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from pinnsim.data import Dataset
from pinnsim.errors import PinnsimError, Problems, first
from pinnsim.perturbation import Perturbation
from pinnsim.table import Table


class Cultures(eqx.Module):
    """Arrays of all cultures of a data set.

    **Arguments:** `times`: (culture, time); `readings`, `measured_sd`: (culture, time, gene), 0 where unknown; `mask`:
    true where a reading was made and counts; `exposure`: (culture, time), size factor of each sample, by which expected
    readings are multiplied; `perturbations`: leading culture axis; `grid`: (culture, node), time nodes
    of the collocation, every sample time and every switch of a perturbation among them; `at`: (culture, time), position
    of each time in `grid`.
    """

    times: Float[Array, "culture time"]
    readings: Float[Array, "culture time gene"]
    measured_sd: Float[Array, "culture time gene"]
    mask: Bool[Array, "culture time gene"]
    exposure: Float[Array, "culture time"]
    perturbations: Perturbation
    grid: Float[Array, "culture node"]
    at: Int[Array, "culture time"]
    names: tuple[str, ...] = eqx.field(static=True)

    @property
    def per_exposure(self) -> Float[Array, "culture time gene"]:
        """Readings as a sample of size factor 1 would show them."""
        return self.readings / self.exposure[..., None]

    def anonymous(self) -> "Cultures":
        """Without names, which are static and would keep different problems from being lanes of one program."""
        return dataclasses.replace(self, names=())


def measured_cultures(dataset: Dataset) -> list[tuple[int, int]]:
    """Positions (condition, replicate) of the cultures that have readings: the rows of `cultures`, in order."""
    seen = np.asarray(dataset.mask).any(axis=(2, 3))
    return [(int(c), int(r)) for c, r in np.argwhere(seen)]


def cultures(dataset: Dataset, table: Table, *, substeps: int = 6, exposure: ArrayLike | None = None) -> Cultures:
    """The cultures of `dataset` for a model with this `table`.

    **Arguments:** `exposure`: (condition, replicate, time), size factors of samples that were counted
    (`observation.size_factors`, of all genes that were, not only the model's), > 0 where there are readings; 1 where
    not given.

    **Raises** `E_DATA_SHAPE` and `E_DATA_EMPTY` for size factors that do not fit, `E_DATA_EMPTY` without any reading,
    `E_GENE_UNMATCHED` when genes differ, `E_INIT` for cultures whose first sample lacks genes, `E_TIME_FEW` for fewer
    than two times, `E_PERTURB_...`.
    """
    rows = measured_cultures(dataset)
    if not rows:
        raise PinnsimError.of("E_DATA_EMPTY", "The data set has no readings, so there is nothing to fit.")
    depth = np.ones(np.shape(dataset.mask)[:3]) if exposure is None else np.asarray(exposure, dtype=float)
    with Problems() as problems:
        _check_exposure(problems, depth, np.asarray(dataset.mask))
        if tuple(dataset.genes) != table.genes:
            problems.add(
                "E_GENE_UNMATCHED",
                "The data set lists other genes, or in another order, than the model; select them with "
                "dataset.select(genes=model.table.genes).",
            )
        for c, r in rows:
            seen = np.asarray(dataset.mask)[c, r]
            name = f"{dataset.conditions[c]}, replicate {dataset.replicates[r]}"
            if seen.any(axis=1).sum() < 2:
                problems.add(
                    "E_TIME_FEW",
                    f"Culture '{name}' has readings at fewer than 2 times; dynamics cannot be fitted to it.",
                )
            if not seen[0].all():
                lacking = [dataset.genes[g] for g in np.flatnonzero(~seen[0])]
                problems.add(
                    "E_INIT",
                    f"Culture '{name}' lacks {len(lacking)} genes in its first sample (first: {first(lacking)}), so "
                    "where it starts is unknown; average replicates with dataset.mean(), or drop it.",
                )
    pairs = tuple(np.array(rows).T)
    times = np.asarray(dataset.times)[pairs[0]]
    mask = np.asarray(dataset.mask)[pairs]
    perturbations = Perturbation.stack([dataset.treatments[c].resolve(table) for c, _ in rows])
    grid, at = collocation_grid(times, perturbations, substeps)
    return Cultures(
        times=jnp.asarray(times, dtype=float),
        readings=jnp.asarray(np.where(mask, np.asarray(dataset.values)[pairs], 0.0), dtype=float),
        measured_sd=jnp.asarray(np.nan_to_num(np.asarray(dataset.sd)[pairs], nan=0.0), dtype=float),
        mask=jnp.asarray(mask),
        exposure=jnp.asarray(np.where(mask.any(axis=2), depth[pairs], 1.0), dtype=float),
        perturbations=perturbations,
        grid=jnp.asarray(grid, dtype=float),
        at=jnp.asarray(at, dtype=int),
        names=tuple(f"{dataset.conditions[c]}/{dataset.replicates[r]}" for c, r in rows),
    )


def _check_exposure(problems: Problems, exposure: np.ndarray, mask: np.ndarray) -> None:
    if exposure.shape != mask.shape[:3]:
        problems.add(
            "E_DATA_SHAPE",
            f"Argument `exposure` needs one size factor per sample, {mask.shape[:3]} (condition, replicate, time), but "
            f"has shape {exposure.shape}.",
        )
        problems.raise_any()
    bad = np.argwhere(mask.any(axis=3) & ~((exposure > 0) & np.isfinite(exposure))).tolist()
    if bad:
        problems.add(
            "E_DATA_EMPTY",
            f"{len(bad)} samples with readings have a size factor that is not > 0 (first: condition, replicate, time "
            f"{first(bad)}); a sample without counts tells nothing: drop it.",
        )


def collocation_grid(times: np.ndarray, perturbations: Perturbation, substeps: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes of the collocation and the sample times' positions among them: `substeps` equal steps between samples, cut
    at the switches, so that no step straddles one."""
    fractions = np.arange(substeps) / substeps
    inner = (times[:, :-1, None] + np.diff(times)[:, :, None] * fractions).reshape(len(times), -1)
    switches = np.concatenate([np.asarray(perturbations.start), np.asarray(perturbations.stop)], axis=1)
    # Switches outside become steps of no length at an end, so that the shape depends on the number of phases only.
    inside = np.clip(switches, times[:, :1], times[:, -1:])
    grid = np.sort(np.concatenate([inner, times[:, -1:], inside], axis=1), axis=1)
    # The first node of that time: a reading at a switch is the one before it, as in the solver.
    return grid, np.array([np.searchsorted(nodes, row) for nodes, row in zip(grid, times, strict=True)])

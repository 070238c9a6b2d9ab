"""`tl.transition_matrix`: the fitted model as a Markov chain on the measured cells, for CellRank and other tools."""

import functools
from typing import Any

import numpy as np
import scipy.sparse

from pinnsim.annotated import record
from pinnsim.annotated.cells import best, fitted, states_of
from pinnsim.errors import Problems
from pinnsim.landscape.noise import chemical
from pinnsim.landscape.transitions import nearest_cells, transitions
from pinnsim.treatment import Treatment, as_treatment


def transition_matrix(
    adata: Any,
    *,
    step: float | int,
    neighbors: int | str,
    treatment: Treatment | str = "none",
    size: float | int | None = None,
    density: bool = True,
    member: int = 0,
    key: str = record.FIT,
    key_added: str = record.TRANSITION,
    copy: bool = False,
) -> Any:
    """Where each cell goes in a step, among the cells that were seen near it.

        P_ij ~ Normal(x_j; x_i + step f(x_i), 2 step D(x_i)) / density_j,      rows add up to 1

    **Arguments:** `step`: in the unit of `pp.times`; `neighbors`: a number, of nearest cells by the model's species, or
    the name of a graph in `obsp` ("connectivities" of scanpy's neighbours); `treatment`: what acts; `size`: molecules
    per unit of abundance, the noise (default: that of the fit); `density`: whether densities of cells are divided out;
    `member`: of the kept starts; `key`: of the fit. See `pinnsim.landscape.transitions`.

    Good values: see `pinnsim.landscape.transitions`; look at the two columns that are written.

    CellRank reads it by `cellrank.kernels.PrecomputedKernel("pinnsim_transition", adata)`.

    **Returns** nothing (`copy=True`: a new object). **Writes** `obsp[key_added]`: sparse, row-stochastic;
    `obs[key_added + "_neighbours"]`: how many cells share a row's probability (near 1: the step is too short for these
    cells); `obs[key_added + "_lag"]`: the share of the drift's own step that the row makes; `uns[key_added]`: `params`.

    **Raises** `E_COLUMN_MISSING`, `E_USAGE`, `E_DATA_SHAPE`, `E_PERTURB_...`, together where they can be.
    """
    record.check_object(adata, copy)
    named = isinstance(neighbors, str)
    with Problems() as problems:
        record.check_key(problems, key_added)
        record.check_entry(problems, adata, "uns", key)
        if named:
            record.check_entry(problems, adata, "obsp", str(neighbors))
        elif not 1 <= int(neighbors) < adata.n_obs:
            problems.add(
                "E_USAGE", f"Argument `neighbors` is {neighbors} of {adata.n_obs} cells; give 1 or more, or a key."
            )
        if not (np.isfinite(float(step)) and step > 0):
            problems.add("E_USAGE", f"Argument `step` must be finite and > 0, but is {step}.")
        acting = problems.attempt(lambda: as_treatment(treatment))
    model = best(fitted(adata, key), member)
    states = states_of(adata, model, key)
    omega = float(record.entry(adata, key)["params"]["size"]) if size is None else float(size)
    graph = scipy.sparse.csr_matrix(adata.obsp[neighbors]) if named else nearest_cells(states, int(neighbors))
    noise = functools.partial(chemical, size=omega)
    found = transitions(model, states, graph, step, noise, acting, density=density)
    params = {"step": float(step), "neighbors": neighbors, "treatment": str(acting), "size": omega, "density": density}
    told = {"params": record.plain({**params, "member": member, "key": key}), "time_unit": found.time_unit}
    obs = {f"{key_added}_neighbours": found.neighbours, f"{key_added}_lag": found.lag}
    return record.write(adata, copy, obsp={key_added: found.matrix}, obs=obs, uns={key_added: told})

"""From an AnnData object that was prepared by `pinnsim.pp` to what fits and simulations take: populations, priors of
rates, the fitted model, and the states that its cells seem to have."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pinnsim.annotated import record
from pinnsim.data.blocks import columns
from pinnsim.data.cells import read_anndata
from pinnsim.data.snapshots import Snapshots
from pinnsim.errors import PinnsimError, Problems, first
from pinnsim.fit.measured import cell_states
from pinnsim.formats.bundle import MANIFEST, MODEL, PARAMETERS, Bundle, model_of_files
from pinnsim.model import CellModel
from pinnsim.prior import KineticPrior, LogNormal, rate_of

_FILES = {"model_toml": MODEL, "parameters": PARAMETERS, "manifest_json": MANIFEST}


def selected(adata: Any) -> list[str]:
    """Names of the selected genes, in the object's order. **Raises** `E_COLUMN_MISSING`, `E_DATA_EMPTY`."""
    with Problems() as problems:
        record.check_entry(problems, adata, "var", record.SELECTED)
    names = [str(name) for name in adata.var_names[np.asarray(adata.var[record.SELECTED], dtype=bool)]]
    if not names:
        raise PinnsimError.of("E_DATA_EMPTY", f"`var` selects no gene in '{record.SELECTED}'; run pp.select_genes.")
    return names


def snapshots_of(adata: Any, layers: Mapping[str, str], scale: str, genes: list[str]) -> Snapshots:
    """Populations of the cells by condition and time, as `pp.times` and `pp.size_factors` attached them.

    **Arguments:** `layers`: the model's layer to the data's; `scale`: of the values. **Raises** what `read_anndata`
    raises, and `E_COLUMN_MISSING` for steps that have not run.
    """
    with Problems() as problems:
        for place, key in (("obs", record.TIME), ("obs", record.SIZE), ("uns", record.TIMES)):
            record.check_entry(problems, adata, place, key)
        record.check_layers(problems, adata, list(layers.values()))
    told = adata.uns[record.TIMES]
    present = {str(name) for name in adata.obs[record.CONDITION]}
    acts = zip(told["conditions"], told["treatments"], strict=True)
    return read_anndata(
        adata,
        layers=layers,
        time_key=record.TIME,
        condition_key=record.CONDITION,
        size_factors=record.SIZE,
        genes=genes,
        treatments={str(name): str(text) for name, text in acts if str(name) in present},
        time_unit=str(told["time_unit"]),
        time_kind=str(told["time_kind"]),
        source=str(told["source"]),
        simulated=bool(told["simulated"]),
        scale=scale,
    )


def prior_of(adata: Any, genes: list[str], time_unit: str) -> KineticPrior:
    """The prior of decay that `pp.half_lives` attached, per `time_unit`. **Raises** `E_COLUMN_MISSING`,
    `E_PRIOR_MISSING` for genes without a half-life."""
    names = (record.HALF_LIFE, f"{record.HALF_LIFE}_log_sd", f"{record.HALF_LIFE}_source")
    with Problems() as problems:
        for key in names:
            record.check_entry(problems, adata, "var", key)
        record.check_entry(problems, adata, "uns", record.HALF_LIVES)
    rows = adata.var.loc[genes]
    value, width = (rows[key].to_numpy(dtype=float) for key in names[:2])
    lacking = [gene for gene, v in zip(genes, value, strict=True) if not np.isfinite(v)]
    if lacking:
        raise PinnsimError.of(
            "E_PRIOR_MISSING",
            f"{len(lacking)} of {len(genes)} selected genes have no half-life ({first(lacking)}); run pp.half_lives "
            "after pp.select_genes.",
        )
    told = adata.uns[record.HALF_LIVES]
    source = tuple(str(text) for text in rows[names[2]])
    # The library's own precision is the session's.
    import jax.numpy as jnp

    rate = LogNormal(jnp.asarray(rate_of(value), dtype=float), jnp.asarray(width, dtype=float))
    return KineticPrior(rate, tuple(genes), source, "mrna", str(told["unit"])).in_unit(time_unit)


def bundle_entry(files: Mapping[str, bytes]) -> dict[str, Any]:
    """A bundle's files as texts and an array of bytes."""
    return {
        "model_toml": files[MODEL].decode(),
        "manifest_json": files[MANIFEST].decode(),
        "parameters": np.frombuffer(files[PARAMETERS], dtype=np.uint8).copy(),
    }


def fitted(adata: Any, key: str) -> Bundle:
    """The fitted model of `tl.fit`, bit for bit. **Raises** `E_COLUMN_MISSING`, and `E_CKPT_...`, `E_PRECISION` as
    `load_model` does."""
    kept = record.entry(adata, key)
    if not isinstance(kept, Mapping) or "model" not in kept:
        raise PinnsimError.of("E_CKPT_MISSING", f"uns['{key}'] holds no fitted model; name the key of a tl.fit.")
    files = {}
    for name, file in _FILES.items():
        if name in kept["model"]:
            value = kept["model"][name]
            files[file] = value.encode() if isinstance(value, str) else np.asarray(value, dtype=np.uint8).tobytes()
    return model_of_files(files)


def best(bundle: Bundle, member: int = 0) -> CellModel:
    """One start of a fit, the best by default. **Raises** `E_USAGE` for a number there is not."""
    models = bundle.models
    if not 0 <= member < len(models):
        raise PinnsimError.of("E_USAGE", f"There is no member {member}; the fit kept {len(models)}, from 0 on.")
    return models[member]


def layers_of(adata: Any, key: str) -> dict[str, str]:
    """The model's layers that were measured, and the data's names of them, as a fit was told."""
    return {str(name): str(where) for name, where in record.entry(adata, key)["params"]["layers"].items()}


def readings_of(adata: Any, layers: Mapping[str, str], genes: tuple[str, ...]) -> np.ndarray:
    """Readings per unit of exposure of every cell, (cell, layer, gene). **Raises** `E_GENE_UNMATCHED`,
    `E_LAYER_MISSING`, `E_COLUMN_MISSING`, together."""
    names = {str(name): place for place, name in enumerate(adata.var_names)}
    with Problems() as problems:
        record.check_entry(problems, adata, "obs", record.SIZE)
        record.check_layers(problems, adata, list(layers.values()))
        missing = [gene for gene in genes if gene not in names]
        if missing:
            problems.add(
                "E_GENE_UNMATCHED",
                f"{len(missing)} of {len(genes)} genes of the model are absent from the data ({first(missing)}).",
            )
    where = np.array([names[gene] for gene in genes], dtype=int)
    values = np.stack([columns(record.layer_of(adata, name), where) for name in layers.values()], axis=1)
    return values / np.asarray(adata.obs[record.SIZE], dtype=float)[:, None, None]


def states_of(adata: Any, model: CellModel, key: str) -> np.ndarray:
    """The states that the cells seem to have, (cell, species), for the model of the fit under `key`."""
    layers = layers_of(adata, key)
    return cell_states(model, readings_of(adata, layers, model.table.genes), tuple(layers))

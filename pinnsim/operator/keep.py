"""A certified operator as one file: arrays under their names, its make as text, nothing that could be executed.

The file is a safetensors file of `pinnsim.store` (digests, static names, precision checked). Its texts say how the
operator was made, so that it is rebuilt for the model it is given and then filled; with a model of other names, shapes
or rates it is refused.
"""

import json
from pathlib import Path
from typing import Annotated, Literal

import jax
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pinnsim.dynamics.gene_kinetics import GeneKinetics
from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError
from pinnsim.operator.chain import Grid
from pinnsim.operator.conformal import Conformal
from pinnsim.operator.domain import Domain, declare, kind
from pinnsim.operator.form import DOUBTS, AbstractOperator
from pinnsim.operator.genes import gene_operator
from pinnsim.operator.method import CertifiedOperator
from pinnsim.operator.reactions import reaction_operator
from pinnsim.parameter import frozen, resolve
from pinnsim.store import read, save_tree
from pinnsim.tree import structure_hash

SCHEMA = 1
Count = Annotated[int, Field(ge=1, le=100_000)]


class OperatorConfig(BaseModel):
    """The make of an operator: its form and sizes, which `build_operator` turns into an untrained one.

    `kind` "genes" solves everything downstream of promoters exactly, "reactions" takes any reaction system; `levels`
    are those of a `Grid`; `windows` 1 answers a whole horizon at once, more march through it; `fastest` is the largest
    loss (1 / time) that it resolves, for genes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["genes", "reactions"] = "genes"
    horizon: Annotated[float, Field(gt=0)]
    levels: Annotated[tuple[Annotated[int, Field(ge=0, le=20)], ...], Field(min_length=2)] = (
        *(0, 0, 0, 0),
        *(1, 1, 2, 2, 3, 3),
    )
    windows: Count = 1
    sweeps: Annotated[int, Field(ge=1, le=20)] = 2
    corrected: bool = False
    width: Count = 64
    depth: Annotated[int, Field(ge=0, le=8)] = 1
    modes: Annotated[int, Field(ge=1, le=64)] = 3
    fastest: Annotated[float, Field(gt=0)] = 10.0
    seed: Annotated[int, Field(ge=0)] = 0


def build_operator(config: OperatorConfig, kinetics: AbstractKinetics) -> AbstractOperator:
    """An untrained operator of resolved kinetics."""
    key, grid = jax.random.key(config.seed), Grid(config.levels)
    if config.kind == "reactions":
        return reaction_operator(
            kinetics,
            config.horizon,
            grid=grid,
            windows=config.windows,
            sweeps=config.sweeps,
            width=config.width,
            depth=config.depth,
            modes=config.modes,
            key=key,
        )
    if not isinstance(kinetics, GeneKinetics):
        raise PinnsimError.of(
            "E_USAGE", f"An operator of genes needs gene kinetics, but got {type(kinetics).__name__}; use 'reactions'."
        )
    return gene_operator(
        kinetics,
        config.horizon,
        grid=grid,
        windows=config.windows,
        fastest=config.fastest,
        sweeps=config.sweeps,
        corrected=config.corrected,
        width=config.width,
        depth=config.depth,
        modes=config.modes,
        key=key,
    )


def save_operator(path: str | Path, certified: CertifiedOperator, config: OperatorConfig) -> None:
    """Writes a certified operator, atomically. **Arguments:** `config`: what its operator was built from.

    **Raises** `E_DISK`; `E_USAGE` where `config` is not the operator's.
    """
    domain = certified.domain
    if structure_hash(build_operator(config, resolve(domain).kinetics)) != structure_hash(certified.operator):
        raise PinnsimError.of(
            "E_USAGE", "Argument `config` does not describe this operator; give what it was built from."
        )
    told = {
        "schema": SCHEMA,
        "domain": {
            "rates": list(domain.rates),
            "most": domain.most,
            "pulses": domain.pulses,
            "kinds": [{"name": k.name, "field": k.field, "where": list(k.where)} for k in domain.kinds],
        },
    }
    save_tree(path, certified, {"operator": config.model_dump_json(), "make": json.dumps(told)})


def load_operator(path: str | Path, kinetics: AbstractKinetics) -> tuple[CertifiedOperator, OperatorConfig]:
    """A certified operator, bit for bit. **Arguments:** `kinetics`: the model that it belongs to.

    **Raises** `E_CKPT_MISSING`, `E_CKPT_CORRUPT`, `E_CKPT_VERSION`, `E_PRECISION`; `E_CKPT_MODEL` for another model's.
    """
    stored = read(path)
    try:
        config = OperatorConfig.model_validate_json(stored.meta["operator"])
        told = json.loads(stored.meta["make"])
        made = told["domain"]
        kinds = [kind(item["name"], item["field"], item["where"], 0.0, 1.0) for item in made["kinds"]]
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise PinnsimError.of(
            "E_CKPT_CORRUPT", f"'{Path(path).name}' is no operator of this build: {error}."
        ) from error
    resolved = jax.tree.map(jax.numpy.asarray, resolve(kinetics))
    species = len(resolved.table.species)
    bounds = (np.zeros(species), np.ones(species))
    domain = declare(
        resolved, config.horizon, rates=made["rates"], states=bounds, kinds=kinds, most=made["most"],
        pulses=made["pulses"],
    )  # fmt: skip
    empty = Conformal(frozen(np.zeros(1 + len(DOUBTS))), frozen(1.0), frozen(0.9))
    certified = stored.into(CertifiedOperator(build_operator(config, resolved), domain, empty))
    if not _same_model(certified.domain, resolved):
        raise PinnsimError.of(
            "E_CKPT_MODEL", f"'{Path(path).name}' was trained for a model with other numbers; train one for this model."
        )
    return certified, config


def _same_model(domain: Domain, kinetics: AbstractKinetics) -> bool:
    ours, theirs = jax.tree.leaves(domain.kinetics), jax.tree.leaves(kinetics)
    return all(np.allclose(np.asarray(a), np.asarray(b), rtol=1e-6, atol=0) for a, b in zip(ours, theirs, strict=True))

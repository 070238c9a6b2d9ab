"""A latent model as one file: arrays under their names, its make as text, nothing that could be executed."""

import json
from pathlib import Path

import jax
import numpy as np
from pydantic import ValidationError

from pinnsim.errors import PinnsimError
from pinnsim.latent.cells import SCALES
from pinnsim.latent.domain import blank
from pinnsim.latent.model import LatentModel
from pinnsim.latent.network import Anchor, latent_network
from pinnsim.latent.plan import LatentPlan
from pinnsim.parameter import frozen
from pinnsim.store import read, save_tree

SCHEMA = 2


def save_latent(path: str | Path, model: LatentModel) -> None:
    """Writes a latent model, atomically. **Raises** `E_DISK`."""
    anchor = model.network.decoder.anchor
    told = {
        "schema": SCHEMA,
        "readings": list(model.readings),
        "inputs": list(model.network.field.table.inputs),
        "scale": model.scale,
        "time_unit": model.time_unit,
        "nodes": 0 if anchor is None else int(anchor.nodes.value.shape[0]),
        "cells": [int(part.value.shape[0]) for part in (model.domain.embeddings, model.domain.calibration)],
    }
    save_tree(path, model, {"latent plan": model.plan.model_dump_json(), "make": json.dumps(told)})


def load_latent(path: str | Path) -> LatentModel:
    """A latent model, bit for bit. **Raises** `E_CKPT_MISSING`, `E_CKPT_CORRUPT`, `E_CKPT_VERSION`, `E_PRECISION`."""
    stored = read(path)
    try:
        plan = LatentPlan.model_validate_json(stored.meta["latent plan"])
        told = json.loads(stored.meta["make"])
        readings, inputs = (tuple(str(name) for name in told[key]) for key in ("readings", "inputs"))
        nodes, (cells, held) = int(told["nodes"]), (int(count) for count in told["cells"])
        scale, unit, schema = str(told["scale"]), str(told["time_unit"]), int(told["schema"])
        if scale not in SCALES or nodes < 0:
            raise ValueError(f"scale '{scale}' with {nodes} nodes")
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise PinnsimError.of("E_CKPT_CORRUPT", f"'{Path(path).name}' is no latent model: {error}.") from error
    if schema != SCHEMA:
        raise PinnsimError.of(
            "E_CKPT_VERSION",
            f"'{Path(path).name}' is a latent model of schema {schema}, this build reads {SCHEMA}.",
        )
    genes = len(readings)
    network = latent_network(
        np.zeros((plan.dimension + 1, genes)),
        np.ones(genes),
        1.0,
        dimension=plan.dimension,
        width=plan.width,
        depth=plan.depth,
        counted=scale == "counts",
        swirl=plan.swirl,
        inputs=inputs,
        anchor=Anchor(frozen(np.zeros((nodes, genes)))) if nodes else None,
        time_unit=unit,
        key=jax.random.key(plan.seed),
    )
    domain = blank(cells, held, genes, plan.dimension, plan.neighbours)
    return stored.into(LatentModel(network, domain, readings, scale, unit, plan))

"""`model.toml` of gene kinetics: everything that fixes a model's structure, in a form that people read and compare.

Configuration, genes in their order, signed edges with confidence and provenance, and the kinetic prior of every gene
with its source: `build(config, network, prior)` makes the same structure from it on any machine. The fitted numbers lie
beside it, in `parameters.safetensors`.
"""

from typing import Annotated, Any, Literal

import jax.numpy as jnp
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pinnsim.errors import first
from pinnsim.model import CellModel, ModelConfig, build
from pinnsim.network import Network
from pinnsim.prior import KineticPrior, LogNormal

KIND = "gene_kinetics"

_READOUTS = {
    "identity": "reading = abundance",
    "array": "reading = ceiling - softplus(2 (ceiling - w)) / 2, w = log2(2^floor + 2^z), "
    "z = offset + scale log2(abundance)",
    "linear": "reading = background + scale abundance",
    "cycles": "reading = offset - log(abundance) / log(1 + efficiency)",
}
_PROMOTERS = {
    "thermodynamic": "a = sigmoid(basal + sum over edges of log((1 + omega theta) / (1 + theta)) + inputs + residual)",
    "hill": "a = leak + (1 - leak) sum over edges of weight h, h = theta / (1 + theta), 1 - h for repressors; "
    "inputs + residual add to its log-odds",
}
_SPLICING = ("du/dt = c a + drive - beta u", "ds/dt = beta u - gamma s")
_PROTEIN = "dp/dt = k {rna} - delta p"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EdgeEntry(_Section):
    """One signed edge; `sign` 0 is unknown (learned)."""

    source: str
    target: str
    sign: Literal[-1, 0, 1]
    confidence: Annotated[float, Field(gt=0, le=1)]
    kind: str
    origin: str


class RateEntry(_Section):
    """The prior of one gene's rate (per time unit): `ln rate ~ Normal(ln rate, log_sd)`, and where it comes from."""

    gene: str
    rate: Annotated[float, Field(gt=0)]
    log_sd: Annotated[float, Field(gt=0)]
    source: str


class PriorSection(_Section):
    """The kinetic prior: what decays (or is processed), the unit, and one entry per gene."""

    quantity: str
    time_unit: str
    rates: tuple[RateEntry, ...]


class GeneKineticsFile(_Section):
    """All of `model.toml`. `members`: the number of stacked models, absent for a single one."""

    schema_version: int
    kind: Literal["gene_kinetics"]
    members: Annotated[int, Field(ge=1)] | None = None
    data_digest: str = ""
    genes: tuple[str, ...]
    regulators: tuple[str, ...]
    formula: dict[str, str] = {}
    notes: dict[str, Any] = {}
    config: ModelConfig
    prior: PriorSection
    edges: tuple[EdgeEntry, ...] = ()

    @model_validator(mode="after")
    def _ends_are_known(self) -> "GeneKineticsFile":
        problems = []
        for what, names in (("genes", self.genes), ("regulators", self.regulators)):
            if len(set(names)) != len(names):
                problems.append(f"{what} repeats {first(sorted({name for name in names if names.count(name) > 1}))}")
        lost = [edge.source for edge in self.edges if edge.source not in self.regulators]
        lost += [edge.target for edge in self.edges if edge.target not in self.genes]
        if lost:
            problems.append(f"edges name {first(dict.fromkeys(lost))}, absent from `regulators` or `genes`")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def parts(self) -> tuple[ModelConfig, Network, KineticPrior]:
        """Configuration, network and prior: the arguments of `build`."""
        regulator = {name: position for position, name in enumerate(self.regulators)}
        gene = {name: position for position, name in enumerate(self.genes)}
        network = Network(
            source=np.array([regulator[edge.source] for edge in self.edges], dtype=np.int64),
            target=np.array([gene[edge.target] for edge in self.edges], dtype=np.int64),
            sign=np.array([edge.sign for edge in self.edges], dtype=np.float64),
            confidence=np.array([edge.confidence for edge in self.edges], dtype=np.float64),
            genes=self.genes,
            regulators=self.regulators,
            kind=tuple(edge.kind for edge in self.edges),
            origin=tuple(edge.origin for edge in self.edges),
        )
        rates = self.prior.rates
        rate = LogNormal(
            jnp.asarray([entry.rate for entry in rates], dtype=float),
            jnp.asarray([entry.log_sd for entry in rates], dtype=float),
        )
        genes, source = tuple(entry.gene for entry in rates), tuple(entry.source for entry in rates)
        return self.config, network, KineticPrior(rate, genes, source, self.prior.quantity, self.prior.time_unit)

    def structure(self) -> CellModel:
        """A single model of this structure; its numbers are the prior's centre."""
        return build(*self.parts()).center


def describe(config: ModelConfig, network: Network, prior: KineticPrior) -> dict[str, Any]:
    """The entries of `model.toml` that fix the structure; `GeneKineticsFile.parts` is the inverse."""
    rates = zip(
        prior.genes,
        np.asarray(prior.rate.median).tolist(),
        np.asarray(prior.rate.log_sd).tolist(),
        prior.source,
        strict=True,
    )
    edges = zip(
        network.source.tolist(),
        network.target.tolist(),
        network.sign.tolist(),
        network.confidence.tolist(),
        network.kind,
        network.origin,
        strict=True,
    )
    return {
        "genes": list(network.genes),
        "regulators": list(network.regulators),
        "formula": formulas(config),
        "config": config.model_dump(exclude_none=True),
        "prior": {
            "quantity": prior.quantity,
            "time_unit": prior.time_unit,
            "rates": [{"gene": g, "rate": r, "log_sd": sd, "source": source} for g, r, sd, source in rates],
        },
        "edges": [
            {
                "source": network.regulators[source],
                "target": network.genes[target],
                "sign": int(sign),
                "confidence": confidence,
                "kind": kind,
                "origin": origin,
            }
            for source, target, sign, confidence, kind, origin in edges
        ],
    }


def formulas(config: ModelConfig) -> dict[str, str]:
    """The equations that a configuration chooses, for readers of the file; nothing is computed from them."""
    rna = "s" if "spliced" in config.layers else "m"
    equations = list(_SPLICING) if rna == "s" else ["dm/dt = c a + drive - gamma m"]
    if "protein" in config.layers:
        equations.append(_PROTEIN.format(rna=rna))
    return {
        "kinetics": "; ".join(equations),
        "promoter": _PROMOTERS[config.regulation.kind],
        "readout": _READOUTS.get(config.readout.kind, config.readout.kind),
    }

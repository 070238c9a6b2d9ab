"""A project: what one TOML file says about data, network, prior knowledge, model and fit.

    [data]        name = "bsubtilis_carbon_shift"    (embedded), or tidy = "table.csv",
                                                     or wide = "matrix.csv" and samples = "samples.csv"
    [treatments]  condition = "signal(malate)=1@0:"  (added to what the data say)
    [network]     path = "network.csv"               (default: the data's own)
    [prior]       organism = "B. subtilis"           and/or half_lives = "half_lives.csv"
    [model]       see `ModelConfig`                  [fit] see `FitPlan`        [score] see `ScorePlan`

Paths are relative to the file. Unknown keys are refused, with the closest known one.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from pinnsim.data import Dataset, load, read_tidy, read_wide
from pinnsim.data.build import Declared
from pinnsim.errors import PinnsimError, Problems, did_you_mean
from pinnsim.fit import FitPlan
from pinnsim.formats.toml import read_config
from pinnsim.model import ModelConfig
from pinnsim.network import Network
from pinnsim.prior import KineticPrior, half_life_prior
from pinnsim.treatment import NONE, Treatment


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Section):
    """Where the readings are: exactly one of `name`, `tidy`, `wide`. Columns are named, never guessed."""

    name: str | None = None
    tidy: str | None = None
    wide: str | None = None
    samples: str | None = None
    gene: str | None = None
    value: str = "value"
    time: str = "time"
    condition: str | None = None
    replicate: str | None = None
    sd: str | None = None
    time_unit: str | None = None
    scale: str | None = None
    source: str = ""
    simulated: bool = False
    missing: Literal["error", "mask"] = "error"
    technical_samples: Literal["error", "average"] = "error"
    replicates: Literal["mean", "each"] = "mean"
    measured_sd: Literal["ignore", "use"] = "ignore"


class NetworkConfig(_Section):
    """The signed network: a table of edges (see `Network.read`); without a path, the embedded data's own, or no edge at
    all for tables."""

    path: str | None = None
    allow_missing: bool = False


class PriorConfig(_Section):
    """Half-lives: a table of measured ones and/or an organism whose typical value stands in for the genes that it
    lacks."""

    organism: str | None = None
    half_lives: str | None = None
    unit: str | None = None
    log_sd: Annotated[float, Field(gt=0)] = 0.4


class ScorePlan(_Section):
    """How a fit is judged.

    `shuffles`: shuffled-network controls; `blocks`: times to hold out; `late`: from when on a culture counts as
    settled; `relaxation`: time constant of the common baseline (both in the data's unit); `candidates`: values to
    choose from by held-out blocks, by dotted key, each from constrained to free
    (`"model.regulation.tau_sd" = [0.4, 0.8]`; entries of a list go by their name).
    """

    shuffles: Annotated[int, Field(ge=0, le=1000)] = 5
    blocks: tuple[tuple[float, float], ...] = ()
    late: float | None = None
    relaxation: float | None = None
    candidates: dict[str, tuple[float, ...]] = {}


class ProjectConfig(_Section):
    """The whole file."""

    data: DataConfig
    treatments: dict[str, str] = {}
    network: NetworkConfig = NetworkConfig()
    prior: PriorConfig = PriorConfig()
    model: ModelConfig = ModelConfig()
    fit: FitPlan = FitPlan()
    score: ScorePlan = ScorePlan()


@dataclasses.dataclass(frozen=True)
class Project:
    """A project's configuration with everything it names read and checked. `measured` has all replicates, `dataset` is
    what is fitted."""

    config: ProjectConfig
    measured: Dataset
    dataset: Dataset
    network: Network
    prior: KineticPrior


def load_project(path: str | Path, **replaced: object) -> Project:
    """Reads a project file and all that it names.

    **Arguments:** `replaced`: whole sections to use instead of the file's, for example `fit=FitPlan(...)`.

    **Raises** `E_CONFIG_...` for the file, and what the readers raise for the data.
    """
    config = read_config(Path(path), ProjectConfig)
    return assemble(config.model_copy(update=replaced), Path(path).parent)


def assemble(config: ProjectConfig, folder: Path) -> Project:
    """Reads what a configuration names; relative paths start at `folder`. Tells the problems of all files at once."""
    with Problems() as problems:
        read = problems.attempt(lambda: _read_data(config.data, folder))
        path = config.network.path
        listed = None if path is None else problems.attempt(lambda: Network.read(folder / path))
        edits = {name: problems.attempt(functools.partial(Treatment.parse, t)) for name, t in config.treatments.items()}
        genes = () if read is None else read[0].genes
        prior = problems.attempt(lambda: _prior(config, folder, genes))
        if read is None:
            problems.raise_any()
        measured, own = read
        treatments = _treatments(problems, edits, measured)
        known, lenient = own if listed is None else listed, config.network.allow_missing
        network = problems.attempt(lambda: known.restrict(genes, allow_missing=lenient))
    measured = dataclasses.replace(measured, treatments=treatments)
    dataset = measured.mean() if config.data.replicates == "mean" else measured
    if config.data.measured_sd == "ignore":
        dataset = dataclasses.replace(dataset, sd=np.full_like(dataset.sd, np.nan))
    return Project(config, measured, dataset, network, prior)


def _prior(config: ProjectConfig, folder: Path, genes: tuple[str, ...]) -> KineticPrior:
    table = config.prior.half_lives
    return half_life_prior(
        None if table is None else folder / table,
        genes,
        config.prior.organism,
        config.model.time_unit,
        table_unit=config.prior.unit,
        log_sd=config.prior.log_sd,
    )


def _read_data(data: DataConfig, folder: Path) -> tuple[Dataset, Network]:
    """The data set and its own network, without an edge of tables."""
    if [data.name, data.tidy, data.wide].count(None) != 2:
        raise PinnsimError.of(
            "E_CONFIG_VALUE",
            "[data] needs exactly one of name, tidy and wide; see 'pinnsim fit --help' for an example of each.",
        )
    if data.name is not None:
        return load(data.name)
    dataset = _read_table(data, folder)
    return dataset, Network.empty(dataset.genes)


def _read_table(data: DataConfig, folder: Path) -> Dataset:
    declared: Declared = {
        "time_unit": data.time_unit,
        "scale": data.scale,
        "source": data.source,
        "simulated": data.simulated,
        "missing": data.missing,
    }
    samples = "average" if data.technical_samples == "average" else None
    if data.tidy is not None:
        return read_tidy(
            folder / data.tidy,
            gene=data.gene or "gene",
            value=data.value,
            time=data.time,
            condition=data.condition,
            replicate=data.replicate,
            sd=data.sd,
            samples=samples,
            **declared,
        )
    if data.samples is None:
        raise PinnsimError.of(
            "E_CONFIG_VALUE", '[data] wide = ... also needs samples = "FILE", the table that says what each column is.'
        )
    return read_wide(
        folder / str(data.wide),
        folder / data.samples,
        gene=data.gene,
        time=data.time,
        condition=data.condition,
        replicate=data.replicate,
        samples=samples,
        **declared,
    )


def _treatments(problems: Problems, edits: dict[str, Treatment | None], dataset: Dataset) -> tuple[Treatment, ...]:
    """What the data say of each condition, and what the file adds ("*" for every condition)."""
    added = {name: NONE for name in dataset.conditions}
    for name, treatment in edits.items():
        if name != "*" and name not in added:
            problems.add(
                "E_CONDITION_UNKNOWN",
                f"[treatments] names '{name}'{did_you_mean(name, added)}, but the conditions are "
                f'{", ".join(added)} (or "*" for all).',
            )
            continue
        for condition in dataset.conditions if name == "*" else (name,):
            added[condition] = added[condition] + (treatment or NONE)
    return tuple(given + added[name] for name, given in zip(dataset.conditions, dataset.treatments, strict=True))

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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from pinnsim.data import Dataset, load, read_tidy, read_wide
from pinnsim.data.build import Declared
from pinnsim.errors import PinnsimError, Problem, Problems, did_you_mean
from pinnsim.fit import FitPlan
from pinnsim.formats.toml import read_config
from pinnsim.model import ModelConfig
from pinnsim.network import Network
from pinnsim.prior import KineticPrior, Typical, half_life_prior
from pinnsim.treatment import NONE, Treatment
from pinnsim.units import known_time_unit

_TYPICAL_SD = 0.7  # a factor of two, two times out of three
# What readers call their arguments, and what the file calls them.
_WORDS = (
    ("Argument `time_unit` is not given and is never guessed; pass one of", "[data] time_unit is not given and is "
     "never guessed; choose one of"),
    ("Argument `scale` is not given and is never guessed; pass one of", "[data] scale is not given and is never "
     "guessed; choose one of"),
    ("Argument `", "[data] `"),
    ("or pass table_unit=", 'or give [prior] unit = "h"'),
    ("or organism= (one of", 'or [prior] typical = 2 (in [prior] unit, say "h"), or organism = (one of'),
    ("or give organism= to use its typical value for them (they are listed in report())",
     'or give [prior] typical = 2 (in [prior] unit, say "h"), or organism, to use a typical value for them'),
    ("Give a table of half-lives instead", '[prior] half_lives = "FILE", or typical = 2 in unit = "h", will do'),
    ("give a table with columns", "give [prior] half_lives, a table with columns"),
    ("missing='mask'", '[data] missing = "mask"'),
    ("steady_state=True", "a longer course"),
    ("samples='average'", '[data] technical_samples = "average"'),
    ("allow_missing=True", "[network] allow_missing = true"),
    ("time_unit='", "[data] time_unit = '"),
)  # fmt: skip


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Section):
    """Where the readings are: exactly one of `name`, `tidy`, `wide`. Columns are named, never guessed.

    `conditions`: those to use, all where not given; what is left out can be predicted (`pinnsim evaluate`).
    """

    name: str | None = None
    conditions: tuple[str, ...] = ()
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
    lacks, or, for other organisms, a value of your own (`typical`, in `unit`; log-sd 0.7, a factor of 2)."""

    organism: str | None = None
    half_lives: str | None = None
    typical: Annotated[float, Field(gt=0)] | None = None
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
    what is fitted; `notes`: what the file leaves out of its model and was chosen from the data."""

    config: ProjectConfig
    measured: Dataset
    dataset: Dataset
    network: Network
    prior: KineticPrior
    notes: tuple[str, ...] = ()


def load_project(path: str | Path, **replaced: object) -> Project:
    """Reads a project file and all that it names.

    **Arguments:** `replaced`: whole sections to use instead of the file's, for example `fit=FitPlan(...)`.

    **Raises** `E_CONFIG_...` for the file, and what the readers raise for the data.
    """
    config = read_config(Path(path), ProjectConfig)
    return assemble(config.model_copy(update=replaced), Path(path).parent)


def assemble(config: ProjectConfig, folder: Path) -> Project:
    """Reads what a configuration names; relative paths start at `folder`. Tells the problems of all files at once."""
    with in_words_of_the_file(), Problems() as problems:
        read = problems.attempt(lambda: _read_data(config.data, folder))
        path = config.network.path
        listed = None if path is None else problems.attempt(lambda: Network.read(folder / path))
        edits = {name: problems.attempt(functools.partial(Treatment.parse, t)) for name, t in config.treatments.items()}
        genes: tuple[str, ...] = () if read is None else read[0].genes
        if read is None and config.prior == PriorConfig() and "E_CONFIG_VALUE" not in problems.codes:
            genes = ("every gene",)  # whatever they are called: the data could not be read
        unit = config.model.time_unit
        if read is not None:
            unit = problems.attempt(lambda: _time_unit(config, read[0])) or unit
        _check_bounds(problems, config.model)
        prior = problems.attempt(lambda: _prior(config.prior, folder, genes, unit))
        if read is None:
            problems.raise_any()
        measured, own = read
        treatments = _treatments(problems, edits, measured)
        known, lenient = own if listed is None else listed, config.network.allow_missing
        network = problems.attempt(lambda: known.restrict(genes, allow_missing=lenient))
        treated = dataclasses.replace(measured, treatments=treatments)
        wanted = list(config.data.conditions) or None
        measured = problems.attempt(lambda: treated.select(conditions=wanted) if wanted else treated)
    dataset = measured.mean() if config.data.replicates == "mean" else measured
    if config.data.measured_sd == "ignore":
        dataset = dataclasses.replace(dataset, sd=np.full_like(dataset.sd, np.nan))
    model = config.model.model_copy(update={"time_unit": unit})
    notes: tuple[str, ...] = ()
    if config.data.name is None:
        model, notes = usual_model(model, config.model, dataset, network)
    return Project(config.model_copy(update={"model": model}), measured, dataset, network, prior, notes)


def _time_unit(config: ProjectConfig, dataset: Dataset) -> str:
    """The model's unit of time: that of the data, where the file does not give it. **Raises** `E_TIME_UNIT`."""
    unit = config.model.time_unit
    if "time_unit" not in config.model.model_fields_set:
        return dataset.time_unit
    if known_time_unit(unit) != dataset.time_unit:
        raise PinnsimError.of(
            "E_TIME_UNIT",
            f"[model] time_unit = '{unit}', but the times of the data are in '{dataset.time_unit}'; leave it out of "
            "[model], or write the model in the unit of the data.",
        )
    return unit


def _prior(config: PriorConfig, folder: Path, genes: tuple[str, ...], time_unit: str) -> KineticPrior:
    """The prior of every gene. **Raises** `E_CONFIG_VALUE`, and what `half_life_prior` raises."""
    organism: str | Typical | None = config.organism
    if config.typical is not None:
        unit = known_time_unit(config.unit or "")
        if config.organism is not None or unit is None:
            raise PinnsimError.of(
                "E_CONFIG_VALUE",
                f'[prior] typical = {config.typical:g} needs unit = "h" (or s, min, d), and no organism beside it.',
            )
        organism = Typical(config.typical, unit, _TYPICAL_SD, "[prior] typical of the project file")
    table = None if config.half_lives is None else folder / config.half_lives
    return half_life_prior(table, genes, organism, time_unit, table_unit=config.unit, log_sd=config.log_sd)


def usual_model(
    model: ModelConfig, given: ModelConfig, dataset: Dataset, network: Network
) -> tuple[ModelConfig, tuple[str, ...]]:
    """What a file of tables leaves out of its model, from the data, and what was chosen, in sentences.

    Production at full promoter activity carries a gene to twice its highest reading (of all genes, where readings are
    logarithms), so that amounts of linear readings are of order 1, as affinities are; a time constant is a fifteenth of
    the time span; signals act on the genes themselves where every regulator was measured, so that nothing is hidden.

    **Arguments:** `model`: to be completed; `given`: as the file says, whose set fields are kept.
    """
    seen = dataset.values[dataset.mask]
    low, high = float(seen.min()), float(seen.max())
    changes: dict[str, Any] = {}
    notes: list[str] = []

    def choose(section: str, values: dict[str, Any], why: str) -> None:
        part = getattr(model, section)
        changes[section] = type(part).model_validate({**part.model_dump(), **values})
        told = {k: f"{min(v)!r} to {max(v)!r} by gene" if isinstance(v, tuple) else repr(v) for k, v in values.items()}
        notes.append(f"[model.{section}] {', '.join(f'{k} = {v}' for k, v in told.items())}: {why}")

    if "readout" not in given.model_fields_set and high > 0:
        if dataset.scale == "log2":
            values = {"kind": "array", "offset": round(high + 1, 2), "floor": round(low - 3, 2)}
            choose("readout", {**values, "ceiling": round(high + 4, 2)}, f"readings are log2, {low:.3g} to {high:.3g}")
        elif dataset.scale in ("linear", "counts"):
            highest = np.where(dataset.mask, dataset.values, 0.0).max(axis=(0, 1, 2))
            scale = tuple(float(f"{2 * (top if top > 0 else high):.3g}") for top in highest)
            choose("readout", {"kind": "linear", "scale": scale}, "twice the highest reading of each gene")
    if "likelihood" not in given.model_fields_set and "readout" in changes:
        if dataset.scale == "counts":
            choose("likelihood", {"kind": "negative_binomial"}, "readings are counts")
        elif dataset.scale == "linear" and low > 0:
            choose("likelihood", {"kind": "lognormal", "sd": 0.3}, "errors in proportion to the reading")
        elif dataset.scale == "linear":
            least = float(f"{seen[seen > 0].min():.2g}") if high > 0 else 0.1
            why = "errors in proportion to the reading, down to the smallest that is not 0"
            choose("likelihood", {"kind": "combined", "sd": 0.3, "least": least}, why)
    span = max(float(t[n - 1] - t[0]) for t, n in zip(dataset.times, dataset.length, strict=True))
    usual: dict[str, Any] = {}
    regulation = given.regulation.model_fields_set
    if "tau" not in regulation and "own_tau" not in regulation:
        usual |= dict.fromkeys(("tau", "own_tau"), float(f"{span / 15:.2g}"))
    hidden = [name for name in network.regulators if name not in network.genes]
    if model.inputs and not hidden and not {"hidden", "own_inputs"} & regulation:
        usual["own_inputs"] = True
    if usual and (model.inputs or hidden):
        why = f"the data span {span:g} {dataset.time_unit}"
        choose("regulation", usual, why + ("; all regulators were measured" * ("own_inputs" in usual)))
    return model.model_copy(update=changes), tuple(notes)


@contextmanager
def in_words_of_the_file() -> Iterator[None]:
    """Inside, errors name settings of the project file in place of arguments of Python."""
    try:
        yield
    except PinnsimError as error:
        told = []
        for problem in error.problems:
            text = problem.message
            for python, setting in _WORDS:
                text = text.replace(python, setting)
            told.append(Problem(problem.code, text))
        raise PinnsimError(told) from error


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
    acting = tuple(given + added[name] for name, given in zip(dataset.conditions, dataset.treatments, strict=True))
    for treatment, times, length in zip(acting, dataset.times, dataset.length, strict=True):
        span = float(times[0]), float(times[length - 1])
        problems.attempt(functools.partial(treatment.check_span, *span))
    return acting


def _check_bounds(problems: Problems, model: ModelConfig) -> None:
    """Adds `E_BOUNDS` where the ends of an instrument's range are the wrong way round."""
    low, high = model.readout.floor, model.readout.ceiling
    if model.readout.kind == "array" and not low < high:
        problems.add("E_BOUNDS", f"[model.readout] floor = {low:g} must be below ceiling = {high:g}.")

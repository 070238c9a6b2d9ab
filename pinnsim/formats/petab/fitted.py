"""A fit of gene kinetics as a PEtab problem (version 2): its kinetics in SBML; data, treatments and noise as tables.

    culture (condition, replicate)   -> an experiment, with the state that the fit starts it from
    switches of a treatment          -> periods, each a condition of the model's signals, factors, drives, activities
    readout, likelihood              -> observables: a formula and a noise per gene
    readings that count              -> measurements; a first sample that a culture starts from does not
    rates, affinities, promoters     -> parameters with fitted nominal values; those the fit moved are estimated, with
                                        its log-normal and normal priors where PEtab has them

What PEtab cannot say is refused by name: a neural residual, doses that come and go, clamped species, binding-site
variants, noise other than normal and log-normal. Effects of signals are numbers in the model's formulas, as fitted.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np

from pinnsim.data import Dataset
from pinnsim.dynamics.gene_kinetics import GeneKinetics
from pinnsim.dynamics.regulation import Promoter
from pinnsim.errors import PinnsimError, Problems
from pinnsim.fit import FitPlan, cultures
from pinnsim.fit.cultures import Cultures
from pinnsim.fit.objective import scored_readings, start_of
from pinnsim.formats.sbml.write import identifier, write_sbml
from pinnsim.model import CellModel, ModelPrior
from pinnsim.observation.censored import LogNormal
from pinnsim.observation.likelihood import Combined, Gaussian
from pinnsim.observation.readout import ArrayReadout, CycleReadout, IdentityReadout, LinearReadout
from pinnsim.parameter import AbstractParameter, Interval, Positive, resolve
from pinnsim.perturbation import Edits, Perturbation
from pinnsim.store import replacing
from pinnsim.tree import lane

Row = dict[str, object]
_FOLD, _ROOM = 1e3, 20.0  # bounds: a factor about positive numbers, a distance about others
_LEAST = 1e-12  # abundance whose logarithm stands for "none", as readouts have it
PROBLEM = "problem.yaml"


def write_fit(
    model: CellModel,
    dataset: Dataset,
    plan: FitPlan,
    folder: str | Path,
    *,
    prior: ModelPrior | None = None,
    name: str = PROBLEM,
    without_residual: bool = False,
) -> Path:
    """Writes a fitted model and its data as a PEtab problem.

    **Arguments:** `model`: a single one; `dataset`, `plan`: what it was fitted to, and how cultures start; `folder`: a
    new or empty folder; `prior`: says which numbers the fit moved, and their priors (default: all rates, affinities and
    promoters, without); `name`: of the YAML file; `without_residual`: write the known kinetics of a model that has a
    neural residual without it, which is another model.

    **Returns** the YAML file, which `read_petab` and other tools read.

    **Raises** `E_PETAB_UNSUPPORTED`, all problems at once; `E_SBML_UNSUPPORTED` as `write_sbml`; `E_DISK` where the
    folder is not empty; those of `cultures`.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise PinnsimError.of("E_DISK", f"'{target}' is there and not empty; name a new folder.")
    data = cultures(dataset, model.table, substeps=plan.substeps)
    cell = resolve(model)
    with replacing(target) as temporary:
        temporary.mkdir(parents=True)
        with Problems() as problems:
            write = partial(write_sbml, model, temporary / "model.xml", without_residual=without_residual)
            names = problems.attempt(write) or {}
            seen = problems.attempt(lambda: _observables(cell, names))
            acts = problems.attempt(lambda: _treatments(data))
        assert seen is not None
        assert acts is not None
        conditions, experiments, labels = _experiments(cell, data, plan, acts, names)
        tables: dict[str, list[Row]] = {
            "parameters": [*_numbers(model, prior, names), *_seen_numbers(cell, prior, seen)],
            "observables": seen.rows,
            "measurements": _measurements(dataset.genes, data, plan, seen, labels),
            "experiments": experiments,
            "conditions": conditions,
        }
        for kind, rows in tables.items():
            (temporary / f"{kind}.tsv").write_text(_text(rows), encoding="utf-8")
        (temporary / name).write_text(_grouping(tables, model, dataset), encoding="utf-8")
    return target / name


class _Seen(NamedTuple):
    """Rows of the observable table; names of genes in it; their numbers, by name; whether readings' own errors count
    relative to the reading."""

    rows: list[Row]
    labels: tuple[str, ...]
    numbers: dict[str, float]
    relative: bool


def _observables(cell: CellModel, names: dict[str, str]) -> _Seen:
    readout, likelihood = cell.observation.readout, cell.observation.likelihood
    if not isinstance(likelihood, Gaussian | LogNormal | Combined):
        raise PinnsimError.of(
            "E_PETAB_UNSUPPORTED",
            f"The fit's likelihood is {type(likelihood).__name__}, which PEtab does not have; fit with kind = "
            "'gaussian', 'combined' or 'lognormal' in [model.likelihood] to write it.",
        )
    genes = cell.table.genes
    labels = tuple(_unique(genes))
    layer = cell.kinetics.mature_layer
    kinds = ("share", "least") if isinstance(likelihood, Combined) else ("sd",)
    errors = {kind: np.broadcast_to(np.asarray(getattr(likelihood, kind)), (len(genes),)) for kind in kinds}
    rows: list[Row] = []
    numbers: dict[str, float] = {}
    for i, (gene, label) in enumerate(zip(genes, labels, strict=True)):
        amount = names.get(f"{gene}.{layer}", "")
        formula, own = _formula(readout, i, amount, label)
        numbers |= own | {f"{kind}_{label}": float(values[i]) for kind, values in errors.items()}
        spread = f"sd_{label}^2"
        if isinstance(likelihood, Combined):
            spread = f"(share_{label} * ({formula}))^2 + least_{label}^2"
        rows.append(
            {
                "observableId": f"reading_{label}",
                "observableFormula": formula,
                "noiseFormula": f"sqrt({spread} + own_{label}^2)",
                "noiseDistribution": "log-normal" if isinstance(likelihood, LogNormal) else "normal",
                "noisePlaceholders": f"own_{label}",
            }
        )
    return _Seen(rows, labels, numbers, isinstance(likelihood, LogNormal))


def _formula(readout: Any, i: int, amount: str, label: str) -> tuple[str, dict[str, float]]:
    """A readout as text, and its numbers."""

    def of(value: Any) -> float:
        array = np.asarray(value)
        return float(array[i] if array.ndim else array)

    if isinstance(readout, IdentityReadout):
        return amount, {}
    if isinstance(readout, LinearReadout):
        return f"{of(readout.background)!r} + scale_{label} * {amount}", {f"scale_{label}": of(readout.scale)}
    offset = {f"offset_{label}": of(readout.offset)}
    if isinstance(readout, CycleReadout):
        fold = np.log1p(of(readout.efficiency)).item()
        return f"offset_{label} - ln(max({amount}, {_LEAST!r})) / {fold!r}", offset
    if isinstance(readout, ArrayReadout):
        floor, ceiling = of(readout.floor), of(readout.ceiling)
        lifted = f"log2(2^({floor!r}) + 2^(offset_{label} + scale_{label} * log2(max({amount}, {_LEAST!r}))))"
        bent = f"{ceiling!r} - ln(1 + exp(2 * ({ceiling!r} - {lifted}))) / 2"
        return bent, {**offset, f"scale_{label}": of(readout.scale)}
    raise PinnsimError.of("E_PETAB_UNSUPPORTED", f"Readouts of kind {type(readout).__name__} have no formula here.")


class _Stretch(NamedTuple):
    """From `start` on these edits act."""

    start: float
    edits: Edits


def _treatments(data: Cultures) -> list[list[_Stretch]]:
    """Of each culture: what has acted since ever, and then stretch after stretch."""
    found = []
    with Problems() as problems:
        for k, name in enumerate(data.names):
            one: Perturbation = lane(data.perturbations, k)
            for what, bad in (
                ("a dose curve", np.isfinite(np.asarray(one.ka)) | (np.asarray(one.ke) > 0)),
                ("a clamped species", np.asarray(one.hold).any(axis=1)),
                ("a binding-site variant", (np.asarray(one.edge_factor) != 1).any(axis=1)),
            ):
                if bad.any():
                    problems.add(
                        "E_PETAB_UNSUPPORTED",
                        f"Culture '{name}' has {what}, for which the written model has no number; leave it out.",
                    )
            begin, end = float(data.times[k, 0]), float(data.times[k, -1])
            cuts = np.concatenate([np.asarray(one.start), np.asarray(one.stop)])
            starts = [begin, *sorted({float(cut) for cut in cuts if begin < cut < end})]
            middles = [0.5 * (a + b) for a, b in zip(starts, [*starts[1:], max(end, begin + 1.0)], strict=True)]
            before = one.acting(jnp.asarray(-jnp.inf)).at(jnp.zeros(()))
            found.append(
                [_Stretch(-np.inf, before)]
                + [_Stretch(a, one.at(jnp.asarray(m))) for a, m in zip(starts, middles, strict=True)]
            )
    return found


def _experiments(
    cell: CellModel, data: Cultures, plan: FitPlan, acts: list[list[_Stretch]], names: dict[str, str]
) -> tuple[list[Row], list[Row], tuple[str, ...]]:
    """Rows of conditions and of experiments, and the experiments' names by culture."""
    settings, table = plan.settings(), cell.table
    labels = tuple(_unique(name.replace("/", "_") for name in data.names))
    conditions: list[Row] = []
    experiments: list[Row] = []
    given = {name for stretches in acts for stretch in stretches for name, _ in _changes(cell, stretch.edits, names)}
    rest = settings.initial == "rest"
    for k, (label, stretches) in enumerate(zip(labels, acts, strict=True)):
        shown = stretches if rest else stretches[1:]
        for number, stretch in enumerate(shown):
            condition = f"{label}__{number}"
            # Every number that any treatment changes, so that periods do not inherit from one another.
            values = dict.fromkeys(sorted(given), None) | dict(_changes(cell, stretch.edits, names, all_of=given))
            if not rest and number == 0:
                start = start_of(data.per_exposure[k], settings).state(cell, lane(data.perturbations, k))
                if not np.isfinite(np.asarray(start)).all():
                    raise PinnsimError.of("E_INIT", f"Culture '{data.names[k]}' has no state to start from.")
                values |= {names[own]: float(x) for own, x in zip(table.species, start, strict=True)}
            conditions += [
                {"conditionId": condition, "targetId": target, "targetValue": repr(value)}
                for target, value in values.items()
            ]
            time = "-inf" if np.isneginf(stretch.start) else repr(stretch.start)
            experiments.append({"experimentId": label, "time": time, "conditionId": condition if values else ""})
    return conditions, experiments, labels


def _changes(
    cell: CellModel, edits: Edits, names: dict[str, str], all_of: set[str] | None = None
) -> Iterator[tuple[str, float]]:
    """Numbers of the written model that treatments set: those that differ from untreated, or `all_of` these."""
    table = cell.table
    groups: tuple[tuple[str, tuple[str, ...], Any, float], ...] = (
        ("factor", table.reactions, edits.factor, 1.0),
        ("activity", table.species, edits.activity, 1.0),
        ("drive", table.species, edits.drive, 0.0),
        ("signal", table.inputs, edits.signal, 0.0),
    )
    for kind, owners, values, untreated in groups:
        for owner, value in zip(owners, np.asarray(values).tolist(), strict=True):
            name = names.get(f"{kind} {owner}")
            if name is None:
                if value != untreated:
                    raise PinnsimError.of(
                        "E_PETAB_UNSUPPORTED", f"A treatment sets the {kind} of '{owner}', which is not written."
                    )
            elif name in all_of if all_of is not None else value != untreated:
                yield name, float(value)


def _measurements(
    genes: tuple[str, ...], data: Cultures, plan: FitPlan, seen: _Seen, labels: tuple[str, ...]
) -> list[Row]:
    counts, own = np.asarray(scored_readings(data, plan.settings())), np.asarray(data.measured_sd)
    times, values = np.asarray(data.times), np.asarray(data.readings)
    rows: list[Row] = []
    for c, t, g in np.argwhere(counts).tolist():
        value = float(values[c, t, g])
        sd = float(own[c, t, g]) / (value if seen.relative else 1.0)
        rows.append(
            {
                "observableId": f"reading_{seen.labels[g]}",
                "experimentId": labels[c],
                "time": repr(float(times[c, t])),
                "measurement": repr(value),
                "noiseParameters": repr(sd),
            }
        )
    return rows


def _numbers(model: CellModel, prior: ModelPrior | None, names: dict[str, str]) -> Iterator[Row]:
    """The kinetics' numbers that a fit moves."""
    kinetics: GeneKinetics = model.kinetics
    table, genes = kinetics.table, kinetics.table.genes
    leaves: dict[str, tuple[Callable[[Any], Any], int]] = {}
    for own in table.reactions:
        kind, _, gene = own.partition(":")
        leaves[f"rate {own}"] = attrgetter("synthesis" if kind == "transcription" else kind), genes.index(gene)
    hidden = table.species[kinetics.abundances :]
    leaves |= {f"tau {own}": (attrgetter("hidden.tau"), i) for i, own in enumerate(hidden)}
    promoter = resolve(model).kinetics.promoter
    if isinstance(promoter, Promoter):
        leaves |= {f"basal {gene}": (attrgetter("promoter.basal"), i) for i, gene in enumerate(genes)}
        leaves |= {f"affinity {edge}": (attrgetter("promoter.affinity"), e) for e, edge in enumerate(table.edges)}
        leaves |= {f"hill {edge}": (attrgetter("promoter.hill"), e) for e, edge in enumerate(table.edges)}
    laws = None if prior is None else (prior.center.kinetics, prior.spread.kinetics)
    for own, (get, place) in leaves.items():
        if own in names:
            yield _row(names[own], get, place, (model.kinetics, laws))
    if not isinstance(promoter, Promoter):
        return
    # Strengths are written as exp(energy), of which the fit's prior is no law that PEtab has.
    spread: Any = None if prior is None else prior.spread.kinetics.promoter
    for e, edge in enumerate(table.edges):
        value = float(np.exp(np.asarray(promoter.energy())[e]))
        moved = spread is None or float(np.asarray(spread.strength)[e]) > 0
        low, high = (1.0, max(value * _FOLD, 1.0)) if value > 1 else (min(value / _FOLD, 1.0), 1.0)
        yield _plain(names[f"omega {edge}"], value, low, high, moved)


def _seen_numbers(cell: CellModel, prior: ModelPrior | None, seen: _Seen) -> Iterator[Row]:
    """Numbers of observables."""
    laws = None if prior is None else (prior.center.observation.readout, prior.spread.observation.readout)
    for name, value in seen.numbers.items():
        kind, _, label = name.partition("_")
        if kind in ("sd", "share", "least"):
            yield _plain(name, value, value / _FOLD, value * _FOLD, False)
            continue
        yield _row(name, attrgetter(kind), seen.labels.index(label), (cell.observation.readout, laws))


_Parts: TypeAlias = "tuple[Any, tuple[Any, Any] | None]"
"""A part of a model; of its prior's centre and spread."""


def _row(name: str, get: Callable[[Any], Any], place: int, parts: _Parts) -> Row:
    """A parameter's row, with bounds by its kind and the fit's prior."""
    part, prior = parts

    def entry(array: Any) -> float:
        array = np.asarray(array)
        return float(array.ravel()[place] if array.size > 1 else array.ravel()[0])

    here = entry(get(resolve(part)))
    if prior is None:
        low, high = (here / _FOLD, here * _FOLD) if here > 0 else (here - _ROOM, here + _ROOM)
        return _plain(name, here, low, high, True)
    center, spread = (get(one) for one in prior)
    positive = isinstance(center, Positive)
    if isinstance(center, AbstractParameter) and not positive:
        if not isinstance(center, Interval):
            return _plain(name, here, here, here, False)
        low, high = entry(center.lower), entry(center.upper)
        return _plain(name, here, low, high, entry(spread.raw) > 0)
    middle, width = (entry(one.raw if positive else one) for one in (center, spread))
    low, high = (here / _FOLD, here * _FOLD) if positive else (here - _ROOM, here + _ROOM)
    row = _plain(name, here, low, high, width > 0)
    if 0 < width < np.inf:
        row |= {
            "priorDistribution": "log-normal" if positive else "normal",
            "priorParameters": f"{middle!r};{width!r}",
        }
    return row


def _plain(name: str, value: float, low: float, high: float, moved: bool) -> Row:
    return {
        "parameterId": name,
        "lowerBound": repr(low),
        "upperBound": repr(high),
        "nominalValue": repr(value),
        "estimate": "true" if moved else "false",
        "priorDistribution": "",
        "priorParameters": "",
    }


def _unique(names: Iterable[str]) -> Iterator[str]:
    """Names as identifiers, each once."""
    taken: set[str] = set()
    for own in names:
        name = identifier(own, taken)
        taken.add(name)
        yield name


def _text(rows: list[Row]) -> str:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [columns, *([str(row.get(column, "")) for column in columns] for row in rows)]
    return "".join("\t".join(cells) + "\n" for cells in lines)


def _grouping(tables: dict[str, list[Row]], model: CellModel, dataset: Dataset) -> str:
    kind = "made up" if dataset.simulated else "measured"
    files = "".join(f"{name.removesuffix('s')}_files: [{name}.tsv]\n" for name, rows in tables.items() if rows)
    return (
        f"# A fit of pinnsim: {len(model.table.genes)} genes, readings {kind}; time in {model.kinetics.time_unit}.\n"
        "# nominalValue is what was fitted. A culture starts from the state that its first sample shows, by number.\n"
        f"format_version: 2.0.0\nmodel_files:\n  gene_kinetics: {{language: sbml, location: model.xml}}\n{files}"
    )

"""Prior knowledge of kinetic rates: log-normal, from measured half-lives or typical values with their source, never
assumed in silence.

A rate constant of first-order decay and its half-life are the same knowledge, `rate = ln 2 / half_life`. Rates are
positive and known to within a factor, so that the natural prior is log-normal: `ln x ~ Normal(ln median, log_sd)`;
`log_sd = 0.4` means "within a factor of 1.5, two times out of three", and the same `log_sd` holds for the rate and
for the half-life.

Typical values (`TYPICAL`) are medians of genome-wide measurements with their citation. Their `log_sd` is a rounded
width of the published distribution over genes, where the paper states one, and otherwise our choice, at least as
wide. They stand in for genes without a measurement only when the caller names the organism; `KineticPrior.report`
lists which gene got what, and from where.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float

from pinnsim.errors import PinnsimError, Problems, closest, did_you_mean, first
from pinnsim.texttable import need_columns, numbers, pick, read_table, row_name
from pinnsim.units import known_time_unit, time_factor, time_unit_of

LN2 = math.log(2.0)


@dataclass(frozen=True)
class Typical:
    """A typical half-life: its median over genes, the unit, the width (sd of the natural logarithm) and the source."""

    half_life: float
    unit: str
    log_sd: float
    source: str


TYPICAL: dict[tuple[str, str], Typical] = {
    ("E. coli", "mrna"): Typical(
        5.0, "min", 0.4, "E. coli mRNA, 80 % between 3 and 8 min: Bernstein et al. 2002, PNAS 99:9697"
    ),
    ("B. subtilis", "mrna"): Typical(
        5.0, "min", 0.5, "B. subtilis mRNA, 80 % below 7 min: Hambraeus et al. 2003, Mol Genet Genomics 269:706"
    ),
    ("S. cerevisiae", "mrna"): Typical(20.0, "min", 0.6, "S. cerevisiae mRNA: Wang et al. 2002, PNAS 99:5860"),
    ("mouse", "mrna"): Typical(9.0, "h", 0.6, "mouse 3T3 mRNA: Schwanhausser et al. 2011, Nature 473:337"),
    ("mouse", "protein"): Typical(46.0, "h", 1.0, "mouse 3T3 protein: Schwanhausser et al. 2011, Nature 473:337"),
    ("human", "mrna"): Typical(10.0, "h", 0.6, "human HepG2 mRNA: Yang et al. 2003, Genome Res 13:1863"),
    ("human", "splicing"): Typical(
        7.0, "min", 0.7, "human introns, 5 to 10 min: Singh & Padgett 2009, Nat Struct Mol Biol 16:1128"
    ),
}
"""Typical half-lives by (organism, quantity). Proteins of growing bacteria are not here: dilution sets them, see
`dilution_prior`."""

_ORGANISMS: dict[str, str] = {
    **dict.fromkeys(("e. coli", "e.coli", "ecoli", "escherichia coli"), "E. coli"),
    **dict.fromkeys(("b. subtilis", "b.subtilis", "bsubtilis", "bacillus subtilis"), "B. subtilis"),
    **dict.fromkeys(("s. cerevisiae", "s.cerevisiae", "yeast", "saccharomyces cerevisiae"), "S. cerevisiae"),
    **dict.fromkeys(("mouse", "mus musculus", "m. musculus"), "mouse"),
    **dict.fromkeys(("human", "homo sapiens", "h. sapiens"), "human"),
}
_BACTERIA = ("E. coli", "B. subtilis")
_HALF_LIFE = re.compile(r"(?:half[_ -]?life|t_?half|t1/2)(?:[_ (\[]*(?P<unit>[a-z]+)[)\]]?)?", re.IGNORECASE)


class LogNormal(eqx.Module):
    """`ln x ~ Normal(ln median, log_sd)`, element by element.

    **Arguments:** `median`, positive, in the unit of x; `log_sd`, positive, without unit.
    """

    median: Float[Array, ...]
    log_sd: Float[Array, ...]

    def log_density(self, x: Float[Array, ...]) -> Float[Array, ...]:
        """Log density of x itself, `-z^2/2 - ln(x log_sd sqrt(2 pi))` with `z = ln(x / median) / log_sd`."""
        log_x = jnp.log(x)
        return self.log_density_log(log_x) - log_x

    def log_density_log(self, log_x: Float[Array, ...]) -> Float[Array, ...]:
        """Log density of `ln x` (no Jacobian 1/x): the one to use where the fitted parameter is the logarithm of a
        rate."""
        z = (log_x - jnp.log(self.median)) / self.log_sd
        return -0.5 * z**2 - jnp.log(self.log_sd) - 0.5 * math.log(2.0 * math.pi)


class KineticPrior(eqx.Module):
    """The prior of one kind of rate for every gene.

    **Arguments:** `rate`, per gene, in 1/`time_unit`; `genes`; `source`, per gene, starting with "measured: ",
    "typical: " or "given: "; `quantity` ("mrna", "protein" or "splicing": what decays or is processed).
    """

    rate: LogNormal
    genes: tuple[str, ...] = eqx.field(static=True)
    source: tuple[str, ...] = eqx.field(static=True)
    quantity: str = eqx.field(static=True)
    time_unit: str = eqx.field(static=True)

    def in_unit(self, time_unit: str) -> KineticPrior:
        """The same knowledge per another unit of time. **Raises** `E_TIME_UNIT`."""
        unit = time_unit_of(time_unit)
        # A rate per hour is 60 times the rate per minute.
        rate = LogNormal(self.rate.median * time_factor(unit, self.time_unit), self.rate.log_sd)
        return KineticPrior(rate, self.genes, self.source, self.quantity, unit)

    def report(self) -> pd.DataFrame:
        """Which gene got which prior: gene, quantity, rate (1/unit), half_life, unit, log_sd, source."""
        rate = np.asarray(self.rate.median, dtype=np.float64)
        return pd.DataFrame(
            {
                "gene": list(self.genes),
                "quantity": self.quantity,
                "rate": rate,
                "half_life": half_life(rate),
                "unit": self.time_unit,
                "log_sd": np.asarray(self.rate.log_sd, dtype=np.float64),
                "source": list(self.source),
            }
        )


def rate_of(half_life: float | np.ndarray | Sequence[float]) -> np.ndarray:
    """First-order rate constant `ln 2 / half_life`, per the unit of the half-life."""
    return np.asarray(LN2 / np.asarray(half_life, dtype=np.float64))


def half_life(rate: float | np.ndarray | Sequence[float]) -> np.ndarray:
    """Half-life `ln 2 / rate`, in the unit of which the rate is an inverse."""
    return np.asarray(LN2 / np.asarray(rate, dtype=np.float64))


def half_life_prior(
    table: str | Path | pd.DataFrame | None,
    genes: Sequence[str],
    organism: str | Typical | None = None,
    time_unit: str = "min",
    allow_missing: str = "typical",
    *,
    quantity: str = "mrna",
    table_unit: str | None = None,
    log_sd: float = 0.4,
) -> KineticPrior:
    """The prior of the decay (or splicing) rate of every gene, `rate = ln 2 / half_life`.

    **Arguments:** `table`, measured half-lives: columns `gene`, `half_life` (with a column `unit`, a suffix as in
    `half_life_min`, or `table_unit`), and optionally `log_sd` and `source`; or None. `genes`, in the order wanted.
    `organism`, whose typical value, or a `Typical` of your own, stands in for genes that the table lacks
    (`allow_missing="typical"`; with "error" such genes are refused). `time_unit`, of the result. `quantity`, "mrna",
    "protein" or "splicing". `log_sd`, of measured values that state none. Good values: 0.2 for replicated measurements
    in your own conditions, 0.4 (a factor of 1.5) for published ones, 0.7 across cell types.

    **Returns:** the prior; `source` says for every gene where it comes from.

    **Raises:** `E_PRIOR_MISSING` (no value and none may be assumed), `E_PRIOR_VALUE`, `E_TIME_UNIT`,
    `E_GENE_UNMATCHED`, `E_GENE_DUPLICATE`, `E_COLUMN_MISSING`, `E_DATA_FILE`; all problems together.
    """
    with Problems() as problems:
        unit = known_time_unit(time_unit)
        if not (math.isfinite(log_sd) and log_sd > 0):
            problems.add("E_PRIOR_VALUE", f"Argument `log_sd` must be positive and finite, but is {log_sd:g}.")
            problems.raise_any()
        if unit is None:
            problems.add("E_TIME_UNIT", f"unknown time unit '{time_unit}'; use one of s, min, h, d.")
        if allow_missing not in ("typical", "error"):
            problems.add("E_USAGE", f"Argument `allow_missing` must be 'typical' or 'error', but is '{allow_missing}'.")
        measured = {} if table is None else _measured(problems, table, table_unit, log_sd)
        absent = [gene for gene in genes if gene not in measured]
        typical = _typical(problems, organism, quantity) if isinstance(organism, str) else organism
        told = {"E_COLUMN_MISSING", "E_TIME_UNIT"} & problems.codes and not measured
        if absent and table is not None and not told and (allow_missing == "error" or organism is None):
            near = [(gene, closest(gene, measured)) for gene in absent]
            hints = first(f"'{gene}'→'{match}'" for gene, match in near if match is not None)
            problems.add(
                "E_GENE_UNMATCHED" if allow_missing == "error" else "E_PRIOR_MISSING",
                f"{len(absent)} of {len(genes)} genes have no half-life in the table ({first(absent)})"
                + (f"; closest: {hints}" if hints else "")
                + ". Add them, or give organism= to use its typical value for them (they are listed in report()).",
            )
        elif absent and organism is None and table is None:
            known = ", ".join(sorted({name for name, kind in TYPICAL if kind == quantity}))
            problems.add(
                "E_PRIOR_MISSING",
                f"no half-lives for {len(absent)} genes ({quantity}) and none is assumed: give a table with columns "
                f"gene, half_life, unit, or organism= (one of {known or 'none known for this quantity'}) for typical "
                "values.",
            )
    factor = time_factor(typical.unit, str(unit)) if typical is not None else 1.0
    median, width, source = [], [], []
    for gene in genes:
        if gene in measured:
            value, spread, value_unit, origin = measured[gene]
            median.append(float(rate_of(value)) * time_factor(str(unit), value_unit))
            width.append(spread)
            source.append(f"measured: {origin}")
        elif typical is not None:
            median.append(float(rate_of(typical.half_life * factor)))
            width.append(typical.log_sd)
            source.append(f"typical: {typical.source}")
    rate = LogNormal(jnp.asarray(median), jnp.asarray(width))
    return KineticPrior(rate, tuple(genes), tuple(source), quantity, str(unit))


def dilution_prior(
    genes: Sequence[str], doubling_time: float, time_unit: str = "min", log_sd: float = 0.3
) -> KineticPrior:
    """Stable proteins of growing cells: growth dilutes them, so that their half-life is the doubling time, `delta =
    ln 2 / doubling_time`.

    **Arguments:** `genes`; `doubling_time` in `time_unit`; `log_sd`, wider where active proteolysis is possible.

    **Returns:** the prior of the protein decay rates. **Raises:** `E_PRIOR_VALUE`, `E_TIME_UNIT`.
    """
    if not (math.isfinite(doubling_time) and doubling_time > 0 and math.isfinite(log_sd) and log_sd > 0):
        raise PinnsimError.of(
            "E_PRIOR_VALUE", f"doubling_time={doubling_time:g} and log_sd={log_sd:g} must be positive and finite."
        )
    unit = time_unit_of(time_unit)
    text = f"given: dilution by growth, doubling time {doubling_time:g} {unit}"
    shape = (len(genes),)
    rate = LogNormal(jnp.full(shape, LN2 / doubling_time), jnp.full(shape, float(log_sd)))
    return KineticPrior(rate, tuple(genes), (text,) * len(genes), "protein", unit)


def _typical(problems: Problems, organism: str, quantity: str) -> Typical | None:
    name = _ORGANISMS.get(organism.strip().lower())
    if name is None:
        names = ", ".join(dict.fromkeys(_ORGANISMS.values()))
        problems.add(
            "E_PRIOR_MISSING",
            f"no typical values for organism '{organism}'{did_you_mean(organism, _ORGANISMS)}; known: {names}. "
            "Give a table of half-lives instead.",
        )
        return None
    found = TYPICAL.get((name, quantity))
    if found is None:
        known = ", ".join(sorted({f"{organism} {kind}" for organism, kind in TYPICAL}))
        hint = (
            "its proteins are diluted by growth: use dilution_prior(genes, doubling_time)" if name in _BACTERIA else ""
        )
        if quantity != "protein":
            hint = ""
        problems.add(
            "E_PRIOR_MISSING",
            f"no typical {quantity} half-life for {name}; {hint or f'known: {known}. Give a table of half-lives'}.",
        )
    return found


def _measured(
    problems: Problems, table: str | Path | pd.DataFrame, table_unit: str | None, log_sd: float
) -> dict[str, tuple[float, float, str, str]]:
    """Per gene (half-life, log_sd, unit, origin); blank half-lives count as not measured."""
    from_file = not isinstance(table, pd.DataFrame)
    frame = read_table(table)
    name = Path(str(table)).name if from_file else "table"
    gene_column = pick(frame, ("gene", "gene_name", "name", "symbol"))
    matches = {str(column): _HALF_LIFE.fullmatch(str(column).strip()) for column in frame.columns}
    value_column = next((column for column, match in matches.items() if match), None)
    unit_column, spread_column, source_column = (pick(frame, (key,)) for key in ("unit", "log_sd", "source"))
    wanted = {"gene": gene_column or "gene", "half_life": value_column or "half_life"}
    wanted |= {name: name for name in (unit_column, spread_column, source_column) if name is not None}
    if not need_columns(problems, frame, wanted, f"'{name}'", nameable=False) or value_column is None:
        return {}
    suffix = (matches[value_column] or {"unit": None})["unit"]
    rows = [row_name(index, from_file) for index in frame.index]
    names = [str(cell).strip() for cell in frame[wanted["gene"]]]
    values = numbers(problems, frame[value_column], f"column '{value_column}' of '{name}'", from_file, "E_PRIOR_VALUE")
    given = [str(cell) for cell in frame[unit_column]] if unit_column else [table_unit or suffix or ""] * len(names)
    units = [known_time_unit(text) for text in given]
    if given and not any(given):
        problems.add(
            "E_TIME_UNIT",
            f"'{name}' does not say the unit of its half-lives; add a column 'unit', name the column 'half_life_min', "
            "or pass table_unit=.",
        )
    elif None in units:
        bad = [f"{row} = '{text}'" for row, text, unit in zip(rows, given, units, strict=True) if unit is None]
        problems.add(
            "E_TIME_UNIT", f"{len(bad)} units of '{name}' are unknown (first: {first(bad)}); use s, min, h or d."
        )
    spreads = np.full(len(names), float(log_sd))
    if spread_column:
        stated = numbers(problems, frame[spread_column], f"column 'log_sd' of '{name}'", from_file, "E_PRIOR_VALUE")
        spreads = np.where(np.isnan(stated), spreads, stated)
    origins = [str(cell).strip() or name for cell in frame[source_column]] if source_column else [name] * len(names)
    odd = [
        f"{row}, {gene} = {value:g} (log_sd {spread:g})"
        for row, gene, value, spread in zip(rows, names, values.tolist(), spreads.tolist(), strict=True)
        if not (np.isnan(value) or (0 < value < np.inf)) or not 0 < spread < np.inf
    ]
    if odd:
        problems.add("E_PRIOR_VALUE", f"{len(odd)} half-lives of '{name}' are not positive (first: {first(odd)}).")
    where: dict[str, list[str]] = {}
    for gene, row, value in zip(names, rows, values.tolist(), strict=True):
        if not np.isnan(value):
            where.setdefault(gene, []).append(row)
    twice = [f"'{gene}' ×{len(found)} ({', '.join(found)})" for gene, found in where.items() if len(found) > 1]
    if twice:
        problems.add("E_GENE_DUPLICATE", f"'{name}': {first(twice)}; keep one half-life per gene.")
    return {
        gene: (value, spread, unit or "min", origin)
        for gene, value, spread, unit, origin in zip(
            names, values.tolist(), spreads.tolist(), units, origins, strict=True
        )
        if not np.isnan(value)
    }

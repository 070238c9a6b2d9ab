"""Candidate experiments: a treatment, when samples are taken, which genes are read, how many replicates, at what cost.

`candidates` crosses them; `Layout` is the same list as padded arrays, so that all candidates are rows of one program:
each names its treatment, and its readings as positions in the table (time, gene) of that treatment.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from pinnsim.errors import PinnsimError, Problems, did_you_mean, first
from pinnsim.table import Table
from pinnsim.treatment import Treatment, as_treatment

Number = int | float


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One candidate.

    **Arguments:** `treatment`; `times`: when samples are taken, in the model's unit; `genes`: which are read (empty:
    all); `replicates`: cultures treated alike, whose errors are independent; `cost`: > 0, in any one unit.
    """

    treatment: Treatment
    times: tuple[float, ...]
    genes: tuple[str, ...] = ()
    replicates: int = 1
    cost: float = 1.0

    def __str__(self) -> str:
        times = ", ".join(f"{time:g}" for time in self.times)
        many = f" x {self.replicates}" if self.replicates > 1 else ""
        return f"{self.treatment} at {times}: {self.readout}{many}"

    @property
    def readout(self) -> str:
        """Which genes are read, in words."""
        return first(self.genes) if self.genes else "all genes"


@dataclasses.dataclass(frozen=True)
class Price:
    """What an experiment costs: `replicates (culture + samples (sample + genes reading))`, in any one unit.

    **Arguments:** `genes`: how many are read where an experiment reads all.
    """

    culture: float = 1.0
    sample: float = 0.0
    reading: float = 0.0
    genes: int = 1

    def __call__(self, experiment: Experiment) -> float:
        """The cost of an experiment, whatever its own `cost` says."""
        read = len(experiment.genes) or self.genes
        return experiment.replicates * (self.culture + len(experiment.times) * (self.sample + read * self.reading))


def candidates(
    treatments: Sequence[Treatment | str],
    times: Sequence[Number | Sequence[Number]],
    readouts: Sequence[str | Sequence[str]] = ((),),
    replicates: Sequence[int] = (1,),
    cost: Callable[[Experiment], float] | None = None,
) -> tuple[Experiment, ...]:
    """Every combination of treatment, sampling times, readout and number of replicates.

    **Arguments:** `treatments`: as objects or text; `times`: sampling plans, each a time or several; `readouts`: each a
    gene or several, `()` for all; `cost`: of an experiment, for example `Price(culture=10, sample=2)`; 1 where not
    given.

    **Raises** what `Treatment.parse` raises.
    """
    found = []
    for treatment, plan, genes, count in itertools.product(treatments, times, readouts, replicates):
        plain = tuple(float(t) for t in np.atleast_1d(np.asarray(plan, dtype=float)))
        named = (genes,) if isinstance(genes, str) else tuple(genes)
        found.append(Experiment(as_treatment(treatment), plain, named, int(count)))
    return tuple(dataclasses.replace(one, cost=float(cost(one))) for one in found) if cost else tuple(found)


def described(experiments: Sequence[Experiment]) -> dict[str, object]:
    """Columns that say which experiments these are, by position and in words."""
    return {
        "experiment": np.arange(len(experiments)),
        "treatment": [str(one.treatment) for one in experiments],
        "times": [", ".join(f"{time:g}" for time in one.times) for one in experiments],
        "genes": [one.readout for one in experiments],
        "replicates": [one.replicates for one in experiments],
        "cost": [one.cost for one in experiments],
    }


def check_experiments(experiments: Sequence[Experiment], table: Table, start: Number) -> None:
    """**Raises** `E_USAGE` without candidates, for costs, replicates and times that cannot be; `E_GENE_UNKNOWN`,
    `E_PERTURB_...`; all problems at once."""
    with Problems() as problems:
        if not experiments:
            problems.add("E_USAGE", "There is no candidate experiment; make some with pinnsim.design.candidates.")
        bad = [one for one in experiments if not (one.cost > 0 and math.isfinite(one.cost))]
        if bad:
            problems.add("E_USAGE", f"{len(bad)} costs are not > 0 (first: {bad[0].cost:g} of '{bad[0]}').")
        few = [one for one in experiments if one.replicates < 1]
        if few:
            problems.add("E_USAGE", f"{len(few)} experiments have no replicate (first: '{few[0]}'); give 1 or more.")
        early = [one for one in experiments if not _in_order(one.times, float(start))]
        if early:
            problems.add(
                "E_TIME_ORDER",
                f"{len(early)} experiments have sampling times that are not increasing from the start at {start:g} "
                f"(first: '{early[0]}').",
            )
        genes = {gene for one in experiments for gene in one.genes}
        unknown = sorted(genes - set(table.genes))
        if unknown:
            problems.add(
                "E_GENE_UNKNOWN",
                f"{len(unknown)} genes to be read are not the model's (first: "
                f"{first(name + did_you_mean(name, table.genes) for name in unknown)}).",
            )
        for treatment in dict.fromkeys(one.treatment for one in experiments):
            last = max((one.times[-1] for one in experiments if one.treatment == treatment and one.times), default=0.0)
            for check in (partial(treatment.check, table), partial(treatment.check_span, float(start), last)):
                try:
                    check()
                except PinnsimError as error:
                    problems.absorb(error)


def _in_order(times: tuple[float, ...], start: float) -> bool:
    moments = np.asarray(times, dtype=float)
    return bool(moments.size and np.isfinite(moments).all() and moments[0] >= start and (np.diff(moments) > 0).all())


class Layout(eqx.Module):
    """Candidates as arrays.

    **Arguments:** `treatment`: (candidate,), which of `treatments`; `time`, `gene`: (candidate, reading), positions in
    `times` and in the model's genes; `read`: whether an entry is one, not padding; `replicates`: (candidate,);
    `times`: (time,), every sampling time after the start, which is first; `treatments`: the distinct ones.
    """

    treatment: Int[Array, " candidate"]
    time: Int[Array, "candidate reading"]
    gene: Int[Array, "candidate reading"]
    read: Bool[Array, "candidate reading"]
    replicates: Float[Array, " candidate"]
    times: Float[Array, " time"]
    treatments: tuple[Treatment, ...] = eqx.field(static=True)


def layout_of(experiments: Sequence[Experiment], table: Table, start: Number) -> Layout:
    """The arrays of these candidates, which have been checked."""
    treatments = tuple(dict.fromkeys(one.treatment for one in experiments))
    moments = sorted({float(start)} | {time for one in experiments for time in one.times})
    which = {time: k for k, time in enumerate(moments)}
    genes = {gene: k for k, gene in enumerate(table.genes)}
    pairs = [
        [(which[t], genes[g]) for t in one.times for g in dict.fromkeys(one.genes or table.genes)]
        for one in experiments
    ]
    shape = (len(experiments), max(map(len, pairs)))
    time, gene, read = np.zeros(shape, int), np.zeros(shape, int), np.zeros(shape, bool)
    for row, readings in enumerate(pairs):
        time[row, : len(readings)], gene[row, : len(readings)] = zip(*readings, strict=True)
        read[row, : len(readings)] = True
    return Layout(
        treatment=jnp.asarray([treatments.index(one.treatment) for one in experiments], dtype=int),
        time=jnp.asarray(time),
        gene=jnp.asarray(gene),
        read=jnp.asarray(read),
        replicates=jnp.asarray([float(one.replicates) for one in experiments], dtype=float),
        times=jnp.asarray(moments, dtype=float),
        treatments=treatments,
    )

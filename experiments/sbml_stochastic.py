"""Do imported models, sampled as jumps, have the means and variances of the SBML Test Suite's stochastic cases?

Cases are those with an exact mean and standard deviation (the 39 of the discrete stochastic models test suite). Each is
read by `read_sbml` and sampled n times by `simulate(..., method=SSA())`, events included. At every time

    Z = sqrt(n) (mean - mu) / sigma,        Y = sqrt(n / (kappa - 1)) (s^2 / sigma^2 - 1)

are compared with one bound for all numbers of all cases together, at which 1 run in 100 of a right simulator fails
anywhere. kappa, the kurtosis of the sample, is what the variance of s^2 depends on: the suite's own rule has 3 in its
place, which only normal numbers have. How many numbers lie outside the suite's own ranges is told, too.

    python experiments/sbml_stochastic.py      # also --smoke, --out; PINNSIM_SBML_SUITE=FOLDER for another copy

Source: T. W. Evans, C. S. Gillespie, D. J. Wilkinson, Bioinformatics 24:285 (2008), for the cases and the rule.
"""

import csv
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import norm
from tqdm import tqdm

from pinnsim.errors import PinnsimError
from pinnsim.experiment import Acceptance, Findings, companion, main
from pinnsim.formats.sbml.read import read_sbml
from pinnsim.plot import save
from pinnsim.simulate import SSA, Outcome, simulate

SMOKE: dict[str, Any] = {"cells": 200, "cases": 1}
_CLOCK = "the clock"
_MEAN, _VARIANCE = "#0072B2", "#D55E00"


class Verdict(NamedTuple):
    """How a case went: Z and Y of all its numbers, and what went wrong otherwise."""

    number: str
    means: np.ndarray
    variances: np.ndarray
    trouble: str = ""

    @property
    def largest(self) -> float:
        """The largest of all, sign apart; infinite where the case was not sampled."""
        every = np.concatenate([self.means, self.variances, [np.inf if self.trouble else 0.0]])
        return float(np.abs(every).max())


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """Samples the cases of a plan; without the suite, a model of our own stands in for it and says so."""
    data = companion(__file__, "_development_data")
    named = os.environ.get("PINNSIM_SBML_SUITE")
    folder = Path(named) if named else data.data_folder("sbml_test_suite")
    if folder is None:
        with tempfile.TemporaryDirectory() as own:
            _stand_in(Path(own))
            return _findings(plan, Path(own), out, progress, (data.absent("sbml_test_suite"),))
    return _findings(plan, folder, out, progress, ())


def _findings(plan: dict[str, Any], folder: Path, out: Path, progress: bool, notes: tuple[str, ...]) -> Findings:
    exact = sorted({path.parent.name for path in (folder / "stochastic").glob("*/dsmts-*-mean.csv")})
    exact = exact[: plan["cases"]] if plan["cases"] else exact
    verdicts = [judged(folder, number, plan) for number in tqdm(exact, desc="cases", disable=not progress)]
    numbers = sum(v.means.size + v.variances.size for v in verdicts)
    bound = float(norm.isf(plan["level"] / (2 * max(numbers, 1))))
    passed = [v for v in verdicts if v.largest <= bound]
    means, variances = (np.concatenate([getattr(v, part) for v in verdicts]) for part in ("means", "variances"))
    rows = (
        Acceptance("stochastic cases of 39 that pass", len(passed), 39, "higher"),
        Acceptance("largest Z of a mean", float(np.abs(means).max()), bound),
        Acceptance("largest Y of a variance", float(np.abs(variances).max()), bound),
    )
    with (out / "sbml_stochastic_cases.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("number", "largest Z", "largest Y", "passes", "trouble"))
        for v in verdicts:
            largest = (float(np.abs(part).max(initial=0.0)) for part in (v.means, v.variances))
            writer.writerow((v.number, *(f"{value:.3f}" for value in largest), v.largest <= bound, v.trouble))
    save(_picture(means, variances, bound), out / "sbml_stochastic.png")
    metrics = {
        "cases": len(verdicts),
        "numbers compared": numbers,
        "bound": bound,
        "outside the suite's range of 3, share of means": float(np.mean(np.abs(means) > 3.0)),
        "outside the suite's range of 5, share of variances": float(np.mean(np.abs(variances) > 5.0)),
        "cases within the suite's ranges everywhere": sum(
            not v.trouble and np.abs(v.means).max() <= 3.0 and np.abs(v.variances).max() <= 5.0 for v in verdicts
        ),
        "not sampled": {v.number: v.trouble for v in verdicts if v.trouble},
    }
    return Findings(metrics, {}, rows, notes)


def judged(folder: Path, number: str, plan: dict[str, Any]) -> Verdict:
    """One case."""
    place, none = folder / "stochastic" / number, np.zeros(0)
    try:
        system = read_sbml(next(iter(sorted(place.glob("*-sbml-*.xml")))), isolated=False)
        # The suite's present answers: for one case the older ones, in files of their own, are those of simulations.
        expected = _table(place / f"{number}-results.csv")
        times = expected.pop(_CLOCK)
        count = plan["cells"]
        cloud = simulate(system, times, method=SSA(), key=jax.random.key(plan["seeds"][0]), cells=count)
    except PinnsimError as error:
        return Verdict(number, none, none, str(error))
    worst = int(np.asarray(cloud.outcome).max())
    if worst != Outcome.DONE:
        return Verdict(number, none, none, Outcome(worst).sentence)
    names = tuple(name.removesuffix("-mean") for name in expected if name.endswith("-mean"))
    flat = np.asarray(cloud.states[0]).reshape(-1, len(system.table.species))
    # The suite's variables are amounts here.
    plain = [name.removeprefix("ln(").removesuffix(")") for name in names]
    asked = tuple(f"{name} amount" if f"{name} amount" in system.running.position else name for name in plain)
    read = system.values(asked, np.tile(times, count), jnp.asarray(flat))
    found = np.asarray(read).reshape(count, len(times), len(names))
    means, variances = [], []
    for k, name in enumerate(names):
        # Two cases tell means alone.
        values = np.log(found[:, :, k]) if name.startswith("ln(") else found[:, :, k]
        z, y = _scores(values, expected[f"{name}-mean"], expected.get(f"{name}-sd"))
        means.append(z)
        variances.append(y)
    return Verdict(number, np.concatenate(means), np.concatenate(variances))


def _scores(sample: np.ndarray, mean: np.ndarray, sd: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Z and Y by time, (time,), of a sample, (cell, time); where nothing is random, 0 for the right number. Without a
    standard deviation that of the sample scales Z, and there is no Y."""
    count = len(sample)
    if sd is None:
        return _scores(sample, mean, sample.std(axis=0, ddof=1))[0], np.zeros(0)
    moves = sd > 0
    off = np.abs(sample - mean)[:, ~moves].max(initial=0.0)
    still = np.full(int((~moves).sum()), 0.0 if off < 1e-4 else np.inf)
    sample, mean, sd = sample[:, moves], mean[moves], sd[moves]
    centred = sample - sample.mean(axis=0)
    variance = (centred**2).sum(axis=0) / (count - 1)
    with np.errstate(all="ignore"):
        kurtosis = (centred**4).mean(axis=0) / (centred**2).mean(axis=0) ** 2
        z = np.sqrt(count) * (sample.mean(axis=0) - mean) / sd
        y = np.sqrt(count / (kurtosis - 1.0)) * (variance / sd**2 - 1.0)
    return np.concatenate([z, still]), np.nan_to_num(np.concatenate([y, still]), nan=np.inf)


def _table(path: Path) -> dict[str, np.ndarray]:
    with path.open(newline="") as file:
        head, *rows = [row for row in csv.reader(file) if row]
    table = np.array([[float(cell) for cell in row] for row in rows])
    # The first column is the clock, however it is spelt.
    return {name.strip() if k else _CLOCK: table[:, k] for k, name in enumerate(head)}


def _picture(means: np.ndarray, variances: np.ndarray, bound: float) -> plt.Figure:
    figure, axes = plt.subplots(figsize=(6.0, 3.2), layout="constrained")
    bins = np.linspace(-6.0, 6.0, 61)
    for values, colour, label in ((means, _MEAN, "Z of means"), (variances, _VARIANCE, "Y of variances")):
        axes.hist(np.clip(values, -6, 6), bins, density=True, histtype="step", color=colour, label=label)
    axes.plot(bins, norm.pdf(bins), color="black", linewidth=0.8, label="normal")
    for edge in (-bound, bound):
        axes.axvline(edge, color="grey", linestyle=":", label="bound" if edge > 0 else None)
    axes.set_xlabel("score (standard deviations)")
    axes.set_ylabel("density")
    axes.set_title("SBML Test Suite, stochastic cases")
    axes.legend(fontsize="small", frameon=False)
    return figure


def _stand_in(folder: Path) -> None:
    """A case of our own: immigration and death, whose numbers are Poisson's."""
    place = folder / "stochastic" / "00001"
    place.mkdir(parents=True)
    law = '<kineticLaw><math xmlns="http://www.w3.org/1998/Math/MathML">{}</math></kineticLaw>'
    (place / "00001-sbml-l3v2.xml").write_text(
        '<sbml xmlns="http://www.sbml.org/sbml/level3/version2/core" level="3" version="2"><model id="m">'
        '<listOfCompartments><compartment id="C" size="1" constant="true"/></listOfCompartments><listOfSpecies>'
        '<species id="X" compartment="C" initialAmount="0" constant="false" hasOnlySubstanceUnits="true" '
        'boundaryCondition="false"/></listOfSpecies><listOfReactions><reaction id="made" reversible="false">'
        '<listOfProducts><speciesReference species="X" stoichiometry="1" constant="true"/></listOfProducts>'
        f'{law.format("<cn>5</cn>")}</reaction><reaction id="lost" reversible="false"><listOfReactants>'
        '<speciesReference species="X" stoichiometry="1" constant="true"/></listOfReactants>'
        f"{law.format('<ci>X</ci>')}</reaction></listOfReactions></model></sbml>"
    )
    times = np.linspace(0.0, 2.0, 5)
    mean = 5.0 * (1.0 - np.exp(-times))
    rows = "\n".join(f"{time},{value},{np.sqrt(value)}" for time, value in zip(times, mean, strict=True))
    for name in ("dsmts-own-mean.csv", "00001-results.csv"):
        (place / name).write_text(f"time,X-mean,X-sd\n{rows}\n")


if __name__ == "__main__":
    raise SystemExit(main(__file__))

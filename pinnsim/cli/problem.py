"""`pinnsim fit` for a PEtab problem: its parameters from many starts, and the problem once more with what was found."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pinnsim.cli.arguments import check_folder
from pinnsim.cli.output import answer, records, show_table, tell, to_json, write_files
from pinnsim.errors import PinnsimError, first
from pinnsim.session import versions

if TYPE_CHECKING:
    import pandas as pd

    from pinnsim.formats.petab.fit import PetabFit
    from pinnsim.formats.petab.problem import PetabProblem

SUFFIXES = (".yaml", ".yml")
FITTED, SUMMARY, STARTS, PARAMETERS, SIMULATION, PICTURE = (
    "problem", "fit.json", "fit.csv", "parameters.csv", "simulation.tsv", "fitted.png"
)  # fmt: skip
_STARTS = 20
_EDGE = 1e-3  # of the room between bounds: what is nearer to one of them is called at it


def is_problem(path: Path) -> bool:
    """Whether a file is a PEtab problem, by its ending."""
    return path.suffix.lower() in SUFFIXES


def fit_problem(
    file: Path, out: Path, *, starts: int | None, seed: int | None, without: list[str], progress: bool
) -> None:
    """Fits a problem, and writes it with fitted numbers, tables, a picture and a summary."""
    from pinnsim.formats.petab.fit import fit_petab
    from pinnsim.formats.petab.problem import read_petab
    from pinnsim.formats.petab.write import write_petab

    if without:
        raise PinnsimError.of(
            "E_USAGE", "--without is for projects; take the measurements of a condition out of the PEtab problem."
        )
    check_folder(out)
    if (out / FITTED).exists():
        raise PinnsimError.of("E_USAGE", f"'{out / FITTED}' is there already; choose another --out.")
    problem = read_petab(file)
    tables = problem.source.tables
    count, chosen = starts or _STARTS, 0 if seed is None else seed
    tell(
        f"{len(problem.names)} parameters, {len(tables.measurements)} measurements of {len(tables.observables)} "
        f"observables; {count} starts between the bounds, seed {chosen}."
    )
    found = fit_petab(problem, count, seed=chosen, progress=progress)
    table = _parameters(problem, found)
    simulated = problem.simulate(found.best)
    summary = _summary(file, problem, found, chosen)
    out.mkdir(parents=True, exist_ok=True)
    written = write_petab(problem, out / FITTED, found.best)
    files: dict[str, bytes | str] = {
        SUMMARY: to_json(summary),
        STARTS: _starts(problem, found).to_csv(index=False, float_format="%.10g"),
        PARAMETERS: table.to_csv(index=False),
        SIMULATION: simulated.to_csv(index=False, sep="\t"),
        PICTURE: _picture(problem, simulated),
    }
    write_files(out, files)
    _show(found, table, summary, out)
    tell(f"The problem with fitted numbers: {written}")
    tell(f"Next: pinnsim check {written}")
    answer({**summary, "out": out, "parameters": records(table)})
    if found.interrupted:
        typer.echo("Interrupted: what was saved is the best of the starts that were done.", err=True)
        raise typer.Exit(130)


def _parameters(problem: "PetabProblem", found: "PetabFit") -> "pd.DataFrame":
    """A row per parameter, as it is; `at_bound` where the fit ended at one."""
    import pandas as pd

    lower, upper = problem.bounds
    share = (found.best - lower) / (upper - lower)
    return pd.DataFrame(
        {
            "parameter": problem.names,
            "fitted": list(problem.unscaled(found.best).values()),
            "nominal": [one.value for one in problem.parameters],
            "lower": [one.lower for one in problem.parameters],
            "upper": [one.upper for one in problem.parameters],
            "at_bound": ["lower" if s < _EDGE else "upper" if s > 1 - _EDGE else "" for s in share.tolist()],
        }
    )


def _starts(problem: "PetabProblem", found: "PetabFit") -> "pd.DataFrame":
    """A row per start, the best first: objectives, and parameters as they are."""
    import pandas as pd

    rows = [problem.unscaled(values) for values in found.values]
    return pd.DataFrame({"objective": found.objective, "objective_at_start": found.begun}).join(pd.DataFrame(rows))


def _summary(file: Path, problem: "PetabProblem", found: "PetabFit", seed: int) -> dict[str, Any]:
    nominal = problem.nominal
    return {
        "made_by": "pinnsim fit",
        "problem": file.name,
        "objective": float(found.objective[0]),
        "log_likelihood": -float(found.objective[0]),
        "log_likelihood_at_nominal": None if any(nominal != nominal) else problem.log_likelihood(),
        "chi2": problem.chi2(found.best),
        "measurements": len(problem.source.tables.measurements),
        "starts": len(found.objective),
        "starts_within_0.1_of_the_best": found.reached(),
        "starts_drawn_again": found.redrawn,
        "objective_without_hops": found.alone,
        "hops": found.hops,
        "interrupted": found.interrupted,
        "seed": seed,
        "versions": versions(),
    }


def _show(found: "PetabFit", table: "pd.DataFrame", summary: dict[str, Any], out: Path) -> None:
    count = len(found.objective)
    show_table(
        "Starts, best first (objective: -log L, nats)",
        ("start", "objective", "at its beginning"),
        [(k + 1, float(found.objective[k]), float(found.begun[k])) for k in range(min(count, 10))],
    )
    tell(f"{summary['starts_within_0.1_of_the_best']} of {count} starts ended within 0.1 nats of the best.")
    if count > 1 and summary["starts_within_0.1_of_the_best"] == 1:
        tell("Only one did: more --starts may find a better one.")
    rows = table.drop(columns=["lower", "upper"]).to_numpy().tolist()
    show_table("Parameters of the best start", ("parameter", "fitted", "nominal", "at bound"), rows)
    edge = table["parameter"][table["at_bound"] != ""].tolist()
    if edge:
        tell(f"{len(edge)} ended at a bound (first: {first(edge)}); widen it, or let it be known (estimate: false).")
    tell(f"Tables, a picture and {SUMMARY}: {out}")


def _picture(problem: "PetabProblem", simulated: "pd.DataFrame") -> bytes:
    from pinnsim.plot import problem_panels
    from pinnsim.report import png_bytes

    rows = problem.source.tables.measurements
    return png_bytes(
        problem_panels(
            [one.observable for one in rows],
            [one.experiment for one in rows],
            [one.time for one in rows],
            [one.value for one in rows],
            simulated["simulation"].to_numpy(),
            time_unit=problem.source.model["time_unit"],
        )
    )

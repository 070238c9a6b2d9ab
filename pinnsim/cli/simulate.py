"""`pinnsim simulate`: a model under treatments, from rest or from a first sample."""

import enum
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pinnsim.cli.arguments import check_folder, read_data, read_model, read_times
from pinnsim.cli.output import largest, show_table
from pinnsim.errors import PinnsimError, Problems, did_you_mean
from pinnsim.session import start

if TYPE_CHECKING:
    import xarray as xr

    from pinnsim.formats.bundle import Bundle
    from pinnsim.simulate import ODE, AtRest, FromSample, Simulation
    from pinnsim.treatment import Treatment


class Beginning(enum.StrEnum):
    """Where a simulation starts."""

    REST = "rest"
    SAMPLE = "sample"


class Method(enum.StrEnum):
    """How it is solved."""

    AUTO = "auto"
    TSIT5 = "tsit5"
    KVAERNO5 = "kvaerno5"


class Members(enum.StrEnum):
    """Which members of an ensemble run."""

    BEST = "best"
    ALL = "all"


def simulate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A name on the shelf, or a bundle's folder.")],
    times: Annotated[str, typer.Option(metavar="START:STOP:STEP", help="Times to report, or a list 0,5,10.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="A name that ends in .zarr or .nc.")],
    treatment: Annotated[
        list[str] | None,
        typer.Option("--treatment", "-t", metavar="TEXT", help="One lane each; repeat for more.", show_default=False),
    ] = None,
    beginning: Annotated[
        Beginning, typer.Option("--from", help="From rest under what acts since ever, or from a measured sample.")
    ] = Beginning.REST,
    data: Annotated[
        str | None, typer.Option(metavar="CONFIG.toml", help="Whose first sample: a project file or embedded data.")
    ] = None,
    condition: Annotated[
        str | None, typer.Option(metavar="NAME", help="The condition whose first sample it is.")
    ] = None,
    members: Annotated[Members, typer.Option(help="Of an ensemble: its best member, or all of them.")] = Members.BEST,
    method: Annotated[
        Method, typer.Option(help="Solver: auto, or a reference solver; kvaerno5 is for stiff models.")
    ] = Method.AUTO,
    rtol: Annotated[float, typer.Option(help="Relative error allowed per step.")] = 1e-6,
    keep_failed: Annotated[
        bool, typer.Option("--keep-failed", help="Write the result although lanes failed (their values are NaN).")
    ] = False,
) -> None:
    """Simulate a model under treatments.

    Every --treatment is a lane: edits of named rates with their timing, joined by commas. GENE=0 knocks out, GENE*2
    over-expresses, signal(NAME)=1 gives a signal; @24:48 says from when to when (always, if left out). Writes an xarray
    tree with named dimensions and units. Failed lanes are named, and nothing is written unless --keep-failed is given.

    \b
    Examples:
      pinnsim simulate toggle_switch --times 0:40:0.5 --treatment "drive(u)=3@5:10" --out toggle.zarr
      pinnsim simulate fitted/model --times 0:150:1 --treatment "none" --treatment "ccpA=0" --out knockout.zarr
      pinnsim simulate carbon_shift --times 0:150:1 --from sample --data bsubtilis_carbon_shift --condition glc_mal \\
          --treatment "signal(glucose)=1, signal(malate)=1@0:10" --out pulse.zarr

    \b
    Without --treatment, --from sample runs the condition's own treatment. Read the result in Python:
      import xarray as xr; tree = xr.open_datatree("pulse.zarr", engine="zarr", consolidated=False)
    """
    start()
    from pinnsim.formats.simulation import save_simulation
    from pinnsim.simulate import simulate as run
    from pinnsim.treatment import Treatment

    with Problems() as problems:
        if out.suffix not in (".zarr", ".nc"):
            problems.add("E_USAGE", f"--out '{out.name}' must end in .zarr or .nc.")
        if not 0 < rtol < 1:
            problems.add("E_USAGE", f"--rtol {rtol:g} must be between 0 and 1.")
        if beginning == Beginning.SAMPLE and (data is None or condition is None):
            problems.add("E_USAGE", "--from sample needs --data CONFIG.toml and --condition NAME: whose sample it is.")
        if beginning == Beginning.REST and (data is not None or condition is not None):
            problems.add("E_USAGE", "--data and --condition name a first sample; add --from sample, or leave them out.")
        moments = _noted(lambda: read_times(times), problems)
        lanes = [_noted(partial(Treatment.parse, text), problems) for text in treatment or []]
    check_folder(out.parent)
    bundle = read_model(model)
    initial, own = _initial(bundle, beginning, data, condition)
    given: list[Treatment] = lanes or [own]
    chosen = bundle.models if members == Members.ALL else bundle.models[:1]
    results = [run(one, moments, given, initial=initial, method=_solver(method, rtol)) for one in chosen]
    _show(results, model)
    _flag_extrapolation(bundle, float(moments[-1]))
    failures = _failures(results)
    if keep_failed or not failures:
        tree = _tree(results, members)
        tree.attrs |= {"model": model, "method": method.value, "rtol": rtol, "begins": beginning.value}
        tree.attrs |= {
            "data": data or "",
            "condition": condition or "",
            "kind": "simulation: nothing here was measured",
        }
        save_simulation(out, tree)
        typer.echo(f"Written: {out}")
    else:
        typer.echo("Nothing was written; --keep-failed keeps the lanes that are done.", err=True)
    failures.raise_any()
    typer.echo(f"Next: pinnsim report {out.parent}")


def _noted(read: Callable[[], Any], problems: Problems) -> Any:
    """What `read()` gives, or its problems beside the others."""
    try:
        return read()
    except PinnsimError as error:
        problems.absorb(error)
        return None


def _initial(
    bundle: "Bundle", beginning: Beginning, data: str | None, condition: str | None
) -> tuple["AtRest | FromSample", "Treatment"]:
    """Where it starts, and the condition's own treatment."""
    from pinnsim.simulate import AtRest, FromSample
    from pinnsim.treatment import NONE

    if beginning == Beginning.REST or data is None or condition is None:
        return AtRest(), NONE
    table, dataset = bundle.network.genes, read_data(data)
    unit = bundle.config.time_unit
    with Problems() as problems:
        if condition not in dataset.conditions:
            there = ", ".join(dataset.conditions)
            near = did_you_mean(condition, dataset.conditions)
            problems.add("E_CONDITION_UNKNOWN", f"no condition '{condition}'{near} in '{data}'; there are {there}.")
        if dataset.time_unit != unit:
            problems.add("E_TIME_UNIT", f"'{data}' counts time in {dataset.time_unit}, the model in {unit}.")
        missing = [gene for gene in table if gene not in dataset.genes]
        if missing:
            from pinnsim.errors import first

            problems.add("E_GENE_UNMATCHED", f"'{data}' lacks {len(missing)} genes of the model ({first(missing)}).")
    dataset = dataset.select(conditions=[condition], genes=table)
    import jax.numpy as jnp
    import numpy as np

    sample = np.where(dataset.mask[0, 0, 0], dataset.values[0, 0, 0], np.nan)
    return FromSample(jnp.asarray(sample)), dataset.treatments[0]


def _solver(method: Method, rtol: float) -> "ODE":
    from pinnsim.simulate import ODE
    from pinnsim.simulate.method import dfx

    solvers = {Method.AUTO: None, Method.TSIT5: dfx.Tsit5(), Method.KVAERNO5: dfx.Kvaerno5()}
    return ODE(rtol=rtol, solver=solvers[method])


def _tree(results: list["Simulation"], members: Members) -> "xr.DataTree":
    """One tree; with all members of an ensemble, everything has a leading dimension `member`."""
    import xarray as xr

    trees = [result.to_xarray() for result in results]
    if members == Members.BEST:
        return trees[0]
    parts = [{node.path: node.to_dataset(inherit=False) for node in tree.subtree} for tree in trees]
    nodes = {
        path: xr.concat([part[path] for part in parts], "member", data_vars="all", coords="minimal")
        for path in parts[0]
    }
    return xr.DataTree.from_dict(nodes)


def _failures(results: list["Simulation"]) -> Problems:
    import numpy as np

    problems = Problems()
    for result in results:
        try:
            result.raise_failures()
        except PinnsimError as error:
            problems.absorb(error)
        broken = np.asarray(result.done) & ~np.isfinite(np.asarray(result.states)).all(axis=(1, 2))
        for k in np.flatnonzero(broken):
            problems.add(
                "E_SOLVER", f"lane '{result.lanes[k]}' holds values that are not numbers; try --method kvaerno5."
            )
    return problems


def _show(results: list["Simulation"], model: str) -> None:
    """Each lane: how it ended and what changed most from its beginning to its end, by the best member."""
    import numpy as np

    from pinnsim.simulate import Outcome

    best = results[0]
    names = best.genes if best.readings is not None else best.species
    courses = np.asarray(best.readings if best.readings is not None else best.states)
    rows = []
    for k, lane in enumerate(best.lanes):
        outcomes = [Outcome(int(np.asarray(result.outcome)[k])) for result in results]
        done = sum(outcome == Outcome.DONE for outcome in outcomes)
        worst = next((o for o in outcomes if o != Outcome.DONE), Outcome.DONE).sentence
        ended = worst if len(results) == 1 else f"{done} of {len(results)} members done"
        against = (largest(names, courses[k, -1] - courses[0, -1]),) if len(best.lanes) > 1 else ()
        rows.append(
            (lane, ended, largest(names, courses[k, -1] - courses[k, 0]), *(against if k else against and ("",)))
        )
    title = f"{model}, simulated from {best.times[0]:g} to {best.times[-1]:g} {best.time_unit}"
    columns = ("treatment", "outcome", "largest changes of readings", "at the end, against the first lane")
    shown = len(columns) - (len(rows) == 1)  # a single lane has nothing to be compared with
    show_table(title, columns[:shown], [row[:shown] for row in rows])


def _flag_extrapolation(bundle: "Bundle", last: float) -> None:
    """Says where the simulation leaves what the model was fitted to."""
    span = bundle.notes.get("times")
    if isinstance(span, list) and len(span) == 2 and last > span[1]:
        unit = bundle.config.time_unit
        typer.echo(f"extrapolation: the model was fitted to {span[0]:g} to {span[1]:g} {unit}; beyond is its guess.")

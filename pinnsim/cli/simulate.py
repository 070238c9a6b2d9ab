"""`pinnsim simulate`: a model under treatments, from rest or from a first sample, by any method."""

import enum
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pinnsim.cli.arguments import ModelName, check_folder, read_data, read_model, read_system, read_times
from pinnsim.cli.courses import course_panels, read_courses
from pinnsim.cli.methods import CELLS, EQUATIONS, RTOL, SAMPLED, SEED, Method, Settings, counting, run_one
from pinnsim.cli.outcomes import failures, show
from pinnsim.cli.output import AsJson, answer, speak_to, tell
from pinnsim.errors import PinnsimError, Problems, did_you_mean
from pinnsim.session import start, use_cores

if TYPE_CHECKING:
    import xarray as xr

    from pinnsim.cli.methods import Result
    from pinnsim.formats.bundle import Bundle
    from pinnsim.formats.reaction_system import StoredSystem
    from pinnsim.simulate import ODE, AbstractInitial
    from pinnsim.simulate.initial import Model
    from pinnsim.treatment import Treatment


class Beginning(enum.StrEnum):
    """Where a simulation starts."""

    REST = "rest"
    SAMPLE = "sample"
    START = "start"


class Members(enum.StrEnum):
    """Which members of an ensemble run."""

    BEST = "best"
    ALL = "all"


def simulate(
    model: ModelName,
    times: Annotated[str, typer.Option(metavar="START:STOP:STEP", help="Times to report, or a list 0,5,10.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="A name that ends in .zarr or .nc.")],
    treatment: Annotated[
        list[str] | None,
        typer.Option(
            "--treatment", "--perturb", "-t", metavar="TEXT", help="A lane; repeat for more.", show_default=False
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Courses of what changes most, as a picture.", show_default=False),
    ] = None,
    beginning: Annotated[
        Beginning | None,
        typer.Option(
            "--from",
            help="From rest under what acts since ever, a measured sample, or the amounts of a reaction system's file.",
            show_default="rest; of a reaction system start",
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="CONFIG.toml", help="Whose first sample: a project file or embedded data.")
    ] = None,
    condition: Annotated[
        str | None, typer.Option(metavar="NAME", help="The condition whose first sample it is.")
    ] = None,
    members: Annotated[Members, typer.Option(help="Of an ensemble: its best member, or all of them.")] = Members.BEST,
    method: Annotated[Method, typer.Option(help="How it is solved, see below.")] = Method.AUTO,
    size: Annotated[
        float | None, typer.Option(metavar="OMEGA", help="Molecules per unit of abundance.", show_default=False)
    ] = None,
    cells: Annotated[
        int | None, typer.Option(metavar="N", help="Sampled cells per treatment.", show_default=str(CELLS))
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Of the random numbers of sampled cells.", show_default=str(SEED))
    ] = None,
    dt: Annotated[
        float | None,
        typer.Option(
            metavar="TIME",
            help="Step of langevin.",
            show_default="a tenth of the untreated model's fastest time constant",
        ),
    ] = None,
    rtol: Annotated[
        float | None,
        typer.Option(help="Relative error per step, of rate equations and linear-noise.", show_default=f"{RTOL:g}"),
    ] = None,
    keep_failed: Annotated[
        bool, typer.Option("--keep-failed", help="Write although lanes or cells failed (their values are NaN).")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Simulate a model under treatments.

    Every --treatment is a lane: edits of named rates with their timing, joined by commas. GENE=0 knocks out, GENE*2
    over-expresses, signal(NAME)=1 gives a signal; @24:48 says from when to when (always, if left out). Writes an xarray
    tree with named dimensions and units. Failed lanes and cells are named, and nothing is written unless --keep-failed
    is given.

    \b
    Methods: one course for very many molecules, by rate equations:
      auto          explicit or implicit steps, by how stiff the model is: begin here
      tsit5         reference solver for mild models
      kvaerno5      reference solver for stiff models
    Cells that differ, because molecules are few; these need --size:
      linear-noise  mean and covariance without sampling: fast; trust it above some 10
                    molecules of everything, and not where cells switch between states
      ssa           single cells, exactly: for few molecules, rare events, switching
      tau-leaping   single cells, many firings at a time: for many molecules
      langevin      single cells, continuous noise: above some 10 molecules; fixed --dt

    \b
    Sampled cells start alike (from rest, or the sample), each with random numbers of its
    own; cells of one number share them between treatments, so that they can be compared.
    One --seed gives the same cells again.

    \b
    Examples:
      pinnsim simulate toggle_switch --times 0:40:0.5 --treatment "drive(u)=3@5:10" --out toggle.zarr \\
          --picture toggle.png
      pinnsim simulate toggle_switch --times 0:20:0.5 --method ssa --size 20 --cells 200 --seed 1 --out cells.zarr
      pinnsim simulate toggle_switch --times 0:20:0.5 --method linear-noise --size 100 \\
          --treatment "hold(u)=9@0:10" --out noise.zarr
      pinnsim simulate schlogl --times 0:10:0.1 --method ssa --size 1 --out schlogl.zarr
      pinnsim simulate fitted/model --times 0:150:1 --treatment "none" --treatment "ccpA=0" --out knockout.zarr
      pinnsim simulate carbon_shift --times 0:150:1 --from sample --data bsubtilis_carbon_shift --condition glc_mal \\
          --treatment "signal(glucose)=1, signal(malate)=1@0:10" --out pulse.zarr

    \b
    Without --treatment, --from sample runs the condition's own treatment. Read the result in Python:
      import xarray as xr; tree = xr.open_datatree("pulse.zarr", engine="zarr", consolidated=False)
    """
    start()
    speak_to(as_json)
    # More devices than lanes would only run copies of them. Before anything asks for a device.
    use_cores(max(1, len(treatment or [])) * ((cells or CELLS) if method in SAMPLED else 1))
    from pinnsim.formats.simulation import save_simulation
    from pinnsim.plot import save
    from pinnsim.simulate.initial import Bare
    from pinnsim.treatment import Treatment

    with Problems() as problems:
        if out.suffix not in (".zarr", ".nc"):
            problems.add("E_USAGE", f"--out '{out.name}' must end in .zarr or .nc.")
        if picture is not None and picture.suffix != ".png":
            problems.add("E_USAGE", f"--picture '{picture.name}' must end in .png.")
        settings = Settings(method, size, cells, seed, dt, rtol)
        settings.check(problems)
        if beginning == Beginning.SAMPLE and (data is None or condition is None):
            problems.add("E_USAGE", "--from sample needs --data CONFIG.toml and --condition NAME: whose sample it is.")
        if beginning != Beginning.SAMPLE and (data is not None or condition is not None):
            problems.add("E_USAGE", "--data and --condition name a first sample; add --from sample, or leave them out.")
        moments = problems.attempt(lambda: read_times(times))
        lanes = [problems.attempt(partial(Treatment.parse, text)) for text in treatment or []]
    for path in (out, *([] if picture is None else [picture])):
        check_folder(path.parent)
    chosen: Sequence[Model]
    if (system := read_system(model)) is not None:
        initial, own = _system_initial(system, beginning or Beginning.START)
        chosen, notes = [Bare(system.system)], system.notes
    else:
        bundle = read_model(model)
        initial, own = _initial(bundle, beginning or Beginning.REST, data, condition)
        chosen, notes = (bundle.models if members == Members.ALL else bundle.models[:1]), bundle.notes
    begins = beginning or (Beginning.REST if system is None else Beginning.START)
    given: list[Treatment] = lanes or [own]
    unit = chosen[0].kinetics.time_unit
    settings = settings.completed(chosen)
    solver = _solver(method, settings.rtol or RTOL) if method in EQUATIONS else counting(settings)
    results = [run_one(one, moments, given, initial, solver, settings) for one in chosen]
    lanes_told = show(results, model)
    if dt is None and settings.dt is not None:
        tell(f"--dt {settings.dt:g} {unit}, chosen from the model.")
    _flag_extrapolation(notes, unit, float(moments[-1]))
    failed = failures(results)
    if keep_failed or not failed:
        tree = _tree(results, members)
        tree.attrs |= {"model": model, **settings.notes(), "begins": begins.value}
        tree.attrs |= {
            "data": data or "",
            "condition": condition or "",
            "kind": "simulation: nothing here was measured",
        }
        save_simulation(out, tree)
        tell(f"Written: {out}")
        if picture is not None:
            save(course_panels(read_courses(tree)), picture)
            tell(f"Written: {picture}")
    else:
        typer.echo("Nothing was written; --keep-failed keeps what is done.", err=True)
    written = out if keep_failed or not failed else None
    answer({"model": model, **settings.notes(), "begins": begins.value, "lanes": lanes_told, "out": written})
    failed.raise_any()
    tell(f"Next: pinnsim report {out.parent}")


def _initial(
    bundle: "Bundle", beginning: Beginning, data: str | None, condition: str | None
) -> tuple["AbstractInitial", "Treatment"]:
    """Where it starts, and the condition's own treatment."""
    from pinnsim.simulate import AtRest, FromSample
    from pinnsim.treatment import NONE

    if beginning == Beginning.START:
        raise PinnsimError.of("E_USAGE", "--from start is for reaction systems, whose file names amounts; choose rest.")
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


def _system_initial(system: "StoredSystem", beginning: Beginning) -> tuple["AbstractInitial", "Treatment"]:
    """Where a reaction system starts: its file's amounts, or rest with their conserved totals."""
    from pinnsim.simulate import AtRest, FromState
    from pinnsim.treatment import NONE

    if beginning == Beginning.SAMPLE:
        message = "--from sample needs a model with readings, which a reaction system has not; choose start or rest."
        raise PinnsimError.of("E_USAGE", message)
    return (FromState(system.system.start) if beginning == Beginning.START else AtRest()), NONE


def _solver(method: Method, rtol: float) -> "ODE":
    """Rate equations and what solves them."""
    from pinnsim.simulate import ODE
    from pinnsim.simulate.method import dfx

    solvers = {Method.AUTO: None, Method.TSIT5: dfx.Tsit5(), Method.KVAERNO5: dfx.Kvaerno5()}
    return ODE(rtol=rtol, solver=solvers[method])


def _tree(results: list["Result"], members: Members) -> "xr.DataTree":
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


def _flag_extrapolation(notes: dict[str, Any], unit: str, last: float) -> None:
    """Says where the simulation leaves what the model was fitted to."""
    span = notes.get("times")
    if isinstance(span, list) and len(span) == 2 and last > span[1]:
        tell(f"extrapolation: the model was fitted to {span[0]:g} to {span[1]:g} {unit}; beyond is its guess.")

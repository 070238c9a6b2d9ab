"""`pinnsim push`: push a cell with many doses for many durations, and say where it settles and how sure that is."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pinnsim.cli.arguments import ModelName, ProgressBar, check_folder, read_members, read_times
from pinnsim.cli.methods import SAMPLED, Method, Settings, counting
from pinnsim.cli.output import AsJson, answer, highest, records, show_table, speak_to, tell
from pinnsim.cli.simulate import Members
from pinnsim.errors import PinnsimError, Problems, did_you_mean
from pinnsim.session import start

if TYPE_CHECKING:
    from pinnsim.dynamics.kinetics import AbstractKinetics
    from pinnsim.landscape import Attractors, FateMap

_STARTS = 64


def push(
    model: ModelName,
    template: Annotated[
        str,
        typer.Option("--treatment", "--perturb", "-t", metavar="TEXT", help="The push at dose 1, without a stop."),
    ],
    doses: Annotated[str, typer.Option(metavar="START:STOP:STEP", help="What its numbers are multiplied by.")],
    durations: Annotated[str, typer.Option(metavar="START:STOP:STEP", help="How long it lasts.")],
    settle: Annotated[float, typer.Option(metavar="TIME", help="How long the cell is left alone afterwards.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="A name that ends in .zarr or .nc.")],
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="The map as a picture.", show_default=False)
    ] = None,
    valley: Annotated[
        str | None,
        typer.Option("--start", metavar="NAME", help="The attractor to start in.", show_default="that of rest"),
    ] = None,
    members: Annotated[Members, typer.Option(help="Of an ensemble: its best member, or all of them.")] = Members.BEST,
    method: Annotated[
        Method, typer.Option(help="Noise: none, or ssa, tau-leaping, langevin.", show_default="none")
    ] = Method.AUTO,
    size: Annotated[
        float | None, typer.Option(metavar="OMEGA", help="Molecules per unit of abundance.", show_default=False)
    ] = None,
    cells: Annotated[int | None, typer.Option(metavar="N", help="Noisy cells per push.", show_default="100")] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Of the random numbers of noisy cells.", show_default="0")
    ] = None,
    as_json: AsJson = False,
    progress: ProgressBar = True,
) -> None:
    """Push a cell up the hill, let go, and say in which valley it settles.

    Finds the attractors, pushes the cell with every dose for every duration, and draws where it settles: a map with
    its border (the critical duration of each dose). With a noise method each push gets probabilities with intervals;
    with --members all the members of a fit say how far they agree.

    \b
    Examples:
      pinnsim push toggle_switch --treatment "drive(u)=1" --doses 0.5:6:0.5 --durations 0.5:8:0.5 --settle 60 \\
          --start A1 --out push.zarr --picture push.png
      pinnsim push toggle_switch --treatment "drive(u)=1" --doses 1:4:1 --durations 1:4:1 --settle 60 \\
          --start A2 --method ssa --size 5 --cells 200 --out noisy.zarr
      pinnsim push fitted/model --treatment "ccpA*1" --doses 0,0.5 --durations 10:60:10 --settle 300 \\
          --members all --out members.zarr
    """
    start()
    speak_to(as_json)
    from pinnsim.formats.simulation import save_simulation
    from pinnsim.landscape import fate_map, find_attractors
    from pinnsim.precision import enable_x64

    enable_x64()
    settings = Settings(method, size, cells, seed)
    with Problems() as problems:
        settings.check(problems)
        if method not in (Method.AUTO, *SAMPLED):
            problems.add("E_USAGE", f"--method {method} draws no noisy cells; choose ssa, tau-leaping or langevin.")
        if out.suffix not in (".zarr", ".nc"):
            problems.add("E_USAGE", f"--out '{out.name}' must end in .zarr or .nc.")
        if picture is not None and picture.suffix != ".png":
            problems.add("E_USAGE", f"--picture '{picture.name}' must end in .png.")
        axes = {}
        for name, text in (("--doses", doses), ("--durations", durations)):
            try:
                axes[name] = read_times(text, name)
            except PinnsimError as error:
                problems.absorb(error)
    for path in (out, *([] if picture is None else [picture])):
        check_folder(path.parent)
    chosen = read_members(model)
    kinetics = chosen[0]
    found = find_attractors(kinetics, starts=_STARTS, totals=kinetics.default_state())
    rows = [
        (point, kind, f"{share:.0%}", highest(found.species, state))
        for point, kind, share, state in zip(found.names, found.stability, found.share, found.states, strict=True)
    ]
    show_table("Where it can rest", ("point", "stability", "share of starts", "highest"), rows)
    tell(found.describe())
    name = _start(kinetics, found, valley, template, settle)
    tell(f"The cell starts in {name}.")
    state = found.states[found.names.index(name)]
    lanes = axes["--doses"], axes["--durations"]
    noise: dict[str, Any] = {}
    if method in SAMPLED:
        import jax

        from pinnsim.simulate.initial import Bare

        settings = settings.completed([Bare(kinetics)])
        noise = {"noise": counting(settings), "key": jax.random.key(settings.seed or 0), "runs": settings.cells}
    cells_of = fate_map(kinetics, state, template, *lanes, found, settle=settle, progress=progress, **noise)
    tell(cells_of.describe())
    _say_critical(cells_of)
    if sum(found.stable) == 1:
        tell(f"There is no other valley than {name}: every push is forgotten; 'pinnsim simulate' shows its course.")
    if cells_of.fates is not None:
        tell(cells_of.fates.describe())
    tree = cells_of.to_xarray()
    ensemble = None
    if members == Members.ALL and len(chosen) > 1:
        from pinnsim.landscape import ensemble_map

        ensemble = ensemble_map(kinetics, chosen, name, template, *lanes, found, settle=settle, progress=progress)
        tell(ensemble.describe())
        own = ensemble.to_xarray()
        tree = tree.assign({f"member_{key}": own[key] for key in ("settles_in", "agreement", "critical_duration")})
    elif members == Members.ALL:
        typer.echo("This model has no other members; give a fitted bundle for agreement.", err=True)
    tree.attrs |= {"model": model, "start_valley": name, "kind": "simulation: nothing here was measured"}
    save_simulation(out, tree)
    tell(f"Written: {out}")
    if picture is not None:
        from pinnsim.plot import fate_map_panel, save

        save(fate_map_panel(cells_of, ensemble, dose_label=f"dose of {template}", simulated=True), picture)
        tell(f"Written: {picture}")
    answer({"model": model, "treatment": template, "start_valley": name, **_summary(cells_of), "out": out})


def _start(kinetics: "AbstractKinetics", found: "Attractors", asked: str | None, template: str, settle: float) -> str:
    """The name of the attractor to start in. **Raises** `E_USAGE`, `E_SOLVER` where no cell can rest."""
    from pinnsim.landscape import push

    names = [name for name, stable in zip(found.names, found.stable, strict=True) if stable]
    if not names:
        raise PinnsimError.of("E_SOLVER", "No attractor was found where a cell could rest: there is nowhere to start.")
    if asked is None:
        # A push of no duration: where the model goes by itself.
        begin = kinetics.default_state()
        (asked,) = push(kinetics, begin, template, 0.0, 0.0, found, settle=settle).verdicts()
        if asked not in names:
            raise PinnsimError.of(
                "E_USAGE",
                f"By itself the model rests in no attractor (it may sit between two); give --start {names[0]}.",
            )
    if asked not in names:
        near = did_you_mean(asked, names)
        raise PinnsimError.of("E_USAGE", f"--start '{asked}' is no attractor{near}; there are {', '.join(names)}.")
    return asked


def _summary(found: "FateMap") -> dict[str, Any]:
    """The map as JSON: a row per push, and the critical duration of each dose (null where there is none)."""
    critical = [{"dose": dose, "duration": duration} for dose, duration in zip(*found.critical(), strict=True)]
    told = {"described": found.describe(), "valleys": list(found.names), "settle": found.settle}
    return {**told, "time_unit": found.time_unit, "critical": critical, "pushes": records(found.table())}


def _say_critical(found: "FateMap") -> None:
    """The critical duration of each dose."""
    import math

    unit = found.time_unit
    for dose, duration in zip(*found.critical(), strict=True):
        said = "none up to the longest" if math.isnan(duration) else f"{duration:.4g} {unit}"
        tell(f"dose {dose:g}: critical duration {said}")

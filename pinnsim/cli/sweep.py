"""`pinnsim sweep plan|run|status|resume|merge|verify`: campaigns of many points."""

import enum
import math
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pinnsim.cli.arguments import ProgressBar, check_folder
from pinnsim.cli.output import AsJson, answer, speak_to, tell
from pinnsim.errors import PinnsimError
from pinnsim.session import start

if TYPE_CHECKING:
    from pinnsim.sweep import Report, Store
    from pinnsim.sweep.plan import Plan


class Engine(enum.StrEnum):
    """Where points are worked out."""

    IN_PROCESS = "in-process"
    PROCESSES = "processes"
    DASK = "dask"


_Spec = Annotated[
    Path,
    typer.Argument(metavar="SWEEP", help="The campaign's file, or 'toggle' or 'demo', which come with pinnsim.",
                   show_default=False),
]  # fmt: skip
_Model = Annotated[str, typer.Option("--model", metavar="MODEL", help="Another model than the file's.")]
_Show = Annotated[str, typer.Option("--show", metavar="WHAT", help="What is drawn, such as shift or end[ccpA.mrna].")]
_Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The campaign's folder.", show_default=False)]
_Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The campaign's folder.", show_default=False)]
_Engine = Annotated[Engine, typer.Option("--engine", help="This process, worker processes, or a Dask cluster.")]
_Workers = Annotated[int, typer.Option("--workers", "-n", min=1, help="How many worker processes.")]
_Address = Annotated[
    str, typer.Option("--address", metavar="HOST:PORT", help="A Dask scheduler; none: a cluster on this machine.")
]
_Queue = Annotated[
    str, typer.Option("--jobqueue", metavar="NAME", help="Dask's workers are jobs of: slurm, pbs, sge, lsf, oar, ...")
]
_Job = Annotated[str, typer.Option("--job", metavar="K=V,...", help="What a job asks for: memory=8GB,...")]
_Devices = Annotated[int, typer.Option("--devices", min=1, help="Devices that this process spreads points over.")]
_Chunk = Annotated[int | None, typer.Option("--chunk", min=1, help="Points written at a time.", show_default=False)]
_Shard = Annotated[str, typer.Option("--shard", metavar="I/N", help="Only each N-th chunk, from the I-th.")]

app = typer.Typer(
    help="Work out many points of a model, in one folder that survives anything.\n\n"
    "\b\nExamples:\n"
    "  pinnsim sweep run toggle --out out/toggle --picture out/toggle.png\n"
    "  pinnsim sweep init sweep.toml\n"
    "  pinnsim sweep plan sweep.toml\n"
    "  pinnsim sweep run sweep.toml --out out/sweep --engine processes --workers 4\n"
    "  pinnsim sweep resume out/sweep",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def init(
    file: Annotated[Path, typer.Argument(metavar="SWEEP.toml", help="A new file.", show_default=False)],
    example: Annotated[str, typer.Option("--from", metavar="NAME", help="Which one: toggle or demo.")] = "toggle",
) -> None:
    """Write a campaign's file to begin from: a commented example that runs as it is.

    \b
    Examples:
      pinnsim sweep init sweep.toml
      pinnsim sweep run sweep.toml --out out/sweep --engine processes --workers 2
    """
    from pinnsim import shelf
    from pinnsim.sweep.journal import disk_errors

    text = shelf.campaign_path(example).read_bytes()
    if file.exists():
        raise PinnsimError.of("E_USAGE", f"'{file}' is there already; name a new file.")
    with disk_errors(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text)
    tell(f"Written: {file}\nNext: pinnsim sweep run {file} --out out/{file.stem} --picture out/{file.stem}.png")


@app.command()
def plan(
    spec: _Spec,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where it would go.")] = Path("."),
    chunk: _Chunk = None,
    shard: _Shard = "1/1",
    model: _Model = "",
    as_json: AsJson = False,
) -> None:
    """Show what a campaign would take: points, chunks, disk and time.

    \b
    Examples:
      pinnsim sweep plan sweep.toml
    """
    start()
    speak_to(as_json)
    from pinnsim.campaign import load_campaign, read_specification
    from pinnsim.sweep import plan

    loaded = load_campaign(read_specification(spec, model))
    found = plan(loaded, out, loaded.layout(chunk, _shard(shard)))
    _show_plan(found)
    answer(_planned(found))
    found.check(out)


@app.command()
def run(
    spec: _Spec,
    out: _Out,
    engine: _Engine = Engine.IN_PROCESS,
    workers: _Workers = 1,
    address: _Address = "",
    jobqueue: _Queue = "",
    job: _Job = "",
    devices: _Devices = 1,
    chunk: _Chunk = None,
    shard: _Shard = "1/1",
    model: _Model = "",
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="PNG", help="Draw a map in the end.", show_default=False)
    ] = None,
    show: _Show = "",
    as_json: AsJson = False,
    progress: ProgressBar = True,
) -> None:
    """Begin a campaign and work until it is done.

    \b
    Examples:
      pinnsim sweep run sweep.toml --out out/sweep
      pinnsim sweep run demo --out out/demo --picture out/demo.png
      pinnsim sweep run sweep.toml --out out/part2 --shard 2/3
      pinnsim sweep run sweep.toml --out out/sweep --engine dask --address 10.0.0.1:8786
      pinnsim sweep run sweep.toml --out out/sweep --engine dask --jobqueue slurm --workers 32 --job walltime=02:00:00
    """
    speak_to(as_json)
    part = _shard(shard)
    check_folder(out)
    if engine != Engine.IN_PROCESS:
        # Accelerators are for the workers: this process must not take their memory.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    start()
    from pinnsim import campaign
    from pinnsim.sweep import plan

    loaded = campaign.load_campaign(campaign.read_specification(spec, model))
    # A trial is for the process that will do the work: a point that kills its worker must not kill this one.
    _show_plan(plan(loaded, out, loaded.layout(chunk, part), trial=engine == Engine.IN_PROCESS))
    report = campaign.run(
        loaded, out, engine=engine.value, workers=workers, address=address, chunk=chunk, shard=part, progress=progress,
        queue=jobqueue, job=job, devices=devices,
    )  # fmt: skip
    if picture is not None:
        _draw(out, picture, show)
    _show_report(report, out)


@app.command()
def picture(
    folder: _Folder,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="PNG", help="The picture.", show_default=False)],
    show: _Show = "",
    x: Annotated[str, typer.Option("--x", metavar="AXIS", help="The axis across.")] = "dose",
    y: Annotated[str, typer.Option("--y", metavar="AXIS", help="The axis up.")] = "duration",
) -> None:
    """Draw a campaign as maps over two of its axes, a panel for each value of the others.

    \b
    Examples:
      pinnsim sweep picture out/demo --out reach.png --show reach
    """
    _draw(folder, out, show, x, y)


@app.command()
def resume(
    folder: _Folder,
    engine: _Engine = Engine.IN_PROCESS,
    workers: _Workers = 1,
    address: _Address = "",
    jobqueue: _Queue = "",
    job: _Job = "",
    devices: _Devices = 1,
    as_json: AsJson = False,
    progress: ProgressBar = True,
) -> None:
    """Go on with a campaign after anything: what is pending or damaged is worked out.

    \b
    Examples:
      pinnsim sweep resume out/sweep --engine processes --workers 2
    """
    start()
    speak_to(as_json)
    from pinnsim import campaign

    report = campaign.resume(
        folder, engine=engine.value, workers=workers, address=address, progress=progress, queue=jobqueue, job=job,
        devices=devices,
    )  # fmt: skip
    _show_report(report, folder)


@app.command()
def status(folder: _Folder, as_json: AsJson = False) -> None:
    """Show how far a campaign is. It may be running.

    \b
    Examples:
      pinnsim sweep status out/sweep
    """
    speak_to(as_json)
    from pinnsim.sweep import Store, failures_by_reason

    store = Store(folder)
    counts = store.counts()
    killers = [{"point": int(point), "reason": why} for point, why in _quarantined(store).items()]
    answer({"folder": folder, "counts": counts, "failures": failures_by_reason(store), "quarantined": killers})
    tell(", ".join(f"{count} {what}" for what, count in counts.items()))
    for reason, count in failures_by_reason(store).items():
        tell(f"  {count} {reason}")
    for point, reason in _quarantined(store).items():
        tell(f"  point {point} killed its worker twice ({reason}): {_place(store, int(point))}")


@app.command()
def merge(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="The shards.", show_default=False)],
    out: _Out,
    as_json: AsJson = False,
) -> None:
    """Make one campaign's folder of its shards.

    \b
    Examples:
      pinnsim sweep merge out/part1 out/part2 out/part3 --out out/whole
    """
    speak_to(as_json)
    check_folder(out)
    from pinnsim.sweep import merge

    store = merge(folders, out)
    answer({"folder": out, "counts": store.counts()})
    tell(f"Written: {out} ({', '.join(f'{count} {what}' for what, count in store.counts().items())})")


@app.command()
def verify(folder: _Folder, as_json: AsJson = False) -> None:
    """Read everything that is done, hold it against its sha256, and show the hash of all numbers.

    \b
    Examples:
      pinnsim sweep verify out/sweep
    """
    speak_to(as_json)
    from pinnsim.sweep import Store

    store = Store(folder)
    store.verify()
    answer({"folder": folder, "counts": store.counts(), "sha256": store.content_hash()})
    tell(f"All is sound. {', '.join(f'{count} {what}' for what, count in store.counts().items())}")
    tell(f"sha256 {store.content_hash()}")


@app.command(hidden=True)
def worker(folder: _Folder) -> None:
    """A worker of `--engine processes`: speaks with the process that started it."""
    start()
    from pinnsim.campaign import of_store
    from pinnsim.sweep import Store, serve

    serve(lambda: of_store(Store(folder)).compute)


def _draw(folder: Path, path: Path, show: str, x: str = "dose", y: str = "duration") -> None:
    from pinnsim.plot import save, sweep_map
    from pinnsim.sweep import Store
    from pinnsim.sweep.journal import disk_errors

    drawn = sweep_map(Store(folder).to_xarray(), show, x=x, y=y)
    with disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        save(drawn, path)
    tell(f"Written: {path}")


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    which, total = (int(part) for part in match.groups()) if match else (0, 0)
    if not 1 <= which <= total:
        raise PinnsimError.of("E_USAGE", f"--shard '{text}' cannot be read; give i/n, for example 2/3.")
    return which, total


def _show_plan(found: "Plan") -> None:
    from pinnsim.sweep.plan import size_text

    time = "" if math.isnan(found.seconds) else f", about {found.seconds:.3g} s of one worker"
    compiling = "" if math.isnan(found.seconds) else f" and {found.compiling:.3g} s to compile"
    tell(
        f"{found.points} points in {found.chunks} chunks of {found.chunk}; {size_text(found.bytes)} on disk "
        f"({size_text(found.free)} free){time}{compiling}."
    )


def _planned(found: "Plan") -> dict[str, object]:
    names = ("points", "chunks", "chunk", "bytes", "free", "seconds", "compiling")
    return {name: getattr(found, name) for name in names}


def _show_report(report: "Report", folder: Path) -> None:
    counts = ", ".join(f"{count} {what}" for what, count in report.counts.items())
    tell(f"{counts}; {report.chunks} chunks written in {report.seconds:.3g} s.")
    if report.lost:
        print(f"{report.lost} workers died and were replaced.", file=sys.stderr)
    if report.quarantined:
        points = ", ".join(map(str, report.quarantined))
        print(f"E_SOLVER: points {points} killed their worker twice; see 'pinnsim sweep status'.", file=sys.stderr)
    tell(f"Written: {folder}")
    told = {"counts": report.counts, "chunks": report.chunks, "seconds": report.seconds, "workers_lost": report.lost}
    answer({"folder": folder, **told, "quarantined": list(report.quarantined)})
    if report.quarantined or (report.counts["failed"] and not report.counts["done"]):
        raise typer.Exit(4)


def _quarantined(store: "Store") -> dict[str, str]:
    return {point: reason for entry in store.done.values() for point, reason in entry.get("quarantined", {}).items()}


def _place(store: "Store", point: int) -> str:
    """The values of a point's axes."""
    chunk = point // store.layout.chunk
    axes = [name for name in store.layout.variables if name.startswith("axis_")]
    return ", ".join(
        f"{store.layout.variables[name].attrs['axis']} = {store.read(name, chunk)[point % store.layout.chunk]:g}"
        for name in axes
    )

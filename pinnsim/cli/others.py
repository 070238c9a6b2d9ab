"""`pinnsim demo`, `pinnsim experiment` and `pinnsim doctor`: verbs whose work is done elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from pinnsim.cli.arguments import ProgressBar, check_folder, experiment_names
from pinnsim.cli.output import AsJson, answer, speak_to, tell
from pinnsim.errors import CODES, PinnsimError
from pinnsim.session import start

_Smoke = Annotated[bool, typer.Option("--smoke", help="Tiny sizes: does everything work? Its numbers mean nothing.")]


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where results go.")] = Path("demo"),
    smoke: _Smoke = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")] = False,
) -> None:
    """Run the whole chain on real measurements.

    Fits one carbon shift of Bacillus subtilis and predicts the opposite one, beside every baseline and control; then
    knocks regulators out, gives a pulse and withdraws it, and draws the landscape. About three minutes on two cores.

    \b
    Examples:
      pinnsim demo
      pinnsim demo --smoke --out look
    """
    start()
    check_folder(out)
    from pinnsim.demo import run_demo

    run_demo(out, smoke, not quiet)


def experiment(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Its name.", show_default=False, autocompletion=experiment_names),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Show all experiments and their questions.")] = False,
    smoke: _Smoke = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Where results go (out/NAME if not given).", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
    progress: ProgressBar = True,
) -> None:
    """Run an experiment of the shelf: a question, a frozen plan, and every number it gives.

    \b
    Examples:
      pinnsim experiment --list
      pinnsim experiment carbon_shift --smoke
      pinnsim experiment carbon_shift --out results
    """
    speak_to(as_json)
    from pinnsim import shelf

    if listed:
        for key, question in shelf.experiments().items():
            tell(f"{key}: {question}")
        answer({"experiments": shelf.experiments()})
        return
    if name is None:
        raise PinnsimError.of("E_USAGE", "give the NAME of an experiment; 'pinnsim experiment --list' shows all.")
    folder = Path("out") / name if out is None else out
    shelf.experiment_path(name)
    check_folder(folder)
    start()
    from pinnsim.experiment import load_experiment, read_plan, write_results

    module = load_experiment(name)
    plan = read_plan(name, smoke=module.SMOKE if smoke else None)
    folder.mkdir(parents=True, exist_ok=True)
    findings = module.run(plan, folder, progress=progress)
    path = write_results(folder, name, plan, findings)
    for row in findings.acceptance:
        verdict = "holds" if row.holds else "FAILS"
        tell(f"{verdict}: {row.what}: {row.value:.6g} (bar {row.bar:g}, {row.better} is better)")
    tell(f"Written: {path}")
    answer({"experiment": name, "acceptance": [row.to_dict() for row in findings.acceptance], "out": path})


def doctor(
    codes: Annotated[
        bool, typer.Option("--codes", help="List every error code and its exit status, and stop.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check this installation, in a few seconds.

    Versions, devices, precision, cache, threads, disk, the shelf, and a self-test with a known answer. The exit status
    is 0 when all is well, else 1.

    \b
    Examples:
      pinnsim doctor
      pinnsim doctor --codes
    """
    speak_to(as_json)
    if codes:
        every = sorted(CODES.items(), key=lambda item: (item[1][0], item[0]))
        for code, (status, meaning) in every:
            tell(f"{status}  {code:22s} {meaning}")
        answer({"codes": [{"code": code, "status": status, "meaning": meaning} for code, (status, meaning) in every]})
        return
    start()
    from pinnsim.doctor import examine

    checks = []
    for check in examine():
        checks.append({"name": check.name, "well": check.well, "found": check.found})
        tell(f"{'ok  ' if check.well else 'FAIL'}  {check.name:14s} {check.found}")
    well = all(check["well"] for check in checks)
    tell("All is well." if well else "Something is wrong, see above.")
    answer({"well": well, "checks": checks})
    raise typer.Exit(int(not well))

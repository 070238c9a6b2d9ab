"""`pinnsim import`: what a published kinetic model holds, and what of it cannot be simulated here."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pinnsim.cli.output import AsJson, show_table, speak_to, tell, to_json
from pinnsim.errors import first
from pinnsim.session import start

SUFFIXES = (".xml", ".sbml", ".ant", ".antimony", ".yaml", ".yml")
_OF_A_PROBLEM = ("measurements", "observables", "experiments", "at_rest_first", "species", "reactions")
_COUNTS = ("compartments", "species", "reactions", "parameters", "assignment_rules", "rate_rules")


def import_model(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="An SBML (.xml, .sbml) or Antimony (.ant) file, or a PEtab problem (.yaml).",
            show_default=False,
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Read a kinetic model in SBML or Antimony, or a PEtab problem, and say what was understood and what refused.

    Nothing is written. What is not supported (events, delays, algebraic rules, fast reactions, packages) is named by
    construct, identifier and line, all at once; then the exit status is 3. The file is parsed in a process of its own.

    \b
    Examples:
      pinnsim import BIOMD0000000012.xml
      pinnsim import toggle.ant --json
      pinnsim import problem.yaml
    """
    start()
    speak_to(as_json)
    show_model(file, as_json)


def show_model(file: Path, as_json: bool) -> None:
    """Shows what a file holds. **Raises** as `read_sbml` and `read_petab`, after the JSON was shown."""
    if file.suffix.lower() in SUFFIXES[-2:]:
        _show_problem(file, as_json)
        return
    from pinnsim.formats.sbml.report import describe_model

    found, error = describe_model(file)
    if as_json:
        typer.echo(to_json(found), nl=False)
    if error is not None:
        raise error
    if not as_json:
        _show(found, file)


def _show_problem(file: Path, as_json: bool) -> None:
    from pinnsim.formats.petab.report import describe_petab

    found, error = describe_petab(file)
    if as_json:
        typer.echo(to_json(found), nl=False)
    if error is not None:
        raise error
    if as_json:
        return
    typer.echo(f"{found['model']} (PEtab {found['version']})")
    rows = [(name.replace("_", " "), found[name]) for name in _OF_A_PROBLEM]
    show_table("What was understood", ("", "count"), rows)
    typer.echo(f"Estimated ({len(found['estimated'])}): {first(found['estimated'], 8)}")
    typer.echo(f"Noise: {first(f'{kind} ({count})' for kind, count in found['noise'].items())}")
    typer.echo(f"Nothing was refused. Next: pinnsim fit {file} --out fitted")
    typer.echo("      or, in Python: problem = pinnsim.read_petab(...); problem.log_likelihood()")


def _show(found: dict[str, Any], file: Path) -> None:
    tell(f"{found['model']} (SBML {found['level']}, time in {found['time_unit']})")
    rows: list[tuple[object, ...]] = [(name.replace("_", " "), found[name]) for name in _COUNTS]
    rows += [("initial assignments", found["initial_assignments"])]
    show_table("What was understood", ("", "count"), rows)
    tell(f"States: {first(found['states'], 8)}")
    tell(f"Numbers to change, sweep or fit: {first(found['constants'], 8)}")
    for law in found["conservation_laws"]:
        tell(f"Conserved: {law}")
    if found["switch_times"]:
        tell(f"Formulas switch at times {first(f'{time:g}' for time in found['switch_times'])}.")
    if found["constraints_not_checked"]:
        tell(f"{found['constraints_not_checked']} constraints are not checked while it runs.")
    if found["stiffness"] is not None:
        tell(f"Stiffness at the start: {found['stiffness']:.3g} (fastest over slowest rate).")
    reader = "read_sbml" if file.suffix.lower() in SUFFIXES[:2] else "read_antimony"
    tell(f"Nothing was refused. Next, in Python: model = pinnsim.{reader}(...); simulate(model, times)")

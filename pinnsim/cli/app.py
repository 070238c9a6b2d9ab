"""The program: its verbs, and its manners when something is wrong.

Every problem is one line on stderr, and the exit status says whose turn it is: 2 usage or configuration, 3 data or
disk, 4 no convergence, 130 interrupted, 1 a mistake of ours. Tracebacks are for `pinnsim --debug VERB ...`.
"""

import errno
import sys
import traceback
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Annotated

import typer

from pinnsim import __version__
from pinnsim.cli.begin import init, schema
from pinnsim.cli.check import check
from pinnsim.cli.design import design
from pinnsim.cli.evaluate import evaluate
from pinnsim.cli.export import export
from pinnsim.cli.fit import fit
from pinnsim.cli.imported import import_model
from pinnsim.cli.landscape import landscape
from pinnsim.cli.others import demo, doctor, experiment
from pinnsim.cli.output import speak_to
from pinnsim.cli.push import push
from pinnsim.cli.report import report
from pinnsim.cli.score import score
from pinnsim.cli.screen import screen
from pinnsim.cli.simulate import simulate
from pinnsim.cli.sweep import app as sweep
from pinnsim.errors import DATA, PinnsimError
from pinnsim.session import plain_warnings

INTERRUPTED, OURS = 130, 1

app = typer.Typer(
    help="Fit physics-informed models to time courses of gene expression, score them honestly, perturb the cell and "
    "see where it goes.\n\nBegin with 'pinnsim demo'; 'pinnsim VERB --help' has examples to paste.",
    no_args_is_help=True,
    # Examples stay as they were written, to be pasted.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_VERBS = (
    (demo, init, check, fit, evaluate, score, simulate, landscape, push, screen, design),
    (report, export, doctor, experiment, schema),
)
for verb in (*_VERBS[0], *_VERBS[1]):
    app.command()(verb)
app.command("import")(import_model)
app.add_typer(sweep, name="sweep")


_debug: ContextVar[bool] = ContextVar("debug", default=False)


def _version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"pinnsim {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def settings(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback when something goes wrong.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and stop.")
    ] = False,
) -> None:
    """Notes what holds for every verb."""
    _debug.set(debug)


def main() -> None:
    """The program `pinnsim`."""
    raise SystemExit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Runs one command line and gives its exit status; says on stderr what went wrong."""
    _debug.set(False)
    speak_to(programs=False)
    try:
        with plain_warnings():
            typer.main.get_command(app).main(args=list(arguments), prog_name="pinnsim")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if _debug.get():
            traceback.print_exc()
        lines, status = _said(error)
        for line in lines:
            print(line, file=sys.stderr)
        if status == OURS and not _debug.get():
            again = " ".join(arguments)
            print(f"This should not happen; run again with 'pinnsim --debug {again}' and report it.", file=sys.stderr)
        return status
    return 0


def _said(error: Exception) -> tuple[list[str], int]:
    if isinstance(error, PinnsimError):
        return [str(problem) for problem in error.problems], error.exit_status
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
        return [
            f"E_DISK: {error.strerror}: '{error.filename or 'a file'}'; free space, or choose another folder."
        ], DATA
    first = str(error).strip().partition("\n")[0]
    return [f"{type(error).__name__}: {first}"], OURS

"""Reads files that strangers wrote, one after another, in a process that may be killed; watched by an audit hook.

    python experiments/_untrusted_reader.py < one JSON object a line: {"kind", "path", "isolated", "sound"}

Answers one JSON object a line: `result` (read, refused, or a fault: exception, code, non-finite), `why`, `seconds` of a
processor, `peak`, the most bytes of memory while reading, by this process or by a child larger than those before.

What Python tells its audit hooks while `sound` files are read is usual; anything else that a file makes happen (a
program that starts, code that is loaded or run, a connection) counts as code run.

`isolated` parses models in a process of their own, as users do; without it this process stands in for that one.
What was read is also used: right-hand sides are evaluated at the start, tables looked through. Numbers that are not
finite must be told by an outcome or an error.
"""

import json
import os
import resource
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

_OWN = ("pinnsim.formats.sbml.child", "pinnsim.formats.netcdf_child", "hdf5_child.py")
_SECRET = ("passwd", "secret.txt", "canary")
_usual: set[str] = set()
_seen: set[str] = set()
_watching = False


def _hook(event: str, arguments: tuple) -> None:
    if not _watching:
        return
    if event == "subprocess.Popen" and any(str(word).endswith(_OWN) for word in arguments[1]):
        return
    if event == "open":
        if str(arguments[0]).endswith(_SECRET):
            _seen.add(f"open {arguments[0]}")
    elif event not in _usual:
        _seen.add(event)


def _sbml(path: Path, isolated: bool) -> str:
    from pinnsim.formats.sbml.read import read_sbml

    return _used(read_sbml(path, isolated=isolated))


def _antimony(path: Path, isolated: bool) -> str:
    from pinnsim.formats.antimony import read_antimony

    return _used(read_antimony(path, isolated=isolated))


def _used(system) -> str:
    """A model's right-hand side at its start; where that is not finite, `simulate` must say so."""
    from pinnsim.simulate import ODE, Outcome, simulate

    host = system.on_host()
    with np.errstate(all="ignore"):
        slope = np.asarray(host.slope(0.0, host.begin))
    if np.isfinite(slope).all() and np.isfinite(host.begin).all():
        return ""
    found = simulate(system, np.linspace(0.0, 1e-3, 2), method=ODE(max_steps=64))
    told = int(found.outcome[0]) != Outcome.DONE
    return "" if told or np.isfinite(found.states).all() else "a state that is not finite was called done"


def _petab(path: Path, isolated: bool) -> str:
    from pinnsim.formats.petab.problem import read_petab

    read_petab(path / "problem.yaml", isolated=isolated)
    return ""


def _project(path: Path, isolated: bool) -> str:
    from pinnsim.project import load_project

    found = load_project(path / "project.toml")
    measured = found.dataset.values[np.asarray(found.dataset.mask, dtype=bool)]
    return "" if np.isfinite(measured).all() else "a value that counts as measured is not finite"


def _campaign(path: Path, isolated: bool) -> str:
    from pinnsim.campaign import read_specification

    read_specification(path)
    return ""


def _system(path: Path, isolated: bool) -> str:
    from pinnsim.formats.reaction_system import load_system

    load_system(path)
    return ""


def _bundle(path: Path, isolated: bool) -> str:
    from pinnsim.formats.bundle import load_model
    from pinnsim.tree import named_leaves

    leaves = named_leaves(load_model(path).models[0]).values()
    numbers = [leaf for leaf in map(np.asarray, leaves) if leaf.dtype.kind == "f"]
    return "" if all(np.isfinite(leaf).all() for leaf in numbers) else "a parameter is not finite"


def _simulation(path: Path, isolated: bool) -> str:
    from pinnsim.formats.simulation import load_simulation

    load_simulation(path)
    return ""


def _h5ad(path: Path, isolated: bool) -> str:
    from pinnsim.data import read_anndata

    found = read_anndata(
        path, layers={"mrna": "X"}, time_key="hours", size_factors="none", time_unit="h", scale="counts"
    )
    return "" if np.isfinite(found.values).all() else "a count is not finite"


READERS: dict[str, Callable[[Path, bool], str]] = {
    "sbml": _sbml,
    "antimony": _antimony,
    "petab": _petab,
    "project": _project,
    "campaign": _campaign,
    "system": _system,
    "bundle": _bundle,
    "simulation": _simulation,
    "h5ad": _h5ad,
}


def read(kind: str, path: Path, isolated: bool, sound: bool) -> dict:
    """One file read and used, and what came of it."""
    from pinnsim.errors import PinnsimError

    global _watching
    _seen.clear()
    Path("/proc/self/clear_refs").write_text("5")
    began, largest = _processor(), _children()
    _watching = True
    try:
        fault = READERS[kind](path, isolated)
        result, why = ("non-finite", fault) if fault else ("read", "")
    except PinnsimError as error:
        result, why = "refused", error.codes[0]
    except Exception as error:  # whatever comes is the finding
        result, why = "exception", f"{type(error).__name__}: {error}"[:300]
    finally:
        _watching = False
    if sound:
        _usual.update(_seen)
    elif _seen:
        result, why = "code", "; ".join(sorted(_seen))[:300]
    seconds = _processor() - began
    return {
        "result": result,
        "why": why,
        "seconds": seconds,
        "peak": max(_own(), _children() if _children() > largest else 0),
    }


def _processor() -> float:
    """Seconds of a processor that this process and its children took."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def _children() -> int:
    """Memory of the largest child so far."""
    return 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


def _own() -> int:
    """The most memory of this process since the mark was taken back."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def main() -> None:
    """Answers until the input ends."""
    from pinnsim.precision import enable_x64

    enable_x64()
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    sys.addaudithook(_hook)
    for line in sys.stdin:
        asked = json.loads(line)
        answers.write(json.dumps(read(asked["kind"], Path(asked["path"]), asked["isolated"], asked["sound"])) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()

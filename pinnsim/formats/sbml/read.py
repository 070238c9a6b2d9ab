"""SBML in: published kinetic models as our own, with every named constant an array leaf.

    file -> scan (no entities, bounded) -> libSBML in a process of its own -> plain data -> `RuleSystem`

What is understood is simulated as the specification says; everything else is refused by construct, identifier and line,
all at once. `docs/sbml.md` has the table.

Source: M. Hucka et al., SBML Level 3 Version 2 Core, J. Integr. Bioinform. 16:20190021 (2019).
"""

import importlib.util
import json
import subprocess
from pathlib import Path
from typing import Any

from pinnsim.dynamics.events import PLACES
from pinnsim.dynamics.rules import RuleSystem
from pinnsim.errors import PinnsimError, Problem, Problems
from pinnsim.formats.apart import last_words, run_apart
from pinnsim.formats.sbml.build import build
from pinnsim.formats.sbml.scan import LIMITS, Limits, scan_xml


def read_sbml(path: str | Path, *, limits: Limits = LIMITS, isolated: bool = True, places: int = PLACES) -> RuleSystem:
    """The model of an SBML file (Level 2 or 3; Level 1 where libSBML reads it).

        dx/dt = S v(x, p, t),      x the amounts of species and what has a rate rule

    **Arguments:** `path`; `limits`: sizes that are read; `isolated`: parse in a process of its own, with limited memory
    and time; `False` is quicker, for files that you wrote yourself; `places`: executions of one event that may wait at
    one time.

    **Returns** a `RuleSystem`: `simulate(model, times)` starts it as the file says; its numbers are
    `model.constants[name]`, `R.k` for the local parameter k of reaction R and `S.start` for what S starts from.

    **Raises** `E_SBML_UNSUPPORTED` and `E_SBML_INVALID`, all problems at once; `E_SIZE`, `E_CONFIG_FILE`,
    `E_RULE_CYCLE`, `E_EXTRA_MISSING` without libSBML.

    Source: Hucka et al. (2019), above.
    """
    path = Path(path)
    return system_of(parsed_file(path, limits=limits, isolated=isolated), str(path), places)


def parsed_file(path: Path, *, limits: Limits = LIMITS, isolated: bool = True) -> dict[str, Any]:
    """The plain data of an SBML file, refusals included (`pinnsim.formats.sbml.parse`)."""
    try:
        if path.stat().st_size > limits.size:
            scan_xml(b" " * (limits.size + 1), str(path), limits)
        content = path.read_bytes()
    except OSError as error:
        raise PinnsimError.of("E_CONFIG_FILE", f"'{path}' cannot be read: {error.strerror or error}.") from error
    return parsed_text(content, str(path), limits=limits, isolated=isolated)


def parsed_text(
    content: bytes, place: str, *, kind: str = "sbml", limits: Limits = LIMITS, isolated: bool = True
) -> dict[str, Any]:
    """The plain data of a model's text; `kind` is `sbml` or `antimony`."""
    _require("libsbml", "python-libsbml")
    if kind == "antimony":
        _require("antimony", "antimony")
    if kind == "sbml":
        scan_xml(content, place, limits)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PinnsimError.of("E_SBML_INVALID", f"'{place}' is not UTF-8 text (byte {error.start}).") from error
    if isolated:
        return _apart(text, place, kind, limits)
    from pinnsim.formats.sbml.parse import parse_sbml

    if kind == "sbml":
        return parse_sbml(text, limits.nodes)
    from pinnsim.formats.antimony_parse import antimony_to_sbml

    found, problems = antimony_to_sbml(text)
    return {"problems": problems, "model": None} if found is None else parse_sbml(found, limits.nodes)


def system_of(parsed: dict[str, Any], place: str, places: int = PLACES) -> RuleSystem:
    """The system of parsed data. **Raises** as `read_sbml`."""
    problems = Problems()
    if places < 1:
        problems.add("E_USAGE", f"Argument `places` must be at least 1, not {places}; the usual number is {PLACES}.")
    for code, sentence in parsed["problems"]:
        problems.add(code, sentence)
    system = None if problems else build(parsed["model"], problems, places)
    if system is None:
        raise PinnsimError([Problem(one.code, f"{one.message.rstrip('.')} ('{place}').") for one in problems.found])
    return system


def _require(module: str, package: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise PinnsimError.of(
            "E_EXTRA_MISSING", f"This needs the package {package}; install it with pip install 'pinnsim[sbml]'."
        )


def _apart(text: str, place: str, kind: str, limits: Limits) -> dict[str, Any]:
    arguments = [kind, *map(str, (limits.nodes, limits.memory, limits.seconds))]
    try:
        done = run_apart("pinnsim.formats.sbml.child", arguments, text.encode(), 2 * limits.seconds)
    except subprocess.TimeoutExpired as error:
        raise PinnsimError.of(
            "E_SIZE", f"'{place}' was not parsed within {2 * limits.seconds} s; pass limits= with more `seconds`."
        ) from error
    try:
        return dict(json.loads(done.stdout))
    except (ValueError, RecursionError, TypeError) as error:
        message = f"'{place}' could not be parsed: {last_words(done)}; check it with the online SBML validator."
        raise PinnsimError.of("E_SBML_INVALID", message) from error

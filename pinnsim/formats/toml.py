"""Configuration files: TOML checked against a pydantic model, with every mistake told at once, by key, file and line.

TOML because YAML reads `1e-6` as text and the gene `NO` as false. A misspelt key is never ignored: the models forbid
extra keys, and the nearest known one is offered.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import tomli_w
from pydantic import BaseModel, ValidationError

from pinnsim.errors import PinnsimError, Problems, did_you_mean, first
from pinnsim.store import replacing

M = TypeVar("M", bound=BaseModel)

Location = tuple[int | str, ...]

_HEADING = re.compile(r"\s*(\[\[?)([^\[\]]+)\]\]?\s*(?:#.*)?$")
_ENTRY = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'|\s*\.\s*)+)\s*=""")


def read_config(path: str | Path, model: type[M]) -> M:
    """A configuration file as an instance of `model`.

    **Raises:** `E_CONFIG_FILE` if it is absent or no TOML, `E_CONFIG_KEY` for unknown keys, `E_CONFIG_VALUE` for values
    of the wrong type or range and for missing ones; all of a file's problems at once, with their lines.
    """
    path = Path(path)
    text = read_text(path)
    return parse_config(parse_toml(text, str(path)), model, str(path), text)


def read_text(path: Path) -> str:
    """The text of a file. **Raises:** `E_CONFIG_FILE`."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise PinnsimError.of("E_CONFIG_FILE", f"'{path}' cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise PinnsimError.of("E_CONFIG_FILE", f"'{path}' is not UTF-8 text (byte {error.start}).") from error


def parse_toml(text: str, place: str) -> dict[str, Any]:
    """Nested dictionaries of a TOML text. **Raises:** `E_CONFIG_FILE` with line and column."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        reason = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "nested too deeply"
        raise PinnsimError.of("E_CONFIG_FILE", f"'{place}' is not valid TOML: {reason}.") from error


def parse_config(data: Mapping[str, Any], model: type[M], place: str = "configuration", text: str = "") -> M:
    """Nested dictionaries as an instance of `model`.

    **Arguments:** `place`, the file's name for messages; `text`, its text, from which the lines are found.

    **Raises:** `E_CONFIG_KEY`, `E_CONFIG_VALUE`; all problems at once.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        with Problems() as problems:
            for detail in error.errors(include_url=False):
                location = _without_tags(detail["loc"], data)
                line = line_of(text, location)
                where = place if line is None else f"{place}, line {line}"
                name = str(location[-1]) if location else ""
                section = f"[{dotted(location[:-1])}]" if location[:-1] else "the top level"
                if detail["type"] == "extra_forbidden":
                    known = known_keys(model, detail["loc"][:-1])
                    problems.add(
                        "E_CONFIG_KEY",
                        f"'{name}'{did_you_mean(name, known)} is no key of {section} ({where}); "
                        f"there are {first(known, 12)}.",
                    )
                elif detail["type"] == "missing":
                    problems.add("E_CONFIG_VALUE", f"'{name}' is missing from {section} ({where}).")
                else:
                    value = repr(detail["input"])
                    shown = value if len(value) <= 60 else value[:57] + "..."
                    reason = detail["msg"][:1].lower() + detail["msg"][1:]
                    what = f"{dotted(location)} = {shown}: " if location else ""
                    problems.add("E_CONFIG_VALUE", f"{what}{reason} ({where}).")
        raise


def to_toml(config: BaseModel | Mapping[str, Any]) -> str:
    """The TOML text of a configuration; reading it back gives an equal one. Entries that are `None` are left out.

    **Raises:** `E_CONFIG_VALUE` for values that TOML cannot hold.
    """
    data = config.model_dump(exclude_none=True) if isinstance(config, BaseModel) else dict(config)
    try:
        return tomli_w.dumps(data)
    except (TypeError, ValueError) as error:
        raise PinnsimError.of("E_CONFIG_VALUE", f"the configuration cannot be written as TOML: {error}.") from error


def write_config(path: str | Path, config: BaseModel | Mapping[str, Any]) -> None:
    """Write a configuration file, atomically. **Raises:** `E_CONFIG_VALUE`, `E_DISK`."""
    text = to_toml(config)
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode())


def dotted(location: Location) -> str:
    """A place in a configuration as its reader would write it: `edges[3].sign`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location).lstrip(".")


def _without_tags(location: Location, data: Any) -> Location:
    """A place as the file has it: pydantic adds the tag of a union's member, which is no key of the file."""
    kept: list[int | str] = []
    for step in location[:-1]:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            continue
        kept.append(step)
    return (*kept, *location[-1:])


def known_keys(model: type[BaseModel], location: Location) -> list[str]:
    """The keys that a model knows at a place, in order; steps that are no fields (positions, tags of unions) stay."""
    at = [model]
    for step in location:
        # The tag of a union's member is the only value that the member allows for some field.
        tagged = [
            here for here in at if any(get_args(field.annotation) == (step,) for field in here.model_fields.values())
        ]
        fields = [here.model_fields[step] for here in at if isinstance(step, str) and step in here.model_fields]
        at = [kind for field in fields for kind in _models(field.annotation)] or tagged or at
    return list(dict.fromkeys(key for here in at for key in here.model_fields))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def line_of(text: str, location: Location) -> int | None:
    """The line (from 1) at which a place of a TOML text is set, or that of the nearest table around it."""
    best, depth = None, 0
    for number, place in _places(text):
        shared = 0
        while shared < min(len(place), len(location)) and place[shared] == location[shared]:
            shared += 1
        if shared > depth:
            best, depth = number, shared
    return best


def _places(text: str) -> Iterator[tuple[int, Location]]:
    """Every line that opens a table or sets a key, with its place. Lines inside multi-line values may look like one
    more; the first line that fits is taken, so that this matters little."""
    table: Location = ()
    counts: dict[Location, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if heading := _HEADING.match(line):
            table = ()
            keys = _keys(heading[2])
            for position, key in enumerate(keys, start=1):
                table = (*table, key)
                if heading[1] == "[[" and position == len(keys):
                    counts[table] = counts.get(table, -1) + 1
                if table in counts:
                    table = (*table, counts[table])
            yield number, table
        elif entry := _ENTRY.match(line):
            yield number, (*table, *_keys(entry[1]))


def _keys(text: str) -> list[str]:
    try:
        node: Any = tomllib.loads(f"{text} = 0")
    except tomllib.TOMLDecodeError:
        return []
    keys = []
    while isinstance(node, dict):
        keys.append(next(iter(node)))
        node = node[keys[-1]]
    return keys

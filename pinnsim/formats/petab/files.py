"""The files of a PEtab problem, as strangers may have written them: a bounded YAML without tags or aliases, tables of
bounded size, and no file outside the problem's own folder.

Cells stay text until something asks for a number, so that no name is taken for one.
"""

import dataclasses
import importlib.util
import io
import math
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from pinnsim.errors import PinnsimError, Problems, did_you_mean

_PLAIN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "null")}


@dataclasses.dataclass(frozen=True)
class TableLimits:
    """What is read: bytes of the YAML file (`grouping`) and its `depth`; bytes of a table (`size`), its `rows` and
    `columns`; number of `files` in all."""

    grouping: int = 200_000
    depth: int = 12
    size: int = 50_000_000
    rows: int = 500_000
    columns: int = 2_000
    files: int = 100


TABLE_LIMITS = TableLimits()


def read_grouping(path: Path, limits: TableLimits = TABLE_LIMITS) -> dict[str, Any]:
    """The contents of a problem's YAML file.

    **Raises** `E_CONFIG_FILE`, `E_SIZE`, `E_PETAB_INVALID` for tags, aliases, and what is no mapping;
    `E_EXTRA_MISSING` without PyYAML.
    """
    if importlib.util.find_spec("yaml") is None:
        raise PinnsimError.of("E_EXTRA_MISSING", "This needs the package PyYAML: pip install 'pinnsim[petab]'.")
    import yaml

    text = _text(path, limits.grouping)
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise _invalid(path, event.start_mark.line, "has an alias ('*'); write it out")
            tag = getattr(event, "tag", None)
            if tag not in (None, "!") and tag not in _PLAIN_TAGS:
                raise _invalid(path, event.start_mark.line, f"has the tag '{tag}'; only plain values are read")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > limits.depth:
                raise _invalid(path, event.start_mark.line, f"is nested more than {limits.depth} deep")
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0)
        raise _invalid(path, line, f"is no YAML ({getattr(error, 'problem', 'not read')})") from error
    except ValueError as error:
        # Dates and numbers that only look like ones.
        raise PinnsimError.of("E_PETAB_INVALID", f"'{path}' has a value that cannot be read: {error}.") from error
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise PinnsimError.of("E_PETAB_INVALID", f"'{path}' is no mapping of names; it must list a problem's files.")
    return found


def _invalid(path: Path, line: int, what: str) -> PinnsimError:
    return PinnsimError.of("E_PETAB_INVALID", f"'{path}', line {line + 1}, {what}.")


def _text(path: Path, largest: int) -> str:
    try:
        size = path.stat().st_size
        if size > largest:
            raise PinnsimError.of(
                "E_SIZE", f"'{path}' has {size} bytes, limit {largest}; pass limits= with more, or split the file."
            )
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise PinnsimError.of("E_CONFIG_FILE", f"'{path}' cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise PinnsimError.of("E_PETAB_INVALID", f"'{path}' is not UTF-8 text (byte {error.start}).") from error


def inside(folder: Path, name: object) -> Path:
    """A file that a problem names, within the problem's folder. **Raises** `E_PETAB_INVALID` for any other place."""
    if not isinstance(name, str) or not name.strip():
        raise PinnsimError.of("E_PETAB_INVALID", f"A file name is {name!r}; it must be text.")
    if "://" in name or name.startswith(("file:", "~")) or "\x00" in name:
        raise PinnsimError.of("E_PETAB_INVALID", f"'{name}' is an address; only files beside the problem are read.")
    home = folder.resolve()
    place = (home / name).resolve()
    # Links and `..` are followed before the comparison.
    if not place.is_relative_to(home):
        raise PinnsimError.of("E_PETAB_INVALID", f"'{name}' lies outside the problem's folder; move it there.")
    return place


def read_tables(
    folder: Path, names: list[Any], needed: tuple[str, ...], problems: Problems, limits: TableLimits = TABLE_LIMITS
) -> pd.DataFrame:
    """Tables of one kind, one below the other; all cells are text, '' where there is nothing. A column `_where` says
    the file and line."""
    parts = []
    for name in names:
        part = problems.attempt(partial(_table, folder, name, limits))
        if part is None:
            continue
        lacking = [column for column in needed if column not in part.columns]
        for column in lacking:
            problems.add(
                "E_PETAB_INVALID", f"'{name}' has no column '{column}'{did_you_mean(column, part.columns)}; add it."
            )
        if not lacking:
            parts.append(part)
    if not parts:
        return pd.DataFrame({column: pd.Series(dtype=str) for column in (*needed, "_where")})
    return pd.concat(parts, ignore_index=True).fillna("")


def _table(folder: Path, name: object, limits: TableLimits) -> pd.DataFrame:
    text = _text(inside(folder, name), limits.size)
    head = text.partition("\n")[0].split("\t")
    rows = text.count("\n") + 1
    if len(head) > limits.columns or rows > limits.rows:
        raise PinnsimError.of(
            "E_SIZE", f"'{name}' has {rows} rows and {len(head)} columns, limit {limits.rows} and {limits.columns}."
        )
    if len(set(head)) < len(head):
        raise PinnsimError.of("E_PETAB_INVALID", f"'{name}' has a column twice; name each once.")
    try:
        found = pd.read_csv(io.StringIO(text), sep="\t", dtype=str, keep_default_na=False, index_col=False)
    except (ValueError, pd.errors.ParserError) as error:
        raise PinnsimError.of("E_PETAB_INVALID", f"'{name}' is no table with tabs: {error}.") from error
    found.columns = [str(column).strip() for column in found.columns]
    found = found.fillna("").map(str.strip)
    found["_where"] = [f"{name}, line {k + 2}" for k in range(len(found))]
    # A line of separators only is no row.
    return found[(found.drop(columns="_where") != "").any(axis=1)]


def number_of(text: str) -> float | None:
    """A cell as a number, or `None`; 'inf' and '-inf' are numbers, 'nan' and names are not."""
    try:
        value = float(text)
    except ValueError:
        return None
    # Python reads '1_000' and non-Latin digits; a table means neither.
    return None if math.isnan(value) or "_" in text or not text.isascii() else value

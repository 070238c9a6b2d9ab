"""Tables as text: one reader for every table a user hands in, which changes nothing.

Spreadsheet habits destroy biology: a reader that guesses types turns the gene `NA` into a missing value, `MARCH1`
aside, and renames a repeated column `TBX5` to `TBX5.1`. So a file is read as text, cell by cell, and each column is
turned into numbers only by whoever asked for numbers, through `numbers`, which says which rows were not numbers. The
index of the frame is the line of the file minus 2 (a header, counted from one), so that messages can name the line.

Where commas are decimal marks, spreadsheets separate columns by semicolons. Both are read off the file: the separator
from its header, the mark from a column's numbers.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from pinnsim.errors import PinnsimError, Problems, closest, did_you_mean, first

_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "-nan"})
_WITH_COMMA = re.compile(r"\s*[-+]?\d*,\d+(?:[eE][-+]?\d+)?\s*")
_WITH_POINT = re.compile(r"\s*[-+]?\d*\.\d+(?:[eE][-+]?\d+)?\s*")
_SHEETS = (".xlsx", ".xls", ".ods", ".numbers")


def read_table(table: str | Path | pd.DataFrame) -> pd.DataFrame:
    """A table as a frame, with repeated columns kept as they are.

    **Arguments:** `table`, a path of a `.csv` file (commas, or semicolons where its header has more of them) or of a
    `.tsv`, `.txt` or `.tab` file (tabs), in UTF-8, also compressed (`.csv.gz`); or a frame, which is returned as it is,
    apart from a plain row index.

    **Returns:** a frame; every cell of a file is text. Blank lines are dropped without renumbering the others. Between
    semicolons a number such as 0,5 becomes 0.5, unless its column has numbers with a point too.

    **Raises:** `E_DATA_FILE` if the file is absent, empty or no table.
    """
    if isinstance(table, pd.DataFrame):
        return table.reset_index(drop=True)
    path = Path(table)
    if path.is_dir():
        raise PinnsimError.of("E_DATA_FILE", f"'{path}' is a folder; give the path of a .csv or .tsv table in it.")
    if not path.is_file():
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = closest(path.name, beside)
        hint = f" (did you mean '{near}'?)" if near else ""
        raise PinnsimError.of("E_DATA_FILE", f"no file '{path}'{hint}; give the path of a .csv or .tsv table.")
    if path.suffix.lower() in _SHEETS:
        raise PinnsimError.of("E_DATA_FILE", f"'{path}' is a spreadsheet; save its sheet as CSV and give that file.")
    tabs = any(suffix in (".tsv", ".txt", ".tab") for suffix in path.suffixes)
    try:
        separator = "\t" if tabs else _separator(path)
        cells = _cells(path, separator)
    except UnicodeDecodeError as error:
        byte = f"byte 0x{error.object[error.start]:02x}"
        raise PinnsimError.of(
            "E_DATA_FILE",
            f"'{path}' is not text in UTF-8 ({byte}); save it as 'CSV UTF-8'.",
        ) from error
    except (ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0].removeprefix("Error tokenizing data. C error: ").rstrip(".")
        raise PinnsimError.of("E_DATA_FILE", f"'{path}' cannot be read as a table: {reason}.") from error
    header = [str(cell).strip().lstrip("\ufeff") for cell in cells.iloc[0]]
    body = cells.iloc[1:].reset_index(drop=True).set_axis(header, axis=1)
    if separator == ";":
        body = _with_points(body)
    return body[(body != "").any(axis=1)]


def _cells(path: Path, separator: str, rows: int | None = None) -> pd.DataFrame:
    return pd.read_csv(
        path, sep=separator, header=None, nrows=rows, dtype=str, keep_default_na=False, skip_blank_lines=False
    )


def _separator(path: Path) -> str:
    """Of the columns of a `.csv` file: what its header has more of."""
    header = _cells(path, ",", rows=1).iloc[0].tolist()
    return ";" if sum(cell.count(";") for cell in header) > len(header) - 1 else ","


def _with_points(body: pd.DataFrame) -> pd.DataFrame:
    """Numbers with decimal points, in every column whose numbers have none."""
    columns = []
    for place in range(body.shape[1]):
        cells = body.iloc[:, place]
        comma = cells.str.fullmatch(_WITH_COMMA)
        clear = not cells.str.fullmatch(_WITH_POINT).any()
        columns.append(cells.where(~comma, cells.str.replace(",", ".")) if clear else cells)
    return pd.concat(columns, axis=1)


def pick(frame: pd.DataFrame, aliases: tuple[str, ...]) -> str | None:
    """The first of `aliases` that is a column of `frame`, whatever its case, or None."""
    by_lower = {str(column).strip().lower(): column for column in reversed(list(frame.columns))}
    return next((by_lower[alias] for alias in aliases if alias in by_lower), None)


def need_columns(
    problems: Problems, frame: pd.DataFrame, wanted: dict[str, str], what: str, nameable: bool = True
) -> bool:
    """Adds `E_COLUMN_MISSING` for every wanted column (role -> name) that `frame` lacks or has twice; says whether each
    is there once.

    `nameable`: the caller takes the names of columns as arguments, so that the remedy is to pass one.
    """
    columns = [str(column) for column in frame.columns]
    absent = {role: name for role, name in wanted.items() if name not in frame.columns}
    for role, name in absent.items():
        problems.add(
            "E_COLUMN_MISSING",
            f"{what} has no column '{name}'{did_you_mean(name, columns)}; its columns are {first(columns, 8)}. "
            + (f"Pass {role}='<column>'." if nameable else f"Name the {role} column '{name}'."),
        )
    twice = [name for name in dict.fromkeys(wanted.values()) if list(frame.columns).count(name) > 1]
    if twice:
        problems.add("E_COLUMN_MISSING", f"{what} has several columns named {first(twice)}; rename all but one.")
    return not absent and not twice


def row_name(index: object, from_file: bool) -> str:
    """How a message names a row: the line of the file, or the row of the frame."""
    return f"line {int(str(index)) + 2}" if from_file else f"row {index}"


def blank(column: pd.Series) -> np.ndarray:
    """Which cells of a column say that there is no value: empty, `NA`, `NaN`, `null` and the like."""
    cells = column.tolist()
    return np.array([pd.isna(cell) or str(cell).strip().lower() in _MISSING for cell in cells], dtype=bool)


def numbers(problems: Problems, column: pd.Series, what: str, from_file: bool, code: str = "E_DATA_TYPE") -> np.ndarray:
    """A column as float64, correctly rounded; blank cells and `NA`, `NaN`, `null` are NaN.

    Adds one problem (`code`) with the count and the first three rows if other cells are not numbers; those are NaN in
    the result.
    """
    if pd.api.types.is_float_dtype(column) or pd.api.types.is_integer_dtype(column):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    out = np.full(len(column), np.nan)
    bad: list[str] = []
    for i, (index, cell) in enumerate(zip(column.index, column.tolist(), strict=True)):
        text = "" if cell is None or cell is pd.NA else str(cell).strip()
        if text.lower() in _MISSING:
            continue
        try:
            # float() accepts 1_000 as 1000; in a table that is a name or a mistake.
            out[i] = float(text) if "_" not in text and not isinstance(cell, bool) else float("not a number")
        except ValueError:
            bad.append(f"{row_name(index, from_file)} = '{text}'")
    if bad:
        commas = any("," in text for text in bad)
        remedy = " Write decimals with points, and no separators of thousands." if commas else ""
        problems.add(
            code, f"{len(bad)} of {len(column)} entries of {what} are not numbers (first: {first(bad)}).{remedy}"
        )
    return out

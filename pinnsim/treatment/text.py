"""The text form of treatments, for command lines and tables. Reading and writing are inverse to each other.

    GATA1=0, SPI1*2@24:48, signal(malate)=1@0:10, activity(MYC)*0{dose=1;ic50=0.3}@0:

Grammar (whitelisted, nothing is evaluated):

    treatment := "" | "none" | edit ("," edit)*
    edit      := target op number [ "{" key=number (";" key=number)* "}" ] [ "@" [number] ":" [number] ]
    target    := GENE | field "(" NAME ")"        op := "=" | "*"
    field     := transcription splicing translation decay protein_decay product_decay rnai activity reaction edge
                 (all with *) | signal drive hold (with =)
    key       := dose ka ke ic50 hill

`GENE=0` knocks out, `GENE*f` multiplies a gene's expression by f. Names with other characters than letters, digits and
`_ . - + / : >` are put in single quotes, a quote inside them is doubled.
"""

import dataclasses
import math
import re

from pinnsim.errors import Problems, did_you_mean
from pinnsim.treatment.edit import DOSE_KEYS, MULTIPLIED, SET, Dose, Edit, Number

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?inf|nan"
_NAME = r"[A-Za-z0-9_.+/:>-]+"
_QUOTED = r"'(?:[^']|'')*'"
_EDIT = re.compile(
    rf"""\s*(?:(?P<field>[A-Za-z_]+)\(\s*(?P<inside>{_QUOTED}|{_NAME})\s*\)|(?P<gene>{_QUOTED}|{_NAME}))
    \s*(?P<op>[=*])\s*(?P<value>{_NUMBER})\s*
    (?:\{{(?P<dose>[^}}]*)\}})?\s*(?:@\s*(?P<start>{_NUMBER})?\s*:\s*(?P<stop>{_NUMBER})?)?\s*""",
    re.VERBOSE,
)


def write_edit(edit: Edit) -> str:
    """The text of an edit; what has its default value is left out."""
    name = edit.name if re.fullmatch(_NAME, edit.name) else "'" + edit.name.replace("'", "''") + "'"
    target = name if edit.field == "gene" else f"{edit.field}({name})"
    op = "=" if edit.field in SET or (edit.field == "gene" and edit.value == 0) else "*"
    settings = [(field.name, getattr(edit.dose, field.name), field.default) for field in dataclasses.fields(Dose)]
    given = [f"{key}={write_number(value)}" for key, value, default in settings if value != default]
    dose = "{" + ";".join(given) + "}" if given else ""
    start = "" if edit.start == -math.inf else write_number(edit.start)
    stop = "" if edit.stop == math.inf else write_number(edit.stop)
    timing = f"@{start}:{stop}" if start or stop else ""
    return f"{target}{op}{write_number(edit.value)}{dose}{timing}"


def write_number(value: Number) -> str:
    """The shortest text that reads back as the same number."""
    whole = math.isfinite(value) and value == int(value) and abs(value) < 1e15
    return str(int(value)) if whole else repr(float(value))


def read_edits(text: str, problems: Problems) -> list[Edit]:
    """Edits of a treatment's text; notes `E_PERTURB_TEXT` with the place for what lies outside the grammar."""
    if text.strip() in ("", "none"):
        return []
    edits = [_read_edit(item, problems) for item in _split(text)]
    return [edit for edit in edits if edit is not None]


def _split(text: str) -> list[str]:
    """Items between top-level commas: commas inside quotes and braces belong to the item."""
    items, depth, quoted, current = [], 0, False, ""
    for character in text:
        quoted ^= character == "'"
        if not quoted:
            depth += (character == "{") - (character == "}")
        if character == "," and not quoted and depth == 0:
            items.append(current)
            current = ""
        else:
            current += character
    return [*items, current]


def _read_edit(item: str, problems: Problems) -> Edit | None:
    match, shown = _EDIT.fullmatch(item), item.strip()
    if match is None:
        message = f"Cannot read '{shown}' as an edit; write for example GATA1=0, SPI1*2@24:48 or signal(malate)=1@0:10."
        name = re.split(r"[=*@]", shown)[0].strip()
        if name and name != shown and not re.fullmatch(_NAME, name) and not set(name) & set("'()"):
            message += f" A name with such characters stands in single quotes: '{name}'=0."
        problems.add("E_PERTURB_TEXT", message)
        return None
    field, name = match["field"] or "gene", match["inside"] or match["gene"]
    if name.startswith("'"):
        name = name[1:-1].replace("''", "'")
    value, op = float(match["value"]), match["op"]
    # "gene" is the field of a bare name, never written.
    if field not in MULTIPLIED + SET or match["field"] == "gene":
        near = did_you_mean(field, MULTIPLIED[1:] + SET)
        problems.add("E_PERTURB_TEXT", f"Unknown field '{field}' in '{shown}'{near}.")
        return None
    if (op == "*") != (field in MULTIPLIED) and not (field == "gene" and op == "=" and value == 0):
        right = f"{field}({name}){'=' if field in SET else '*'}{write_number(value)}"
        right = f"{name}=0 or {name}*2" if field == "gene" else right
        problems.add("E_PERTURB_TEXT", f"'{shown}': write {right}; to clamp an amount use hold(NAME)=level.")
        return None
    dose = _read_dose(match["dose"], shown, problems)
    start = -math.inf if match["start"] is None else float(match["start"])
    stop = math.inf if match["stop"] is None else float(match["stop"])
    return Edit(field, name, value, start, stop, dose)


def _read_dose(text: str | None, shown: str, problems: Problems) -> Dose:
    given: dict[str, float] = {}
    for pair in filter(None, (part.strip() for part in (text or "").split(";"))):
        key, _, number = (part.strip() for part in pair.partition("="))
        if key in given:
            problems.add("E_PERTURB_TEXT", f"'{shown}' sets {key} more than once; give it once.")
        elif key in DOSE_KEYS and re.fullmatch(_NUMBER, number):
            given[key] = float(number)
        else:
            problems.add(
                "E_PERTURB_TEXT",
                f"'{pair}' in '{shown}' is not a dose setting{did_you_mean(key, DOSE_KEYS)}; known: "
                f"{', '.join(DOSE_KEYS)}, as key=number with ';' between.",
            )
    return Dose(**given)

"""A treatment: what the lab does to the cells, in names and times; resolved to arrays (`Perturbation`) by a model's table.

Builders read like the lab (`knockout("GATA1")`, `knockdown("SPI1", efficiency=0.8)`), `a + b` combines, and the text form for command lines and tables round-trips:

    GATA1=0, SPI1*2@24:48, signal(malate)=1@0:10, drug: activity(MYC)*0{dose=1;ic50=0.3}@0:

Grammar (whitelisted, nothing is evaluated):

    treatment := "" | edit ("," edit)*
    edit      := target op number [ "{" key=number (";" key=number)* "}" ] [ "@" [number] ":" [number] ]
    target    := GENE | field "(" NAME ")"        op := "=" | "*"
    field     := transcription splicing translation decay protein_decay product_decay rnai activity reaction edge  (all with *)
                 | signal drive hold (with =)
    key       := dose ka ke ic50 hill

`GENE=0` knocks out, `GENE*f` multiplies a gene's expression by f. Names with other characters than letters, digits and `_ . - + / : >` are put in single quotes.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Sequence

from pinnsim.errors import PinnsimError, Problems, closest
from pinnsim.perturbation import Perturbation, neutral_arrays
from pinnsim.table import Table

_FACTORS = ("transcription", "splicing", "translation", "decay", "protein_decay")
_MULTIPLIED = ("gene", *_FACTORS, "product_decay", "rnai", "activity", "reaction", "edge")
_SET = ("signal", "drive", "hold")
_DOSE_KEYS = ("dose", "ka", "ke", "ic50", "hill")
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?inf|nan"
_NAME = r"[A-Za-z0-9_.+/:>-]+"
_EDIT = re.compile(
    rf"""\s*(?:(?P<field>[a-z_]+)\(\s*(?:'(?P<quoted_inside>[^']*)'|(?P<inside>{_NAME}))\s*\)|'(?P<quoted>[^']*)'|(?P<gene>{_NAME}?))
    \s*(?P<op>[=*])\s*(?P<value>{_NUMBER})\s*
    (?:\{{(?P<dose>[^}}]*)\}})?\s*(?:@\s*(?P<start>{_NUMBER})?\s*:\s*(?P<stop>{_NUMBER})?)?\s*""",
    re.VERBOSE,
)


@dataclasses.dataclass(frozen=True)
class Dose:
    """One-compartment dose curve and Hill response of an edit (see `pinnsim.perturbation`).

    **Arguments:** `dose` (concentration), `ka`, `ke` (absorption and elimination, per time unit), `ic50` (same unit as `dose`), `hill` (exponent).
    """

    dose: float = 1.0
    ka: float = math.inf
    ke: float = 0.0
    ic50: float = 0.0
    hill: float = 1.0


@dataclasses.dataclass(frozen=True)
class Edit:
    """One named edit with its timing. `field` is one of the grammar's fields, or "gene" for a gene's expression as a whole."""

    field: str
    name: str
    value: float
    start: float = -math.inf
    stop: float = math.inf
    dose: Dose = Dose()

    def __str__(self) -> str:
        name = self.name if re.fullmatch(_NAME, self.name) else f"'{self.name}'"
        target = name if self.field == "gene" else f"{self.field}({name})"
        op = "=" if self.field in _SET or (self.field == "gene" and self.value == 0) else "*"
        given = {f.name: getattr(self.dose, f.name) for f in dataclasses.fields(Dose) if getattr(self.dose, f.name) != f.default}
        dose = "{" + ";".join(f"{key}={_short(value)}" for key, value in given.items()) + "}" if given else ""
        start = "" if self.start == -math.inf else _short(self.start)
        stop = "" if self.stop == math.inf else _short(self.stop)
        timing = f"@{start}:{stop}" if start or stop else ""
        return f"{target}{op}{_short(self.value)}{dose}{timing}"


@dataclasses.dataclass(frozen=True)
class Treatment:
    """A combination of named edits. Immutable; `a + b` combines; `str()` and `Treatment.parse` are inverse to each other."""

    edits: tuple[Edit, ...] = ()

    def __add__(self, other: "Treatment") -> "Treatment":
        return Treatment(self.edits + other.edits)

    def __str__(self) -> str:
        return ", ".join(str(edit) for edit in self.edits) or "none"

    def delay(self, time: float) -> "Treatment":
        """The same treatment, `time` later. Edits that act since ever stay."""
        return Treatment(tuple(dataclasses.replace(e, start=e.start + time, stop=e.stop + time) for e in self.edits))

    @staticmethod
    def parse(text: str) -> "Treatment":
        """Reads the text form. **Raises** `E_PERTURB_TEXT` with the place for text outside the grammar; all problems at once."""
        if text.strip() in ("", "none"):
            return NONE
        edits = []
        with Problems() as problems:
            for item in _split(text):
                edit = _parse_edit(item, problems)
                if edit is not None:
                    edits.append(edit)
            _check_edits(edits, problems)
        return Treatment(tuple(edits))

    def check(self, table: Table) -> None:
        """Raises all problems of this treatment for a model: unknown names, doses, conflicts."""
        with Problems() as problems:
            _check_edits(self.edits, problems)
            for edit in self.edits:
                _locate(edit, table, problems)

    def check_span(self, first: float, last: float) -> None:
        """Raises `E_PERTURB_TIME` for edits that act only outside the simulated span `[first, last]`."""
        with Problems() as problems:
            for edit in self.edits:
                if edit.start > last or edit.stop <= first:
                    problems.add(
                        "E_PERTURB_TIME",
                        f"'{edit}' acts outside the simulated times [{_short(first)}, {_short(last)}]; move its start and stop, or simulate longer.",
                    )

    def resolve(self, table: Table, phases: int | None = None) -> Perturbation:
        """Arrays for a model: edits with the same timing and dose curve share a phase.

        **Raises** `E_PERTURB_GENE` (a name or rate that the model does not have), `E_DOSE_NEGATIVE`, `E_PERTURB_CONFLICT`, `E_PERTURB_TIME`; all problems at once.
        """
        self.check(table)
        moments = list(dict.fromkeys((e.start, e.stop, e.dose) for e in self.edits))
        arrays = neutral_arrays(table, max(len(moments), 1))
        for phase, (start, stop, dose) in enumerate(moments):
            arrays["start"][phase], arrays["stop"][phase] = start, stop
            for key in _DOSE_KEYS:
                arrays[key][phase] = getattr(dose, key)
        for edit in self.edits:
            phase = moments.index((edit.start, edit.stop, edit.dose))
            for array, position, value in _locate(edit, table, Problems()):
                if array in ("drive", "signal"):
                    arrays[array][phase, position] += value
                elif array == "level":
                    arrays["hold"][phase, position], arrays["level"][phase, position] = 1.0, value
                else:
                    arrays[array][phase, position] *= value
        # Device arrays in the session's precision; numpy's float64 would be a silent upcast in a float32 session.
        resolved = Perturbation.none(table, max(len(moments), 1))
        resolved = Perturbation(**{name: _like(getattr(resolved, name), value) for name, value in arrays.items()})
        return resolved.pad(phases) if phases is not None and phases > resolved.phases else resolved


NONE = Treatment(())


def knockout(gene: str, *, start: float = -math.inf, stop: float = math.inf) -> Treatment:
    """No expression of `gene` (text: `GENE=0`). A hidden activity of its product is removed with it."""
    return _single("gene", gene, 0.0, start, stop)


def knockdown(gene: str, *, efficiency: float, mode: str = "crispri", start: float = -math.inf, stop: float = math.inf) -> Treatment:
    """Expression reduced by the fraction `efficiency` in [0, 1]: `mode="crispri"` at transcription, `mode="rnai"` by faster decay of the RNA."""
    if not 0 <= efficiency <= 1:
        raise PinnsimError.of("E_DOSE_NEGATIVE", f"Argument `efficiency` must be in [0, 1], but is {efficiency}; 0.8 leaves 20 % of the expression.")
    if mode not in ("crispri", "rnai"):
        raise PinnsimError.of("E_USAGE", f"Argument `mode` must be 'crispri' or 'rnai', but is '{mode}'.")
    if mode == "rnai" and efficiency == 1:
        raise PinnsimError.of("E_DOSE_NEGATIVE", "Argument `efficiency` must be below 1 for mode='rnai' (infinitely fast decay); use knockout(...).")
    return _single("gene" if mode == "crispri" else "rnai", gene, round(1.0 - efficiency, 12), start, stop)


def overexpress(gene: str, *, fold: float, start: float = -math.inf, stop: float = math.inf) -> Treatment:
    """Expression multiplied by `fold` (text: `GENE*fold`)."""
    return _single("gene", gene, fold, start, stop)


def drug(
    target: str, *, dose: float, ic50: float, action: str = "inhibit", fold: float = 10.0, hill: float = 1.0, ka: float = math.inf, ke: float = 0.0,
    start: float = -math.inf, stop: float = math.inf,
) -> Treatment:  # fmt: skip
    """A drug against the product of `target`: `action="inhibit"` removes its activity, `"degrade"` speeds its decay up to `fold` times, at occupancy
    `C^hill / (C^hill + ic50^hill)` with C from `dose`, `ka`, `ke` (one compartment)."""
    if action not in ("inhibit", "degrade"):
        raise PinnsimError.of("E_USAGE", f"Argument `action` must be 'inhibit' or 'degrade', but is '{action}'.")
    curve = Dose(dose, ka, ke, ic50, hill)
    field, value = ("activity", 0.0) if action == "inhibit" else ("product_decay", fold)
    return _single(field, target, value, start, stop, curve)


def variant(gene: str, *, start: float = -math.inf, stop: float = math.inf, **factors: float) -> Treatment:
    """A sequence variant that changes named rates of `gene`, for example `variant("TP53", translation=0.7, decay=2.0)`."""
    allowed = (*_FACTORS, "activity")
    with Problems() as problems:
        for kind in factors:
            if kind not in allowed:
                problems.add("E_PERTURB_GENE", f"variant('{gene}', {kind}=...): unknown rate '{kind}'; known: {', '.join(allowed)}.")
    return sum((_single(kind, gene, value, start, stop) for kind, value in factors.items()), NONE)


def signal(name: str, value: float, *, start: float = -math.inf, stop: float = math.inf) -> Treatment:
    """External input `name` raised by `value` (text: `signal(name)=value`)."""
    return _single("signal", name, value, start, stop)


def drive(name: str, rate: float, *, start: float = -math.inf, stop: float = math.inf) -> Treatment:
    """Added production of a species (or of a gene's first layer), amount per time."""
    return _single("drive", name, rate, start, stop)


def hold(name: str, level: float, *, start: float = -math.inf, stop: float = math.inf) -> Treatment:
    """Species (or a gene's last layer) clamped at `level` while the edit lasts, then let go."""
    return _single("hold", name, level, start, stop)


def as_treatment(given: "Treatment | str") -> Treatment:
    """A treatment from itself or from its text form."""
    return Treatment.parse(given) if isinstance(given, str) else given


def _single(field: str, name: str, value: float, start: float, stop: float, dose: Dose | None = None) -> Treatment:
    edit = Edit(field, name, float(value), float(start), float(stop), dose or Dose())
    with Problems() as problems:
        _check_edits([edit], problems)
    return Treatment((edit,))


def _short(value: float) -> str:
    """The shortest text that reads back as the same number."""
    return str(int(value)) if math.isfinite(value) and value == int(value) and abs(value) < 1e15 else repr(float(value))


def _like(array, values):
    return array.at[...].set(values.astype(array.dtype))


def _split(text: str) -> list[str]:
    """Items between top-level commas: commas inside quotes and braces belong to the item."""
    items, depth, quoted, current = [], 0, False, ""
    for character in text:
        quoted ^= character == "'"
        depth += (character == "{") - (character == "}")
        if character == "," and not quoted and depth == 0:
            items.append(current)
            current = ""
        else:
            current += character
    return [*items, current]


def _parse_edit(item: str, problems: Problems) -> Edit | None:
    match = _EDIT.fullmatch(item)
    if match is None:
        problems.add("E_PERTURB_TEXT", f"Cannot read '{item.strip()}' as an edit; write for example GATA1=0, SPI1*2@24:48 or signal(malate)=1@0:10.")
        return None
    field = match["field"] or "gene"
    name = next(part for part in (match["quoted_inside"], match["inside"], match["quoted"], match["gene"]) if part is not None)
    value, op = float(match["value"]), match["op"]
    if field not in _MULTIPLIED + _SET:
        near = closest(field, _MULTIPLIED[1:] + _SET)
        problems.add("E_PERTURB_TEXT", f"Unknown field '{field}' in '{item.strip()}'" + (f" (did you mean '{near}'?)" if near else "") + ".")
        return None
    if (op == "*") != (field in _MULTIPLIED) and not (field == "gene" and op == "=" and value == 0):
        right = f"{name}=0 or {name}*2" if field == "gene" else f"{field}({name}){'=' if field in _SET else '*'}{_short(value)}"
        problems.add("E_PERTURB_TEXT", f"'{item.strip()}': write {right}; to clamp an amount use hold(NAME)=level.")
        return None
    dose = _parse_dose(match["dose"], item, problems)
    start = -math.inf if match["start"] is None else float(match["start"])
    stop = math.inf if match["stop"] is None else float(match["stop"])
    return Edit(field, name, value, start, stop, dose)


def _parse_dose(text: str | None, item: str, problems: Problems) -> Dose:
    given: dict[str, float] = {}
    for pair in filter(None, (text or "").split(";")):
        key, _, number = (part.strip() for part in pair.partition("="))
        if key in _DOSE_KEYS and re.fullmatch(_NUMBER, number):
            given[key] = float(number)
        else:
            problems.add("E_PERTURB_TEXT", f"'{pair.strip()}' in '{item.strip()}' is not a dose setting; known: {', '.join(_DOSE_KEYS)}, as key=number with ';' between.")
    return Dose(**given)


def _check_edits(edits: Sequence[Edit], problems: Problems) -> None:
    """Values, doses, times and conflicts: everything that can be checked without a model."""
    for edit in edits:
        if not (math.isfinite(edit.value) and (edit.value >= 0 or edit.field == "signal")):
            problems.add("E_DOSE_NEGATIVE", f"'{edit}' has the value {edit.value}; factors, rates and levels must be finite and >= 0.")
        for key in _DOSE_KEYS:
            value = getattr(edit.dose, key)
            if math.isnan(value) or value < 0 or (value == math.inf and key != "ka") or (key in ("hill", "ka") and value == 0):
                problems.add("E_DOSE_NEGATIVE", f"'{edit}' has {key}={value}; it must be {'positive' if key in ('hill', 'ka') else 'finite and >= 0'}.")
        if not edit.start < edit.stop:
            problems.add("E_PERTURB_TIME", f"'{edit}' stops at {edit.stop} before it starts at {edit.start}; give start < stop.")
    genes = [e for e in edits if e.field in ("gene", "transcription")]
    for i, a in enumerate(genes):
        for b in genes[i + 1 :]:
            overlap = a.start < b.stop and b.start < a.stop
            if a.name == b.name and overlap and (a.value == 0) != (b.value == 0) and max(a.value, b.value) > 1:
                problems.add("E_PERTURB_CONFLICT", f"'{a}' and '{b}' knock out and over-express '{a.name}' at the same time; drop one, or separate their times with @start:stop.")


_Place = tuple[str, int, float]


def _locate(edit: Edit, table: Table, problems: Problems) -> list[_Place]:
    """Where an edit lands in a model's arrays: (array, position, value) for each number that it changes."""
    if edit.field in ("signal", "edge", "reaction"):
        array, what = {"signal": ("signal", "inputs"), "edge": ("edge_factor", "edges"), "reaction": ("factor", "reactions")}[edit.field]
        position = table.position(what, edit.name)
        if position is None:
            problems.add("E_PERTURB_GENE", table.unknown(what, edit.name))
            return []
        return [(array, position, edit.value)]
    if edit.field in ("drive", "hold", "activity") and (position := table.position("species", edit.name)) is not None:
        return [({"drive": "drive", "hold": "level", "activity": "activity"}[edit.field], position, edit.value)]
    if table.position("genes", edit.name) is None and table.position("regulators", edit.name) is None:
        problems.add("E_PERTURB_GENE", table.unknown("genes", edit.name))
        return []
    places = _LOCATORS[edit.field](edit, table)
    if not places:
        problems.add("E_PERTURB_GENE", f"'{edit}': this model has no such rate for '{edit.name}'; its reactions of that gene: {', '.join(_reactions(edit.name, table)) or 'none'}.")
    return places


def _reactions(gene: str, table: Table) -> list[str]:
    return [name for name in table.reactions if name.endswith(f":{gene}")]


def _factor(kind: str, edit: Edit, table: Table, value: float) -> list[_Place]:
    position = table.position("reactions", f"{kind}:{edit.name}")
    return [] if position is None else [("factor", position, value)]


def _product(gene: str, table: Table) -> int | None:
    """The species by which a gene acts: its hidden activity, else its last layer."""
    found = (table.position("species", f"{gene}.{layer}") for layer in ("activity", "protein", "spliced", "mrna"))
    return next((position for position in found if position is not None), None)


def _hidden(edit: Edit, table: Table, value: float) -> list[_Place]:
    position = table.position("species", f"{edit.name}.activity")
    return [] if position is None else [("activity", position, value)]


def _activity(edit: Edit, table: Table) -> list[_Place]:
    position = _product(edit.name, table)
    return [] if position is None else [("activity", position, edit.value)]


def _product_decay(edit: Edit, table: Table) -> list[_Place]:
    return _factor("protein_decay", edit, table, edit.value) or _factor("decay", edit, table, edit.value)


def _layer(array: str, layers: tuple[str, ...]) -> Callable[[Edit, Table], list[_Place]]:
    def locate(edit: Edit, table: Table) -> list[_Place]:
        found = (table.position("species", f"{edit.name}.{layer}") for layer in layers)
        position = next((p for p in found if p is not None), None)
        return [] if position is None else [(array, position, edit.value)]

    return locate


def _named_factor(kind: str) -> Callable[[Edit, Table], list[_Place]]:
    return lambda edit, table: _factor(kind, edit, table, edit.value)


_LOCATORS: dict[str, Callable[[Edit, Table], list[_Place]]] = {
    **{kind: _named_factor(kind) for kind in _FACTORS},
    "gene": lambda edit, table: _factor("transcription", edit, table, edit.value) + _hidden(edit, table, edit.value),
    "rnai": lambda edit, table: _factor("decay", edit, table, 1.0 / max(edit.value, 1e-300)) + _hidden(edit, table, edit.value),
    "product_decay": _product_decay,
    "activity": _activity,
    "drive": _layer("drive", ("unspliced", "mrna")),
    "hold": _layer("level", ("protein", "spliced", "mrna")),
}

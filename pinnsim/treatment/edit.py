"""One named edit with its timing and dose: the word of which treatments are sentences.

What can be wrong with edits without knowing a model (values, doses, times, contradictions) is checked here.
"""

import dataclasses
import math
from collections.abc import Sequence

from pinnsim.errors import Problems

FACTORS = ("transcription", "splicing", "translation", "decay", "protein_decay")
MULTIPLIED = ("gene", *FACTORS, "product_decay", "rnai", "activity", "reaction", "edge")
SET = ("signal", "drive", "hold")
DOSE_KEYS = ("dose", "ka", "ke", "ic50", "hill")
Number = int | float  # whole numbers are welcome wherever a treatment takes a number
LOG_SCALE = (".activity", ".input")  # species whose level is a logarithm, so that it may be negative


@dataclasses.dataclass(frozen=True)
class Dose:
    """One-compartment dose curve and Hill response of an edit (see `pinnsim.perturbation`).

    **Arguments:** `dose` (concentration), `ka`, `ke` (absorption and elimination, per time unit), `ic50` (same unit as
    `dose`), `hill` (exponent).
    """

    dose: float = 1.0
    ka: float = math.inf
    ke: float = 0.0
    ic50: float = 0.0
    hill: float = 1.0


@dataclasses.dataclass(frozen=True)
class Edit:
    """One named edit. `field` is one of the grammar's fields, or "gene" for a gene's expression as a whole.

    **Arguments:** `value`: a factor, or a level for the fields in `SET`; `start`, `stop`: in the model's time unit,
    open ends infinite.
    """

    field: str
    name: str
    value: float
    start: float = -math.inf
    stop: float = math.inf
    dose: Dose = Dose()


def check_edits(edits: Sequence[Edit], problems: Problems, written: Sequence[str]) -> None:
    """Notes bad values, doses and times, and contradictions between edits. `written`: the text of each edit."""
    for edit, text in zip(edits, written, strict=True):
        _check_value(edit, text, problems)
        for key in DOSE_KEYS:
            value, positive = getattr(edit.dose, key), key in ("ka", "hill")
            if math.isnan(value) or value < 0 or (value == math.inf and key != "ka") or (positive and value == 0):
                wanted = "positive" if positive else "finite and >= 0"
                problems.add("E_DOSE_NEGATIVE", f"'{text}' has {key}={value}; it must be {wanted}.")
        if not edit.start < edit.stop:
            problems.add(
                "E_PERTURB_TIME", f"'{text}' stops at {edit.stop} before it starts at {edit.start}; give start < stop."
            )
    genes = [(e, text) for e, text in zip(edits, written, strict=True) if e.field in ("gene", "transcription")]
    for i, (a, a_text) in enumerate(genes):
        for b, b_text in genes[i + 1 :]:
            overlap = a.start < b.stop and b.start < a.stop
            if a.name == b.name and overlap and (a.value == 0) != (b.value == 0) and max(a.value, b.value) > 1:
                problems.add(
                    "E_PERTURB_CONFLICT",
                    f"'{a_text}' and '{b_text}' knock out and over-express '{a.name}' at the same time; drop one, or "
                    "separate their times with @start:stop.",
                )


def _check_value(edit: Edit, text: str, problems: Problems) -> None:
    signed = edit.field == "signal" or (edit.field in ("drive", "hold") and edit.name.endswith(LOG_SCALE))
    if not (math.isfinite(edit.value) and (edit.value >= 0 or signed)):
        wanted = "finite" if signed else "finite and >= 0"
        problems.add("E_DOSE_NEGATIVE", f"'{text}' has the value {edit.value}; it must be {wanted}.")
    elif edit.field == "rnai" and edit.value == 0:
        problems.add("E_DOSE_NEGATIVE", f"'{text}' would need infinitely fast decay; write {edit.name}=0 to knock out.")

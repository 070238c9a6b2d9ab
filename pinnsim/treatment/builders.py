"""Builders that read like the lab: `knockout("GATA1") + knockdown("SPI1", efficiency=0.8, start=24.0)`.

Each has `start` and `stop` in the model's time unit (open ends by default) and raises what `Treatment.parse` raises.
"""

import math

from pinnsim.errors import PinnsimError, Problems, did_you_mean
from pinnsim.treatment.edit import FACTORS, Dose, Edit, Number, check_edits
from pinnsim.treatment.text import write_edit
from pinnsim.treatment.treatment import NONE, Treatment


def knockout(gene: str, *, start: Number = -math.inf, stop: Number = math.inf) -> Treatment:
    """No expression of `gene` (text: `GENE=0`). A hidden activity of its product is removed with it."""
    return _single("gene", gene, 0.0, start, stop)


def knockdown(
    gene: str, *, efficiency: Number, mode: str = "crispri", start: Number = -math.inf, stop: Number = math.inf
) -> Treatment:
    """Expression reduced by the fraction `efficiency` in [0, 1]: `mode="crispri"` at transcription, `mode="rnai"` by
    faster decay of the RNA."""
    if not 0 <= efficiency <= 1:
        raise PinnsimError.of(
            "E_DOSE_NEGATIVE",
            f"Argument `efficiency` must be in [0, 1], but is {efficiency}; 0.8 leaves 20 % of the expression.",
        )
    if mode not in ("crispri", "rnai"):
        raise PinnsimError.of("E_USAGE", f"Argument `mode` must be 'crispri' or 'rnai', but is '{mode}'.")
    if mode == "rnai" and efficiency == 1:
        raise PinnsimError.of(
            "E_DOSE_NEGATIVE",
            "Argument `efficiency` must be below 1 for mode='rnai' (infinitely fast decay); use knockout(...).",
        )
    # Rounded so that 0.9 leaves 0.1, not 0.09999999999999998; a real efficiency is never known that well.
    left = round(1.0 - efficiency, 12) or 1.0 - efficiency
    return _single("gene" if mode == "crispri" else "rnai", gene, left, start, stop)


def overexpress(gene: str, *, fold: Number, start: Number = -math.inf, stop: Number = math.inf) -> Treatment:
    """Expression multiplied by `fold` (text: `GENE*fold`)."""
    return _single("gene", gene, fold, start, stop)


def drug(
    target: str,
    *,
    dose: Number,
    ic50: Number,
    action: str = "inhibit",
    fold: Number = 10.0,
    hill: Number = 1.0,
    ka: Number = math.inf,
    ke: Number = 0.0,
    start: Number = -math.inf,
    stop: Number = math.inf,
) -> Treatment:
    """A drug against the product of `target`: `action="inhibit"` removes its activity, `"degrade"` speeds its decay up
    to `fold` times, at occupancy `C^hill / (C^hill + ic50^hill)` with C from `dose`, `ka`, `ke` (one compartment)."""
    if action not in ("inhibit", "degrade"):
        raise PinnsimError.of("E_USAGE", f"Argument `action` must be 'inhibit' or 'degrade', but is '{action}'.")
    curve = Dose(float(dose), float(ka), float(ke), float(ic50), float(hill))
    field, value = ("activity", 0.0) if action == "inhibit" else ("product_decay", fold)
    return _single(field, target, value, start, stop, curve)


def variant(gene: str, *, start: Number = -math.inf, stop: Number = math.inf, **factors: Number) -> Treatment:
    """A sequence variant that changes named rates of `gene`: `variant("TP53", translation=0.7, decay=2.0)`."""
    allowed = (*FACTORS, "activity")
    with Problems() as problems:
        for kind in factors:
            if kind not in allowed:
                near = did_you_mean(kind, allowed)
                problems.add(
                    "E_PERTURB_GENE",
                    f"variant('{gene}', {kind}=...): unknown rate '{kind}'{near}; known: {', '.join(allowed)}.",
                )
    return sum((_single(kind, gene, value, start, stop) for kind, value in factors.items()), NONE)


def signal(name: str, value: Number, *, start: Number = -math.inf, stop: Number = math.inf) -> Treatment:
    """External input `name` raised by `value` (text: `signal(name)=value`)."""
    return _single("signal", name, value, start, stop)


def drive(name: str, rate: Number, *, start: Number = -math.inf, stop: Number = math.inf) -> Treatment:
    """Added production of a species (or of a gene's first layer), amount per time."""
    return _single("drive", name, rate, start, stop)


def hold(name: str, level: Number, *, start: Number = -math.inf, stop: Number = math.inf) -> Treatment:
    """Species (or a gene's last layer) clamped at `level` while the edit lasts, then let go."""
    return _single("hold", name, level, start, stop)


def _single(field: str, name: str, value: Number, start: Number, stop: Number, dose: Dose | None = None) -> Treatment:
    edit = Edit(field, name, float(value), float(start), float(stop), dose or Dose())
    with Problems() as problems:
        check_edits([edit], problems, [write_edit(edit)])
    return Treatment((edit,))

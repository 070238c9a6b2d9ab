"""Named edits with a strength each: what a search for the smallest perturbation may turn.

The strength s >= 0 of an edit is 0 where it does nothing:

    GENE*2, activity(TF)*2, ...   up:        the factor is exp(s)
    GENE*0.5, ...                 down:      the factor is exp(-s)
    GENE=0                        knock-out: has no strength to turn; it counts as s = ln 1000
    signal(x)=v, drive(x)=v       added:     the number is s v, so v is the unit
    activity(TF)*0{ic50=c; ...}   drug:      the concentration is s times the one given

Of a factor's template only the direction is read. Strengths of factors are logarithms of folds, so that a two-fold
over-expression and a knock-down to a half are equally strong. Several edits at once act as they do in any treatment:
factors multiply, drives and signals add.
"""

import dataclasses
import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError, Problems
from pinnsim.landscape.coordinates import kinetics_of
from pinnsim.landscape.dosage import linear_in_dose
from pinnsim.model import CellModel
from pinnsim.perturbation import Edits, Perturbation
from pinnsim.treatment import Edit, Treatment, as_treatment
from pinnsim.treatment.edit import SET

KNOCKOUT = math.log(1000.0)  # what a knock-out counts as: a thousandth of the expression is nothing in practice
Which = Int[Array, " slot"] | np.ndarray
Strengths = Float[Array, " slot"]


class EditArrays(eqx.Module):
    """Candidate edits as arrays, with the edit that does nothing at the end: no names, so that other edits are no other
    program.

    **Arguments:** `zero`, `slope`: all edits as phases, `zero + x slope`, with x = exp(sign s) for factors and s for
    the others; `sign`: (edit + 1,), 1, -1, or 0 where x = s; `turned`: (edit + 1,), whether there is a strength to
    turn.
    """

    zero: Perturbation
    slope: Perturbation
    sign: Float[Array, " edit"]
    turned: Bool[Array, " edit"]

    @property
    def none(self) -> int:
        """The number of the edit that does nothing."""
        return self.sign.shape[0] - 1

    def acting(self, which: Which, strengths: Strengths) -> Edits:
        """What these edits do together, at full strength for ever. **Arguments:** `which`, `strengths`: (slot,)."""
        sign = self.sign[which]
        x = jnp.where(sign == 0, strengths, jnp.exp(sign * strengths))

        def at(zero: Array, slope: Array) -> Array:
            rise = slope[which] * x.reshape(-1, *(1,) * (slope.ndim - 1))
            return zero[which] + rise

        scaled = jax.tree.map(at, self.zero, self.slope)
        ever = (jnp.full_like(scaled.start, -jnp.inf), jnp.full_like(scaled.stop, jnp.inf))
        return eqx.tree_at(lambda p: (p.start, p.stop), scaled, ever).at(jnp.zeros((), x.dtype))

    def counted(self, which: np.ndarray, strengths: np.ndarray) -> np.ndarray:
        """What each strength counts as in an effort, (..., slot): knock-outs `ln 1000`, empty slots 0."""
        turned = np.asarray(self.turned)[which]
        return np.where(turned, strengths, np.where(which == self.none, 0.0, KNOCKOUT))


@dataclasses.dataclass(frozen=True)
class EditSet:
    """Candidate edits with their names.

    **Arguments:** `names`: the templates' texts; `targets`: what each edits (no two edits of one target go together);
    `templates`; `arrays`.
    """

    names: tuple[str, ...]
    targets: tuple[tuple[str, str], ...]
    templates: tuple[Edit, ...]
    arrays: EditArrays

    @property
    def none(self) -> int:
        """The number of the edit that does nothing."""
        return len(self.names)

    def written(self, which: Sequence[int], strengths: Sequence[float], duration: float) -> Treatment:
        """The treatment that a cell gets, from time 0 on."""
        made = []
        for number, strength in zip(which, strengths, strict=True):
            if number == self.none:
                continue
            edit, sign = self.templates[number], float(self.arrays.sign[number])
            if edit.dose.ic50 > 0:
                edit = dataclasses.replace(edit, dose=dataclasses.replace(edit.dose, dose=strength * edit.dose.dose))
            elif bool(self.arrays.turned[number]):
                value = math.exp(sign * strength) if sign else strength * edit.value
                edit = dataclasses.replace(edit, value=value)
            made.append(dataclasses.replace(edit, start=0.0, stop=float(duration)))
        return Treatment(tuple(made))

    def label(self, which: Sequence[int]) -> str:
        """The names of a combination."""
        return " + ".join(_short(self.templates[k], float(self.arrays.sign[k])) for k in which if k != self.none)


def default_edits(model: CellModel | AbstractKinetics) -> tuple[str, ...]:
    """Every gene up and down, and every external signal on: `("GATA1*2", "GATA1*0.5", ..., "signal(ligand)=1")`.

    Down reaches what a knock-out does as its strength grows; name `GENE=0` where only a knock-out can be had.
    """
    kinetics = kinetics_of(model)
    found = [f"{_quoted(gene)}*{value}" for gene in kinetics.table.genes for value in ("2", "0.5")]
    found += [f"signal({_quoted(name)})=1" for name in kinetics.table.inputs]
    return tuple(str(as_treatment(text)) for text in found if has_rate(text, kinetics))


def edit_set(given: Sequence[Treatment | str], kinetics: AbstractKinetics) -> EditSet:
    """Candidates by name, checked against a model; all problems at once.

    **Raises** `E_USAGE` for none at all, more than one edit in a candidate, times of its own, a hold (which no bounded
    effort brings about), a dose curve that moves, or a number that says no direction; `E_PERTURB_...`.
    """
    parts: list[tuple[Edit, Perturbation, Perturbation, float, bool]] = []
    names: list[str] = []
    with Problems() as problems:
        if not given:
            problems.add("E_USAGE", "Argument `edits` is empty; name what may be done, for example ['GATA1*2'].")
        for candidate in given:
            try:
                treatment = as_treatment(candidate)
                _check(treatment, problems)
                if len(treatment.edits) == 1:
                    parts.append(_part(treatment.edits[0], kinetics))
                    names.append(str(treatment))
            except PinnsimError as error:
                problems.absorb(error)
        if len(set(names)) < len(names):
            problems.add("E_USAGE", "Argument `edits` names an edit twice; name each once.")
    idle = Perturbation.none(kinetics.table)
    nothing = jax.tree.map(jnp.zeros_like, idle)

    def joined(phases: list[Perturbation]) -> Perturbation:
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *phases)

    arrays = EditArrays(
        zero=joined([zero for _, zero, *_ in parts] + [idle]),
        slope=joined([slope for _, _, slope, *_ in parts] + [nothing]),
        sign=jnp.asarray([sign for *_, sign, _ in parts] + [0.0]),
        turned=jnp.asarray([turned for *_, turned in parts] + [False]),
    )
    templates = tuple(edit for edit, *_ in parts)
    return EditSet(tuple(names), tuple((edit.field, edit.name) for edit in templates), templates, arrays)


def _check(treatment: Treatment, problems: Problems) -> None:
    text = str(treatment)
    if len(treatment.edits) != 1:
        problems.add("E_USAGE", f"'{text}' has {len(treatment.edits)} edits; a candidate is one, and is combined here.")
        return
    (edit,) = treatment.edits
    if edit.start != -math.inf or edit.stop != math.inf:
        problems.add("E_USAGE", f"'{text}' has times; name the edit alone, durations are searched.")
    if edit.field == "hold":
        problems.add("E_USAGE", f"'{text}' clamps an amount, which has no bounded effort; name a drive instead.")
    if math.isfinite(edit.dose.ka) or edit.dose.ke > 0:
        problems.add("E_USAGE", f"'{text}' has a dose curve that moves; give ic50 and hill only.")
    if edit.dose.ic50 == 0 and (edit.value == 1 if edit.field not in SET else edit.value == 0):
        problems.add("E_USAGE", f"'{text}' changes nothing; give a number that says which way, as GATA1*2.")


def _part(edit: Edit, kinetics: AbstractKinetics) -> tuple[Edit, Perturbation, Perturbation, float, bool]:
    factor = edit.field not in SET and edit.dose.ic50 == 0
    sign = 0.0 if not factor or edit.value == 0 else 1.0 if edit.value > 1 else -1.0
    template = dataclasses.replace(edit, value=1.0) if sign else edit
    zero, slope, _ = linear_in_dose(Treatment((template,)), kinetics)
    return edit, zero, slope, sign, not (factor and edit.value == 0)


def has_rate(edit: Treatment | str, kinetics: AbstractKinetics) -> bool:
    """Whether a model has the rate that an edit changes (a species of an imported model may have none)."""
    try:
        as_treatment(edit).check(kinetics.table)
    except PinnsimError:
        return False
    return True


def _quoted(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"


def _short(edit: Edit, sign: float) -> str:
    name = edit.name if edit.field == "gene" else f"{edit.field}({edit.name})"
    if edit.dose.ic50 > 0:
        return f"{name} drug"
    if edit.field in SET:
        return name if edit.value > 0 else f"{name} down"
    return f"{name} {'up' if sign > 0 else 'down' if sign < 0 else 'out'}"

"""A treatment: named edits with timing, resolved to arrays (`Perturbation`) by a model's table.

`a + b` combines; `str(treatment)` and `Treatment.parse` are inverse to each other (`pinnsim.treatment.text`).
"""

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from pinnsim.errors import Problems
from pinnsim.perturbation import Perturbation, neutral_arrays
from pinnsim.table import Table
from pinnsim.treatment.edit import DOSE_KEYS, Dose, Edit, Number, check_edits
from pinnsim.treatment.place import locate
from pinnsim.treatment.text import read_edits, write_edit, write_number


@dataclasses.dataclass(frozen=True)
class Treatment:
    """A combination of named edits. Immutable; `a + b` combines; `str()` and `Treatment.parse` are inverse."""

    edits: tuple[Edit, ...] = ()

    def __add__(self, other: "Treatment") -> "Treatment":
        return Treatment(self.edits + other.edits)

    def __str__(self) -> str:
        return ", ".join(write_edit(edit) for edit in self.edits) or "none"

    def delay(self, time: Number) -> "Treatment":
        """The same treatment, `time` later. Edits that act since ever stay."""
        return Treatment(tuple(dataclasses.replace(e, start=e.start + time, stop=e.stop + time) for e in self.edits))

    @staticmethod
    def parse(text: str) -> "Treatment":
        """Reads the text form.

        **Raises** `E_PERTURB_TEXT` with the place for text outside the grammar, `E_DOSE_NEGATIVE`,
        `E_PERTURB_CONFLICT` and `E_PERTURB_TIME` as builders do; all problems at once.
        """
        with Problems() as problems:
            treatment = Treatment(tuple(read_edits(text, problems)))
            treatment._check_edits(problems)
        return treatment

    def check(self, table: Table) -> None:
        """Raises all problems of this treatment for a model: unknown names, doses, conflicts."""
        with Problems() as problems:
            self._check_edits(problems)
            for edit in self.edits:
                locate(edit, table, problems)

    def check_span(self, first: Number, last: Number) -> None:
        """Raises `E_PERTURB_TIME` for edits that act only outside the simulated span `[first, last]`. Those that act
        since ever pass: they say at which state the culture rested before."""
        with Problems() as problems:
            for edit in self.edits:
                if edit.start >= last or (edit.stop <= first and edit.start > -math.inf):
                    span = f"[{write_number(first)}, {write_number(last)}]"
                    problems.add(
                        "E_PERTURB_TIME",
                        f"'{write_edit(edit)}' acts outside the simulated times {span}; move its start and stop, or "
                        "simulate longer.",
                    )

    def resolve(self, table: Table, phases: int | None = None) -> Perturbation:
        """Arrays for a model: edits with the same timing and dose curve share a phase.

        **Arguments:** `phases`: pads with idle phases up to this number, so that other treatments have the same shapes.

        **Raises** `E_PERTURB_GENE` (a name or rate that the model does not have), `E_DOSE_NEGATIVE`,
        `E_PERTURB_CONFLICT`, `E_PERTURB_TIME`; all problems at once.
        """
        arrays = self._arrays(table, max(self.phases, phases or 1))
        return Perturbation(**{name: jnp.asarray(value) for name, value in arrays.items()})

    @property
    def phases(self) -> int:
        """How many phases it takes: one for each timing and dose curve, at least one."""
        return max(len(self._moments()), 1)

    def _moments(self) -> list[tuple[float, float, Dose]]:
        return list(dict.fromkeys((e.start, e.stop, e.dose) for e in self.edits))

    def _arrays(self, table: Table, phases: int) -> dict[str, np.ndarray]:
        self.check(table)
        moments = self._moments()
        arrays = neutral_arrays(table, phases)
        for phase, (start, stop, dose) in enumerate(moments):
            arrays["start"][phase], arrays["stop"][phase] = start, stop
            for key in DOSE_KEYS:
                arrays[key][phase] = getattr(dose, key)
        for edit in self.edits:
            phase = moments.index((edit.start, edit.stop, edit.dose))
            for array, position, value in locate(edit, table, Problems()):
                if array in ("drive", "signal"):
                    arrays[array][phase, position] += value
                elif array == "level":
                    arrays["hold"][phase, position], arrays["level"][phase, position] = 1.0, value
                else:
                    arrays[array][phase, position] *= value
        return arrays

    def _check_edits(self, problems: Problems) -> None:
        check_edits(self.edits, problems, [write_edit(edit) for edit in self.edits])


NONE = Treatment(())


def as_treatment(given: Treatment | str) -> Treatment:
    """A treatment from itself or from its text form."""
    return Treatment.parse(given) if isinstance(given, str) else given


def resolve_lanes(
    treatments: Sequence[Treatment], table: Table, phases: int | None = None, *, host: bool = False
) -> Perturbation:
    """The batch of many treatments, a leading lane axis before the phases, padded to the longest (at least `phases`).

    **Arguments:** `host`: leaves the arrays on the host, for those who take lanes from them in chunks of one size.

    **Raises** what `Treatment.resolve` raises, for the first treatment at fault.
    """
    longest = max([treatment.phases for treatment in treatments] + [phases or 1])
    # Treatments of a sweep repeat, and device arrays cost more than host arrays: each is resolved once, on the host.
    resolved = {treatment: treatment._arrays(table, longest) for treatment in dict.fromkeys(treatments)}
    one = Perturbation.none(table, longest)
    lanes = [np.stack([resolved[t][f.name] for t in treatments]) for f in dataclasses.fields(Perturbation)]
    return jax.tree.unflatten(jax.tree.structure(one), lanes if host else [jnp.asarray(leaf) for leaf in lanes])

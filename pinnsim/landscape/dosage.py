"""A treatment as a function of its dose: `zero + dose * slope` in every array, so that doses sweep without compiling.

That holds for every single edit: factors, drives, levels and signals are proportional to their value, and where the
effect saturates, the concentration is proportional to the dose. Two edits of one rate multiply, and are refused.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError, Problems
from pinnsim.perturbation import Perturbation
from pinnsim.treatment import Edit, Treatment


def linear_in_dose(template: Treatment, kinetics: AbstractKinetics) -> tuple[Perturbation, Perturbation, float]:
    """The template's arrays as `zero + dose * slope`, and when it begins.

    **Raises** `E_USAGE` for an empty template, edits with different starts or with a stop, and effects that are not
    proportional to the dose.
    """
    with Problems() as problems:
        if not template.edits:
            problems.add(
                "E_USAGE", "Argument `template` is empty; give the push at dose 1, for example 'drive(GATA1)=1'."
            )
        begins = {0.0 if math.isinf(e.start) else e.start for e in template.edits}
        if len(begins) > 1 or any(e.stop != math.inf for e in template.edits):
            problems.add("E_USAGE", f"Template '{template}' needs one start and no stop: durations are swept.")
    (begin,) = begins

    def at(dose: float) -> Perturbation:
        def scale(edit: Edit) -> Edit:
            if edit.dose.ic50 > 0:
                edit = dataclasses.replace(edit, dose=dataclasses.replace(edit.dose, dose=dose * edit.dose.dose))
            else:
                edit = dataclasses.replace(edit, value=dose * edit.value)
            return dataclasses.replace(edit, start=begin)

        return Treatment(tuple(map(scale, template.edits))).resolve(kinetics.table)

    one, two, three = at(1.0), at(2.0), at(3.0)
    slope = jax.tree.map(_difference, two, one)
    zero = jax.tree.map(lambda a, s: a - s, one, slope)
    straight = jax.tree.map(lambda z, s, c: jnp.allclose(z + 3.0 * s, c, equal_nan=True), zero, slope, three)
    if not all(bool(leaf) for leaf in jax.tree.leaves(straight)):
        raise PinnsimError.of(
            "E_USAGE",
            f"Template '{template}' is not proportional to its dose (two edits of one rate, or rnai); write one edit.",
        )
    return zero, slope, begin


def _difference(a: Array, b: Array) -> Array:
    """a - b, where infinities (times, absorption at once) do not change."""
    return jnp.where(a == b, 0.0, a - b)

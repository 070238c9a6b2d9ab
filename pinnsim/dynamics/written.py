"""Rate laws written as formulas: mass action whose constants depend on amounts and signals.

    v_r = c_r f_r(x, signal; constants) prod_i x_i (x_i - g) ...,   f_r = 1 where only a number is written

The formula is the factor before the reactants, so that whatever is written, a reaction that consumes a species stops
with it. In formulas a species counts as regulator (times its `activity`), in the abundance unit, also in sampled
methods. `FormulaFlow` is the same for flows that are no reactions.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from pinnsim.dynamics.drift import Descent
from pinnsim.dynamics.formula import NOTHING, Formula, read_formula
from pinnsim.dynamics.reactions import AbstractRateLaw, MassAction
from pinnsim.dynamics.structure import Structure
from pinnsim.errors import Problems, did_you_mean
from pinnsim.shapes import PerInput, Rates, Scalar, State

Known = dict[str, Any]


class FormulaLaw(AbstractRateLaw):
    """Mass action with written factors; build it with `formula_law`.

    **Arguments:** `constants`: by name, (); `factor`: (reaction,), c; `formulas`: per reaction, `None` for 1;
    `species`, `inputs`: names in formulas, in the order of the arrays.
    """

    constants: dict[str, Array]
    factor: Float[Array, " reaction"]
    formulas: tuple[Formula | None, ...] = eqx.field(static=True)
    species: tuple[str, ...] = eqx.field(static=True)
    inputs: tuple[str, ...] = eqx.field(static=True)

    def rates(self, structure: Structure, state: State, activity: State, signal: PerInput, grain: Scalar) -> Rates:
        known = _standing(self.species, jnp.maximum(state * activity, 0.0), self.constants)
        known |= dict(zip(self.inputs, signal, strict=True))
        one = jnp.ones((), state.dtype)
        written = [one if f is None else one * f.value(known) for f in self.formulas]
        return MassAction(self.factor * jnp.stack(written)).rates(structure, state, activity, signal, grain)


class FormulaFlow(eqx.Module):
    """`x_i' = f_i(x; constants)`. **Arguments:** as for `FormulaLaw`, a formula per species."""

    constants: dict[str, Array]
    formulas: tuple[Formula, ...] = eqx.field(static=True)
    species: tuple[str, ...] = eqx.field(static=True)

    def __call__(self, state: State) -> State:
        known, one = _standing(self.species, state, self.constants), jnp.ones((), state.dtype)
        return jnp.stack([one * f.value(known) for f in self.formulas])


class FormulaEnergy(eqx.Module):
    """U(x; constants), for `dynamics.drift.Descent`. **Arguments:** as for `FormulaLaw`, one formula."""

    constants: dict[str, Array]
    formula: Formula = eqx.field(static=True)
    species: tuple[str, ...] = eqx.field(static=True)

    def __call__(self, state: State) -> Scalar:
        return jnp.ones((), state.dtype) * self.formula.value(_standing(self.species, state, self.constants))


def formula_law(
    rates: Mapping[str, float | str],
    species: Sequence[str],
    problems: Problems,
    *,
    constants: Mapping[str, float] | None = None,
    inputs: Sequence[str] = (),
) -> FormulaLaw:
    """The law of reactions whose rates are numbers or formulas.

    **Arguments:** `rates`: by reaction, in order, per time unit and abundance unit; `species`: in order; `constants`:
    numbers that formulas use by name, each an array leaf that may be swept; `inputs`: names of signals.

    Notes `E_FORMULA` for what cannot be read, for unknown names and for rates that might turn negative when species and
    signals are >= 0, and `E_CONFIG_VALUE` for a name that stands for two things and numbers that are not finite or,
    where they are rates, negative.
    """
    numbers = dict(constants or {})
    known = _known(numbers, species, inputs, problems)
    formulas: list[Formula | None] = []
    for name, rate in rates.items():
        if not isinstance(rate, str):
            formulas.append(None)
            if not (math.isfinite(rate) and rate >= 0):
                problems.add(
                    "E_CONFIG_VALUE",
                    f"The rate constant of reaction '{name}' must be one finite number >= 0, but is {rate}.",
                )
            continue
        formula = read_known(rate, known, problems, f"Reaction '{name}'")
        formulas.append(formula)
        if formula is not None and not formula.range_of(known)[0] >= 0:
            problems.add(
                "E_FORMULA",
                f"Reaction '{name}': the rate '{rate}' might turn negative when species and signals are >= 0; write "
                "two reactions, one per direction, or max(0, ...) where a rate ends at 0.",
            )
    factor = [1.0 if isinstance(rate, str) else rate for rate in rates.values()]
    return FormulaLaw(
        {name: jnp.asarray(value, dtype=float) for name, value in numbers.items()},
        jnp.asarray(factor, dtype=float),
        tuple(formulas),
        tuple(species),
        tuple(inputs),
    )


def formula_flow(
    flow: Mapping[str, str],
    energy: str | None,
    species: Sequence[str],
    problems: Problems,
    *,
    constants: Mapping[str, float] | None = None,
) -> FormulaFlow | Descent:
    """A flow from a formula per coordinate, or from the energy that is descended.

    Notes `E_FORMULA`, and `E_CONFIG_VALUE` where neither or both are given, or not every coordinate has its formula.
    """
    numbers = dict(constants or {})
    known = _known(numbers, species, (), problems)
    held = {name: jnp.asarray(value, dtype=float) for name, value in numbers.items()}
    if (energy is None) == (not flow) or (flow and set(flow) != set(species)):
        problems.add(
            "E_CONFIG_VALUE",
            f"A flow needs either `energy` or a formula under `flow` for each coordinate of `start` "
            f"({', '.join(species)}).",
        )
    if energy is not None:
        formula = read_known(energy, known, problems, "The energy")
        return Descent(FormulaEnergy(held, formula or NOTHING, tuple(species)))
    formulas = [read_known(flow.get(name, "0"), known, problems, f"The flow of '{name}'") for name in species]
    return FormulaFlow(held, tuple(formula or NOTHING for formula in formulas), tuple(species))


def read_known(text: str, known: Mapping[str, Any], problems: Problems, where: str) -> Formula | None:
    """A formula of these names; `None`, with `E_FORMULA` noted, where there are others or it cannot be read."""
    before = len(problems.found)
    formula = read_formula(text, problems, where)
    for name in formula.names():
        if name not in known:
            problems.add(
                "E_FORMULA",
                f"{where}: the formula '{text}' has '{name}'{did_you_mean(name, known)}, which is no species, signal "
                "or constant; add it to `constants`.",
            )
    return formula if len(problems.found) == before else None


def _standing(species: tuple[str, ...], amounts: State, constants: Mapping[str, Array]) -> Known:
    """What names stand for."""
    found: Known = dict(zip(species, amounts, strict=True))
    return found | {name: value.astype(amounts.dtype) for name, value in constants.items()}


def _known(
    numbers: Mapping[str, float], species: Sequence[str], inputs: Sequence[str], problems: Problems
) -> dict[str, tuple[float, float]]:
    """What each name may be: species and signals >= 0, constants of their own sign."""
    known: dict[str, tuple[float, float]] = dict.fromkeys((*species, *inputs), (0.0, math.inf))
    for name, value in numbers.items():
        if name in known:
            problems.add("E_CONFIG_VALUE", f"The constant '{name}' is also a species or a signal; rename one of them.")
        if not math.isfinite(value):
            problems.add("E_CONFIG_VALUE", f"The constant '{name}' must be a finite number, but is {value}.")
        known[name] = (0.0, math.inf) if value >= 0 else (-math.inf, 0.0)
    return known

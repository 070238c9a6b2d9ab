"""The published tables of what is understood of SBML and what is refused, made from the models that tests run.

    python tests/sbml_support.py      # prints them, for docs/sbml.md

A row names the constructs of `sbml_models`, `event_models` and the refusals that stand behind it; none of those may be
without a row.
"""

from collections.abc import Mapping
from typing import NamedTuple

ALL_OF_EVENTS = "all of them"


class Row(NamedTuple):
    """What is said of a construct, and by what it is tested: constructs by rule, events, other tests by name."""

    construct: str
    said: str
    rules: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()


UNDERSTOOD = (
    Row("compartments", "constant; by rate or assignment rule; set by events, which leave amounts as they are",
        ("volume larger", "volume growing", "volume assigned"), ("volume",)),
    Row("species",
        "as amounts or concentrations; boundary and constant ones; by rate or assignment rule; set by events",
        ("substance amounts", "start concentration", "kind boundary", "kind constant", "kind ruled", "kind assigned"),
        ("at a time", "on a state")),
    Row("parameters, local parameters", "constant; by rate or assignment rule; set by events; local ones hide others",
        ("law local", "law regulated", "constant assigned", "constant ruled"),
        ("rate constant", "target of a rate rule")),
    Row("initial assignments", "in any order, of species, parameters and stoichiometries",
        ("start assigned", "constant initial", "count initial")),
    Row("stoichiometry", "whole, fractional, by initial assignment or rule, set by events",
        ("count two", "count half", "count initial", "count varying"), ("stoichiometry",)),
    Row("conversion factors", "of the model and of species", ("factor model", "factor species")),
    Row("function definitions", "written out", ("law function",)),
    Row("formulas", "all MathML of Level 3 Version 2: arithmetic, powers, roots, logarithms, circular and hyperbolic "
        "functions and their inverses, factorial, floor, ceiling, quotient, remainder, min, max, relations, logic, "
        "piecewise", ("law reversible", "law logical"),
        tests=("test_every_operation_has_numpys_value_on_the_host_and_compiled",)),
    Row("`time`, `avogadro`", "yes", ("law timed",),
        tests=("test_every_operation_has_numpys_value_on_the_host_and_compiled",)),
    Row("`rateOf`", "of what rules and reactions move, not of what an assignment rule sets",
        tests=("test_derivatives_in_formulas_are_those_of_the_solution",)),
    Row("conditions on the time alone",
        "where they are linear in it, solvers end steps at the switch, so that no pulse is stepped over",
        ("law switched",), tests=("test_a_short_pulse_is_not_stepped_over_and_treatments_act",)),
    Row("events",
        "triggers with their initial value, delays, priorities, persistence, values from trigger or execution time, "
        "cascades", (), (ALL_OF_EVENTS,), ("test_what_happens_at_one_instant",)),
)  # fmt: skip


class Refusal(NamedTuple):
    """What is refused, and the refusals of `test_sbml_refusals` that show it."""

    what: str
    code: str
    shown: tuple[str, ...]


NOT_TAKEN = (
    Refusal("algebraic rules", "E_SBML_UNSUPPORTED", ("algebraic rule",)),
    Refusal("`delay`", "E_SBML_UNSUPPORTED", ("delay", "delay in an event")),
    Refusal("fast reactions", "E_SBML_UNSUPPORTED", ("fast reaction",)),
    Refusal("packages that change what a model means (comp, fbc, qual, multi, distrib, ...)", "E_SBML_UNSUPPORTED",
            ("package",)),
    Refusal("`rateOf` of what an assignment rule sets", "E_SBML_INVALID", ("derivative of what is assigned",)),
    Refusal("values that are used but never given", "E_SBML_INVALID", ("no value", "no start", "no size", "no count")),
    Refusal("what the specification forbids, as libSBML finds it", "E_SBML_INVALID",
            ("unknown name", "no model", "other XML")),
    Refusal("rules that need one another in a circle", "E_RULE_CYCLE", ("circle",)),
)  # fmt: skip


def understood() -> str:
    """Markdown: a row per construct."""
    rows = []
    for row in UNDERSTOOD:
        every = row.events == (ALL_OF_EVENTS,)
        events = ["every event"] if every else [f"event {name}" for name in row.events]
        tests = [f"`{name}`" for name in row.tests]
        rows.append(f"| {row.construct} | {row.said} | {_listed([*row.rules, *events, *tests])} |")
    return "\n".join(["| construct | | tested as |", "|---|---|---|", *rows])


def refused(codes: Mapping[str, str]) -> str:
    """Markdown: a row per refusal. **Arguments:** `codes`: by the name of a refusal in the tests."""
    rows = [
        f"| {row.what} | {_listed(dict.fromkeys(f'`{codes[name]}`' for name in row.shown))} | {_listed(row.shown)} |"
        for row in NOT_TAKEN
    ]
    return "\n".join(["| refused | code | tested as |", "|---|---|---|", *rows])


def _listed(names) -> str:
    return ", ".join(names)


if __name__ == "__main__":
    from test_sbml_refusals import REFUSED

    print(understood(), refused({name: code for name, (_, code, _) in REFUSED.items()}), sep="\n\n")

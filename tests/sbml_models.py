"""SBML models of our own by rule: one conversion A -> B in a compartment, with one or two constructs changed.

`AXES` holds the constructs by what they change; `written(*choices)` writes the SBML of any combination, and `pairs()`
all combinations of two that change different things.
"""

import itertools

import libsbml

BASE = {
    "compartment": '<compartment id="C" spatialDimensions="3" size="1" constant="true"/>',
    "substance": "false",
    "A": 'initialAmount="3" boundaryCondition="false" constant="false"',
    "B": 'initialAmount="0.5" boundaryCondition="false" constant="false"',
    "B more": "",
    "reactant": '<speciesReference species="A" stoichiometry="1" constant="true"/>',
    "law": "C*k1*A",
    "local": "",
    "functions": "",
    "k1": '<parameter id="k1" value="0.7" constant="true"/>',
    "parameters": "",
    "rules": "",
    "initial": "",
    "model": "",
}
AXES: dict[str, dict[str, dict[str, str]]] = {
    "volume": {
        "larger": {"compartment": '<compartment id="C" spatialDimensions="3" size="2.5" constant="true"/>'},
        "growing": {
            "compartment": '<compartment id="C" spatialDimensions="3" size="2.5" constant="false"/>',
            "rules": "rate C = 0.2*C",
        },
        "assigned": {
            "compartment": '<compartment id="C" spatialDimensions="3" constant="false"/>',
            "rules": "assign C = 2 + 0.5*sin(time)",
        },
    },
    "substance": {"amounts": {"substance": "true"}},
    "law": {
        "local": {"local": '<localParameter id="k1" value="0.4"/>'},
        "function": {"functions": "f = lambda(x, k, k*x/(0.3 + x))", "law": "C*f(A, k1)"},
        "reversible": {"law": "C*(k1*A - k2*B)", "parameters": '<parameter id="k2" value="0.25" constant="true"/>'},
        "switched": {"law": "C*k1*A*piecewise(1, time < 1.3, 0.2)"},
        "regulated": {
            "law": "C*k1*A/(1 + E^2)",
            "parameters": '<parameter id="E" value="0.8" constant="false"/>',
            "rules": "rate E = 0.3 - 0.5*E",
        },
        "timed": {"law": "C*k1*A*(1 + 0.5*sin(2*time))"},
        "logical": {"law": "C*k1*piecewise(A, and(A > 0.2, not(B < 0)), 0.5*A)"},
    },
    "count": {
        "two": {"reactant": '<speciesReference species="A" stoichiometry="2" constant="true"/>'},
        "half": {"reactant": '<speciesReference species="A" stoichiometry="0.5" constant="true"/>'},
        "varying": {
            "reactant": '<speciesReference id="n" species="A" constant="false"/>',
            "rules": "assign n = 1 + 0.3*time",
        },
        "initial": {
            "reactant": '<speciesReference id="n" species="A" constant="true"/>',
            "initial": "n = 1.5*k1",
        },
    },
    "start": {
        "concentration": {"A": 'initialConcentration="1.7" boundaryCondition="false" constant="false"'},
        "assigned": {"initial": "A = 2*k1 + 1"},
    },
    "kind": {
        "boundary": {"A": 'initialAmount="3" boundaryCondition="true" constant="false"'},
        "constant": {"A": 'initialAmount="3" boundaryCondition="true" constant="true"'},
        "ruled": {
            "A": 'initialConcentration="1.2" boundaryCondition="true" constant="false"',
            "rules": "rate A = -0.4*A",
        },
        "assigned": {
            "A": 'boundaryCondition="true" constant="false"',
            "rules": "assign A = 1.2 + 0.3*sin(time)",
        },
    },
    "factor": {
        "species": {
            "B more": 'conversionFactor="cf"',
            "parameters": '<parameter id="cf" value="1.6" constant="true"/>',
        },
        "model": {
            "model": 'conversionFactor="cm"',
            "parameters": '<parameter id="cm" value="0.8" constant="true"/>',
        },
    },
    "constant": {
        "assigned": {
            "k1": '<parameter id="k1" constant="false"/>',
            "rules": "assign k1 = 0.5 + 0.1*cos(3*time)",
        },
        "ruled": {"k1": '<parameter id="k1" value="0.7" constant="false"/>', "rules": "rate k1 = -0.3*k1"},
        "initial": {"k1": '<parameter id="k1" constant="true"/>', "initial": "k1 = 0.3 + C/8"},
    },
}
_APART = (("start", "assigned"), ("kind", "assigned"))  # what a rule sets has no initial assignment
_ADDED = ("parameters", "rules", "initial", "functions")


def singles() -> list[tuple[str, str]]:
    """All constructs, as (axis, name)."""
    return [(axis, name) for axis, names in AXES.items() for name in names]


def pairs() -> list[tuple[tuple[str, str], tuple[str, str]]]:
    """All pairs of constructs that change different things, and that a file may hold together."""
    return [(a, b) for a, b in itertools.combinations(singles(), 2) if a[0] != b[0] and (a, b) != _APART]


def written(*choices: tuple[str, str]) -> str:
    """The SBML of the base model with these constructs."""
    parts = dict(BASE)
    for axis, name in choices:
        for key, value in AXES[axis][name].items():
            parts[key] = f"{parts[key]}\n{value}" if key in _ADDED and parts[key] else value
    return document(
        f"<listOfFunctionDefinitions>{_each(parts['functions'], _function)}</listOfFunctionDefinitions>"
        f"<listOfCompartments>{parts['compartment']}</listOfCompartments><listOfSpecies>"
        f'<species id="A" compartment="C" hasOnlySubstanceUnits="{parts["substance"]}" {parts["A"]}/>'
        f'<species id="B" compartment="C" hasOnlySubstanceUnits="{parts["substance"]}" {parts["B"]} {parts["B more"]}/>'
        f"</listOfSpecies><listOfParameters>{parts['k1']}{parts['parameters']}</listOfParameters>"
        f"<listOfInitialAssignments>{_each(parts['initial'], _initial)}</listOfInitialAssignments>"
        f"<listOfRules>{_each(parts['rules'], _rule)}</listOfRules><listOfReactions>"
        '<reaction id="R" reversible="true"><listOfReactants>'
        f"{parts['reactant']}</listOfReactants><listOfProducts>"
        '<speciesReference species="B" stoichiometry="1" constant="true"/></listOfProducts>'
        f"<kineticLaw>{mathml(parts['law'])}<listOfLocalParameters>{parts['local']}</listOfLocalParameters></kineticLaw>"
        "</reaction></listOfReactions>",
        attributes=parts["model"],
    )


def document(inside: str, *, more: str = "", attributes: str = "") -> str:
    """An SBML document around a model's parts; lists without items are left out."""
    for name in ("FunctionDefinitions", "InitialAssignments", "Rules", "LocalParameters"):
        inside = inside.replace(f"<listOf{name}></listOf{name}>", "")
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<sbml xmlns="http://www.sbml.org/sbml/level3/version2/core" '
        f'level="3" version="2" {more}>\n<model id="m" {attributes}>{inside}</model></sbml>'
    )


def mathml(formula: str) -> str:
    """MathML of a formula in libSBML's infix notation, on one line."""
    tree = libsbml.parseL3Formula(formula)
    if tree is None:
        raise ValueError(libsbml.getLastParseL3Error())
    return libsbml.writeMathMLToString(tree).partition("?>")[2].replace("\n", "")


def rules(**formulas: str) -> str:
    """Parameters set by assignment rules, with their rules, as two lists."""
    parameters = "".join(f'<parameter id="{name}" constant="false"/>' for name in formulas)
    assigned = "".join(_rule(f"assign {name} = {formula}") for name, formula in formulas.items())
    return f"<listOfParameters>{parameters}</listOfParameters><listOfRules>{assigned}</listOfRules>"


def _each(lines: str, write) -> str:
    return "".join(write(line) for line in lines.splitlines())


def _split(line: str) -> tuple[str, str]:
    name, _, formula = line.partition(" = ")
    return name, formula


def _function(line: str) -> str:
    name, formula = _split(line)
    return f'<functionDefinition id="{name}">{mathml(formula)}</functionDefinition>'


def _initial(line: str) -> str:
    name, formula = _split(line)
    return f'<initialAssignment symbol="{name}">{mathml(formula)}</initialAssignment>'


def _rule(line: str) -> str:
    name, formula = _split(line)
    kind, _, variable = name.partition(" ")
    word = {"rate": "rateRule", "assign": "assignmentRule"}[kind]
    return f'<{word} variable="{variable}">{mathml(formula)}</{word}>'

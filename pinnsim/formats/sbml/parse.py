"""SBML text into plain data, by libSBML: what the model has, its formulas as trees, and all that is refused, at once.

Refused by construct, identifier and line: algebraic rules, delay(), fast reactions, operations outside the list, units
of kinetic laws (Level 1), and packages that change what a model means. Layout, rendering, groups and
annotations mean nothing for a simulation and are passed over; constraints are counted, not checked.

This file knows libSBML and nothing of JAX: it runs in a process of its own (`pinnsim.formats.sbml.child`).

Source: M. Hucka et al., SBML Level 3 Version 2 Core, J. Integr. Bioinform. 16:20190021 (2019).
"""

import math
from typing import Any

import libsbml

from pinnsim.dynamics.naming import local_of
from pinnsim.formats.sbml.math import MathReader, TooLargeError

_HARMLESS = {"layout", "render", "groups", "l3v2extendedmath"}
_SECONDS = {1.0: "s", 60.0: "min", 3600.0: "h", 86400.0: "d"}
_UNITS_ONLY = {10313}  # a reference to a unit that is not there: no number depends on it
_CIRCLES = (20906,)  # rules and reactions that need one another
_MESSAGE = 160  # characters of libSBML's own words

Plain = dict[str, Any]


class Refusals:
    """Codes and sentences of what is refused, each with construct, identifier and line."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def add(self, code: str, sentence: str) -> None:
        """Notes one refusal, once."""
        if (code, sentence) not in self.found:
            self.found.append((code, sentence))

    def unsupported(self, what: str, element: Any) -> None:
        """Notes a construct that is not supported."""
        self.add("E_SBML_UNSUPPORTED", f"{what} at line {element.getLine()}{_named(element)}")


def parse_sbml(text: str, nodes: int) -> Plain:
    """The model of an SBML text as plain data, `{"problems": [(code, sentence)], "model": {...} or None}`."""
    refused = Refusals()
    document = libsbml.readSBMLFromString(text)
    _packages(document, refused)
    # Checks of packages would open other files that a model names.
    if not _faults(document, refused) and not refused.found:
        # Units are told, not judged: a clash of units changes no number of a simulation.
        for category in (libsbml.LIBSBML_CAT_UNITS_CONSISTENCY, libsbml.LIBSBML_CAT_MODELING_PRACTICE):
            document.setConsistencyChecks(category, False)
        document.checkConsistency()
        _faults(document, refused)
    model = document.getModel()
    if model is None:
        if not refused.found:
            refused.add("E_SBML_INVALID", "there is no model in it")
        return {"problems": refused.found, "model": None}
    for rule in _all(model.getListOfRules()):
        if rule.isAlgebraic():
            refused.unsupported("algebraicRule", rule)
    try:
        found = _model(model, document, refused, nodes)
    except TooLargeError:
        refused.add("E_SIZE", f"its formulas have more than {nodes} parts with functions written out; pass limits=")
        found = None
    return {"problems": refused.found, "model": None if refused.found else found}


def _faults(document: Any, refused: Refusals) -> bool:
    """Notes errors that libSBML found so far; whether there are any."""
    for k in range(document.getNumErrors()):
        error = document.getError(k)
        if error.getSeverity() >= libsbml.LIBSBML_SEV_ERROR and error.getErrorId() not in _UNITS_ONLY:
            words = " ".join((error.getShortMessage() or error.getMessage()).split())[:_MESSAGE]
            code = "E_RULE_CYCLE" if error.getErrorId() in _CIRCLES else "E_SBML_INVALID"
            refused.add(code, f"line {error.getLine()}: {words} (libSBML {error.getErrorId()})")
    return bool(refused.found)


def _packages(document: Any, refused: Refusals) -> None:
    for k in range(document.getNumPlugins()):
        name = document.getPlugin(k).getPackageName()
        if name not in _HARMLESS:
            refused.unsupported(f"package '{name}'", document)
    for k in range(document.getNumUnknownPackages()):
        refused.unsupported(f"package '{document.getUnknownPackageURI(k)}'", document)


def _model(model: Any, document: Any, refused: Refusals, nodes: int) -> Plain:
    functions = {item.getId(): item.getMath() for item in _all(model.getListOfFunctionDefinitions()) if item.getMath()}
    where: list[Any] = []

    def note(code: str, what: str) -> None:
        what = what if code == "E_SBML_UNSUPPORTED" else f"formula in which {what}"
        kind = where[-1].getElementName()
        refused.add(code, f"{what} in {kind} at line {where[-1].getLine()}{_named(where[-1])}")

    reader = MathReader(functions, note, nodes)

    def tree(element: Any, local: dict[str, str] | None = None) -> Any:
        if element is None or not element.isSetMath():
            return None
        where.append(element)
        return reader.tree(element.getMath(), local)

    rules = [rule for rule in _all(model.getListOfRules()) if not rule.isAlgebraic() and rule.isSetMath()]
    initial = [item for item in _all(model.getListOfInitialAssignments()) if item.isSetMath()]
    return {
        "id": model.getId() or model.getName() or "model",
        "level": f"L{document.getLevel()}V{document.getVersion()}",
        "time_unit": _time_unit(model),
        "factor": model.getConversionFactor() if model.isSetConversionFactor() else None,
        "compartments": [
            {
                "id": item.getId(),
                "size": item.getSize() if item.isSetSize() else None,
                "constant": item.getConstant(),
                "dimensions": item.getSpatialDimensionsAsDouble(),
            }
            for item in _all(model.getListOfCompartments())
        ],
        "species": [
            {
                "id": item.getId(),
                "compartment": item.getCompartment(),
                "amount": item.getInitialAmount() if item.isSetInitialAmount() else None,
                "concentration": item.getInitialConcentration() if item.isSetInitialConcentration() else None,
                "substance_only": item.getHasOnlySubstanceUnits(),
                "boundary": item.getBoundaryCondition(),
                "constant": item.getConstant(),
                "factor": item.getConversionFactor() if item.isSetConversionFactor() else None,
            }
            for item in _all(model.getListOfSpecies())
        ],
        "parameters": [
            {
                "id": item.getId(),
                "value": item.getValue() if item.isSetValue() else None,
                "constant": item.getConstant(),
            }
            for item in _all(model.getListOfParameters())
        ],
        "initial": [{"symbol": item.getSymbol(), "tree": tree(item)} for item in initial],
        "assign": [{"symbol": rule.getVariable(), "tree": tree(rule)} for rule in rules if rule.isAssignment()],
        "rate": [{"symbol": rule.getVariable(), "tree": tree(rule)} for rule in rules if rule.isRate()],
        "reactions": [_reaction(item, tree, refused) for item in _all(model.getListOfReactions())],
        "events": [_event(item, tree) for item in _all(model.getListOfEvents())],
        "constraints": model.getNumConstraints(),
        "lines": {
            item.getId(): item.getLine()
            for items in (
                model.getListOfCompartments(),
                model.getListOfSpecies(),
                model.getListOfParameters(),
                model.getListOfReactions(),
            )
            for item in _all(items)
        },
    }


def _reaction(reaction: Any, tree: Any, refused: Refusals) -> Plain:
    if reaction.isSetFast() and reaction.getFast():
        refused.unsupported("fast reaction", reaction)
    law, local, numbers = reaction.getKineticLaw(), {}, {}
    if law is not None:
        if law.isSetTimeUnits() or law.isSetSubstanceUnits():
            refused.unsupported("kineticLaw with units of its own", law)
        own = [*_all(law.getListOfLocalParameters()), *_all(law.getListOfParameters())]
        for item in own:
            local[item.getId()] = local_of(reaction.getId(), item.getId())
            numbers[item.getId()] = item.getValue() if item.isSetValue() else None
    sides = []
    for sign, references in ((-1.0, reaction.getListOfReactants()), (1.0, reaction.getListOfProducts())):
        for reference in _all(references):
            written = reference.getStoichiometryMath() if reference.isSetStoichiometryMath() else None
            value = reference.getStoichiometry() / (reference.getDenominator() or 1)
            # NaN is how libSBML says that none was given.
            value = None if written is not None or math.isnan(value) else float(value)
            sides.append(
                {
                    "species": reference.getSpecies(),
                    "sign": sign,
                    "id": reference.getId() if reference.isSetId() else None,
                    "value": value,
                    "tree": tree(written),
                }
            )
    return {"id": reaction.getId(), "law": tree(law, local), "local": numbers, "sides": sides}


def _event(event: Any, tree: Any) -> Plain:
    """An event. Level 2 has neither persistence, initial values nor priorities: libSBML answers as if they were true
    and absent, which is what Level 2 means."""
    trigger = event.getTrigger()
    return {
        "id": event.getId() if event.isSetId() else None,
        "line": event.getLine(),
        # A trigger without a formula (Level 3 Version 2) never becomes true.
        "trigger": tree(trigger),
        "initial": trigger is None or trigger.getInitialValue(),
        "persistent": trigger is None or trigger.getPersistent(),
        "delay": tree(event.getDelay()),
        "priority": tree(event.getPriority()),
        "early": event.getUseValuesFromTriggerTime(),
        "assign": [
            {"symbol": item.getVariable(), "tree": tree(item)}
            for item in _all(event.getListOfEventAssignments())
            if item.isSetMath()
        ],
    }


def _time_unit(model: Any) -> str:
    """The house name of the model's unit of time where it is one, else the file's own name."""
    name = model.getTimeUnits() if model.getLevel() > 2 else "time"
    definition = model.getUnitDefinition(name)
    if definition is None:
        return "s" if name in ("time", "second") else name or "time unit"
    if definition.getNumUnits() == 1 and definition.getUnit(0).isSecond():
        unit = definition.getUnit(0)
        seconds = unit.getMultiplier() * 10.0 ** unit.getScale()
        if unit.getExponentAsDouble() == 1.0 and seconds in _SECONDS:
            return _SECONDS[seconds]
    return name


def _named(element: Any) -> str:
    """` (id ...)`, or what the element is about."""
    name = element.getIdAttribute()
    if not name and element.getElementName() in ("assignmentRule", "rateRule"):
        name = element.getVariable()
    if not name and element.getElementName() == "initialAssignment":
        name = element.getSymbol()
    if not name and element.getElementName() == "eventAssignment":
        name = element.getVariable()
    if not name and element.getElementName() in ("trigger", "delay", "priority"):
        event = element.getAncestorOfType(libsbml.SBML_EVENT)
        name = "" if event is None else event.getIdAttribute()
    if not name and element.getElementName() in ("kineticLaw", "stoichiometryMath"):
        reaction = element.getAncestorOfType(libsbml.SBML_REACTION)
        name = "" if reaction is None else reaction.getId()
    return f" ({name})" if name else ""


def _all(items: Any) -> list[Any]:
    return [items.get(k) for k in range(items.size())]

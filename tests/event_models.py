"""Small models with events, by rule: two reservoirs and a clock, and every construct of events alone or in pairs.

`EVENTS` holds the constructs by name, each an event that changes something of its own or what others look at;
`written(*names)` writes the SBML of any combination.
"""

import itertools

from sbml_models import document, mathml

EVENTS: dict[str, dict[str, str]] = {
    "at a time": {"trigger": "time >= 0.45", "A": "A + 1"},
    "on a state": {"trigger": "A < 1.2", "A": "A + 1.5"},
    "delayed": {"trigger": "time > 0.3", "delay": "0.4", "B": "B + 2*A"},
    "delayed, values at execution": {"trigger": "time > 0.31", "delay": "0.4", "early": "false", "B": "B + 2*A"},
    "delay from the state": {"trigger": "B > 2", "delay": "A/4", "n": "n + 1"},
    "not persistent": {"trigger": "and(time > 0.5, time < 0.8)", "delay": "0.5", "persistent": "false", "n": "n + 10"},
    "at the start": {"trigger": "A > 1", "initial": "false", "n": "n + 100"},
    "high priority": {"trigger": "time >= 1.1", "priority": "10", "n": "n + 1"},
    "low priority": {"trigger": "time >= 1.1", "priority": "n", "early": "false", "n": "n*2"},
    "cascade": {"trigger": "n > 0.5", "q": "q + 1"},
    "repeats": {"trigger": "time - last >= 0.25", "last": "time", "q": "q + 1"},
    "volume": {"trigger": "time >= 0.9", "C": "C*2"},
    "stoichiometry": {"trigger": "time >= 0.7", "w": "0.5"},
    "rate constant": {"trigger": "B > 1.5", "k": "k/3"},
    "target of a rate rule": {"trigger": "x > 1", "x": "x - 1"},
    "several, with all at once": {
        "trigger": "time >= 0.62",
        "delay": "0.2",
        "priority": "A",
        "early": "false",
        "A": "A/2",
        "B": "A",
        "q": "q + 5",
    },
}


def pairs() -> list[tuple[str, str]]:
    """All pairs of constructs."""
    return list(itertools.combinations(EVENTS, 2))


def written(*names: str) -> str:
    """The SBML of A -> s B at k A, x' = 1 + 0.2 A, and the events of these names."""
    parameters = {"k": 0.9, "n": 0, "q": 0, "last": 0, "x": 0}
    listed = "".join(f'<parameter id="{name}" value="{value}" constant="false"/>' for name, value in parameters.items())
    return document(
        '<listOfCompartments><compartment id="C" spatialDimensions="3" size="1.5" constant="false"/>'
        "</listOfCompartments>"
        '<listOfSpecies><species id="A" compartment="C" initialConcentration="2" hasOnlySubstanceUnits="false" '
        'boundaryCondition="false" constant="false"/><species id="B" compartment="C" initialAmount="0.5" '
        'hasOnlySubstanceUnits="false" boundaryCondition="false" constant="false"/></listOfSpecies>'
        f"<listOfParameters>{listed}</listOfParameters>"
        f'<listOfRules><rateRule variable="x">{mathml("1 + 0.2*A")}</rateRule></listOfRules>'
        '<listOfReactions><reaction id="R" reversible="false"><listOfReactants><speciesReference species="A" '
        'stoichiometry="1" constant="true"/></listOfReactants><listOfProducts><speciesReference id="w" species="B" '
        f'stoichiometry="1" constant="false"/></listOfProducts><kineticLaw>{mathml("C*k*A")}</kineticLaw></reaction>'
        f"</listOfReactions>{events(*(EVENTS[name] for name in names))}"
    )


def events(*each: dict[str, str]) -> str:
    """Events as one list; keys beside trigger, delay, priority, early, initial and persistent are what they set."""
    return f"<listOfEvents>{''.join(_event(k, one) for k, one in enumerate(each))}</listOfEvents>" if each else ""


def _event(number: int, one: dict[str, str]) -> str:
    rest = dict(one)
    trigger, early = rest.pop("trigger"), rest.pop("early", "true")
    initial, persistent = rest.pop("initial", "true"), rest.pop("persistent", "true")
    more = "".join(f"<{kind}>{mathml(rest.pop(kind))}</{kind}>" for kind in ("priority", "delay") if kind in rest)
    sets = "".join(
        f'<eventAssignment variable="{name}">{mathml(value)}</eventAssignment>' for name, value in rest.items()
    )
    return (
        f'<event id="e{number}" useValuesFromTriggerTime="{early}"><trigger initialValue="{initial}" '
        f'persistent="{persistent}">{mathml(trigger)}</trigger>{more}<listOfEventAssignments>{sets}'
        "</listOfEventAssignments></event>"
    )

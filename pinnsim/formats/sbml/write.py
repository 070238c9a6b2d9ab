"""SBML out: gene kinetics as other simulators read them. What is written is the known kinetics; a neural residual has
no place in SBML, so a model that has one is refused, or written without it where that is asked for.

    species         one per gene and layer, amounts in a cell of size 1
    hidden activity a parameter with a rate rule, h' = (effect . (signal - reference) - h) / tau
    promoter        a parameter with an assignment rule, a = sigmoid(basal + sum_e F_e(x)) or the average of Hill terms
    reactions       transcription, splicing, decay, translation, each times a factor of its own (1: untreated)

Treatments are changes of those factors, of `drive`, `activity` and `signal` parameters. Regulators' inputs are not
clipped, as they are in `simulate` beyond e^40.

Source: M. Hucka et al., SBML Level 3 Version 2 Core, J. Integr. Bioinform. 16:20190021 (2019).
"""

import dataclasses
import math
import re
from collections.abc import Callable, Container, Iterable, Mapping
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import jax
import jax.numpy as jnp
import numpy as np

from pinnsim.dynamics.gene_kinetics import GeneKinetics
from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.dynamics.operations import Tree
from pinnsim.dynamics.regulation import HillAverage, Promoter
from pinnsim.dynamics.residual import NoResidual
from pinnsim.errors import PinnsimError
from pinnsim.model import CellModel
from pinnsim.parameter import resolve
from pinnsim.shapes import Numbers
from pinnsim.store import replacing

_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_LEAST = 1e-30  # what `simulate` takes for nothing inside a logarithm
_WORDS = {"+": "plus", "-": "minus", "neg": "minus", "*": "times", "/": "divide", "^": "power", "log": "ln"}


@dataclasses.dataclass
class Written:
    """A model's parts as SBML names and trees. `names`: SBML names by our own; `species`: SBML name, own name, start;
    `parameters`: name, value; `ruled`: name, tree by assignment; `rated`: name, start, tree; `reactions`: name, own
    name, law, change by species."""

    names: dict[str, str] = dataclasses.field(default_factory=dict)
    species: list[tuple[str, str, float]] = dataclasses.field(default_factory=list)
    parameters: dict[str, float] = dataclasses.field(default_factory=dict)
    ruled: dict[str, Tree] = dataclasses.field(default_factory=dict)
    rated: dict[str, tuple[float, Tree]] = dataclasses.field(default_factory=dict)
    reactions: list[tuple[str, str, Tree, dict[str, int]]] = dataclasses.field(default_factory=list)

    def name(self, own: str) -> str:
        """The SBML name of one of ours, of its own even where signs are lost."""
        if own not in self.names:
            self.names[own] = identifier(own, set(self.names.values()))
        return self.names[own]


def identifier(own: str, taken: Container[str]) -> str:
    """A name of ours as SBML and PEtab write names, none of those that are `taken`."""
    plain = re.sub(r"\W", "_", own, flags=re.ASCII)
    plain = plain if plain[:1].isalpha() or plain[:1] == "_" else f"_{plain}"
    name, k = plain, 2
    while name in taken:
        name, k = f"{plain}_{k}", k + 1
    return name


def write_sbml(
    model: CellModel | AbstractKinetics,
    path: str | Path,
    state: Numbers | None = None,
    *,
    without_residual: bool = False,
) -> dict[str, str]:
    """Writes the kinetics of a gene-kinetics model as SBML Level 3 Version 2.

    **Arguments:** `path`: the file; `state`: (species,), what it starts from (default: `kinetics.default_state()`);
    `without_residual`: write the known kinetics of a model that has a neural residual, too, without it.

    **Returns** the SBML names of our own names: species, reactions' factors (`factor transcription:G`), `signal s`,
    `drive G.mrna`, `activity G.mrna`.

    **Raises** `E_SBML_UNSUPPORTED` for other models and for a neural residual; `E_INIT` for a state of another size.

    Source: Hucka et al. (2019), above.
    """
    kinetics = model.kinetics if isinstance(model, CellModel) else model
    found = gene_kinetics_parts(kinetics, state, without_residual=without_residual)
    text = sbml_text(found, kinetics.time_unit, dropped=_has_residual(kinetics))
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return dict(found.names)


def _has_residual(kinetics: AbstractKinetics) -> bool:
    return isinstance(kinetics, GeneKinetics) and not isinstance(kinetics.residual, NoResidual)


def gene_kinetics_parts(
    kinetics: AbstractKinetics, state: Numbers | None = None, *, without_residual: bool = False
) -> Written:
    """The parts of a gene-kinetics model. **Raises** as `write_sbml`."""
    if not isinstance(kinetics, GeneKinetics):
        raise PinnsimError.of(
            "E_SBML_UNSUPPORTED", f"SBML is written of gene kinetics, not of {type(kinetics).__name__}."
        )
    if _has_residual(kinetics) and not without_residual:
        raise PinnsimError.of(
            "E_SBML_UNSUPPORTED",
            f"The model's residual ({type(kinetics.residual).__name__}) is learned and has no form in SBML; pass "
            "without_residual=True to write the known kinetics alone, which is another model.",
        )
    kinetics = resolve(kinetics)
    begin = np.asarray(kinetics.default_state() if state is None else jnp.asarray(state, dtype=float), dtype=float)
    if begin.shape != (len(kinetics.table.species),) or not np.isfinite(begin).all():
        raise PinnsimError.of("E_INIT", f"`state` needs {len(kinetics.table.species)} finite numbers, one per species.")
    found = Written()
    table = kinetics.table
    for signal in table.inputs:
        found.parameters[found.name(f"signal {signal}")] = 0.0
    for k, own in enumerate(table.species):
        name = found.name(own)
        if k < kinetics.abundances:
            found.species.append((name, own, float(begin[k])))
        else:
            found.rated[name] = (float(begin[k]), _drift(found, kinetics, k - kinetics.abundances, name))
    _promoters(found, kinetics, _inputs(found, kinetics))
    _flows(found, kinetics)
    return found


def _drift(found: Written, kinetics: GeneKinetics, k: int, name: str) -> Tree:
    hidden = kinetics.hidden
    point = _plus(
        [
            ("*", float(effect), ("-", found.name(f"signal {signal}"), float(reference)))
            for effect, reference, signal in zip(
                np.asarray(hidden.effect)[k], np.asarray(hidden.reference), kinetics.table.inputs, strict=True
            )
        ]
    )
    tau = found.name(f"tau {kinetics.table.species[kinetics.abundances + k]}")
    found.parameters[tau] = float(np.asarray(hidden.tau)[k])
    return ("/", ("-", point, name), tau)


def _plus(parts: list[Tree]) -> Tree:
    return 0.0 if not parts else parts[0] if len(parts) == 1 else ("+", *parts)


def _inputs(found: Written, kinetics: GeneKinetics) -> list[str]:
    """What promoters see of each regulator, as assignment rules."""
    table, names = kinetics.table, []
    for r, regulator in enumerate(table.regulators):
        own = table.species[int(kinetics.regulator_state[r])]
        level: Tree = ("max", found.name(own), 0.0)
        if bool(kinetics.regulator_hidden[r]):
            level = ("exp", found.name(own))
        activity = found.name(f"activity {own}")
        found.parameters[activity] = 1.0
        gains = [
            ("*", float(gain), found.name(f"signal {signal}"))
            for gain, signal in zip(np.asarray(kinetics.gain)[r], table.inputs, strict=True)
            if gain
        ]
        tree: Tree = ("*", level, activity, ("exp", _plus(gains))) if gains else ("*", level, activity)
        names.append(found.name(f"input {regulator}"))
        found.ruled[names[-1]] = tree
    return names


def _promoters(found: Written, kinetics: GeneKinetics, inputs: list[str]) -> None:
    promoter, genes = kinetics.promoter, kinetics.table.genes
    if not isinstance(promoter, Promoter | HillAverage):
        raise PinnsimError.of("E_SBML_UNSUPPORTED", f"Promoters of kind {type(promoter).__name__} are not written.")
    write: Callable[[int], tuple[Tree, Tree | None]] = (
        _thermodynamic(found, kinetics, promoter, inputs)
        if isinstance(promoter, Promoter)
        else _average(found, kinetics, promoter, inputs)
    )
    for i, gene in enumerate(genes):
        odds, active = write(i)
        shift = found.name(kinetics.table.species[len(kinetics.table.species) - len(genes) + i])
        if active is None:
            total = ("+", odds, shift) if kinetics.own_inputs else odds
            active = ("/", 1.0, ("+", 1.0, ("exp", ("neg", total))))
        elif kinetics.own_inputs:
            lifted = ("*", active, ("exp", shift))
            active = ("/", lifted, ("+", ("-", 1.0, active), lifted))
        found.ruled[found.name(f"promoter {gene}")] = active


def _edge(found: Written, label: str, values: Mapping[str, float]) -> dict[str, str]:
    names = {}
    for kind, value in values.items():
        names[kind] = found.name(f"{kind} {label}")
        found.parameters[names[kind]] = float(value)
    return names


def _binding(names: Mapping[str, str], seen: str) -> Tree:
    """theta = (x / K)^n; nothing is bound of what is not there, to the last digit that `simulate` keeps."""
    return ("^", ("/", ("max", seen, _LEAST), names["affinity"]), names["hill"])


def _thermodynamic(
    found: Written, kinetics: GeneKinetics, promoter: Promoter, inputs: list[str]
) -> Callable[[int], tuple[Tree, Tree | None]]:
    source, target = np.asarray(promoter.source), np.asarray(promoter.target)
    omega, hill, affinity = (
        np.exp(np.asarray(promoter.energy())),
        np.asarray(promoter.hill),
        np.asarray(promoter.affinity),
    )
    reference = np.maximum(np.asarray(promoter.reference), _LEAST)
    # What regulators at their reference inputs add is part of the number that a gene has of its own.
    theta = (reference[source] / affinity) ** hill
    at_reference = np.bincount(target, np.log((1 + omega * theta) / (1 + theta)), minlength=kinetics.genes)
    basal = np.asarray(promoter.basal) - at_reference

    def odds(i: int) -> tuple[Tree, Tree | None]:
        name = found.name(f"basal {kinetics.table.genes[i]}")
        found.parameters[name] = float(basal[i])
        parts: list[Tree] = [name]
        for e in np.flatnonzero(target == i).tolist():
            label = kinetics.table.edges[e]
            names = _edge(found, label, {"affinity": affinity[e], "hill": hill[e], "omega": omega[e]})
            theta = _binding(names, inputs[source[e]])
            parts.append(("log", ("/", ("+", 1.0, ("*", names["omega"], theta)), ("+", 1.0, theta))))
        return _plus(parts), None

    return odds


def _average(
    found: Written, kinetics: GeneKinetics, promoter: HillAverage, inputs: list[str]
) -> Callable[[int], tuple[Tree, Tree | None]]:
    edges, sign = len(kinetics.table.edges), np.asarray(promoter.sign)
    rising = np.where(sign == 0, np.asarray(jax.nn.sigmoid(promoter.tilt)), np.where(sign > 0, 1.0, 0.0))

    def active(i: int) -> tuple[Tree, Tree | None]:
        gene = kinetics.table.genes[i]
        leak = found.name(f"leak {gene}")
        found.parameters[leak] = float(promoter.leak[i])
        parts: list[Tree] = []
        for j, e in enumerate(np.asarray(promoter.edge)[i].tolist()):
            if e >= edges:
                continue
            names = _edge(
                found,
                kinetics.table.edges[e],
                {
                    "affinity": float(promoter.affinity[i, j]),
                    "hill": 2.0 if promoter.square else float(promoter.hill[i, j]),
                    "weight": float(promoter.weight[i, j]),
                    "rising": float(rising[i, j]),
                },
            )
            theta = _binding(names, inputs[int(promoter.source[i, j])])
            top = ("+", ("-", 1.0, names["rising"]), ("*", names["rising"], theta))
            parts.append(("*", names["weight"], ("/", top, ("+", 1.0, theta))))
        return 0.0, ("+", leak, ("*", ("-", 1.0, leak), _plus(parts)))

    return active


def _flows(found: Written, kinetics: GeneKinetics) -> None:
    """Reactions, each with a factor, and added production."""
    table, genes = kinetics.table, kinetics.table.genes
    rates = {
        "transcription": kinetics.synthesis,
        "splicing": kinetics.splicing,
        "decay": kinetics.decay,
        "translation": kinetics.translation,
        "protein_decay": kinetics.protein_decay,
    }
    read = {
        "splicing": "unspliced",
        "decay": kinetics.mature_layer,
        "translation": kinetics.mature_layer,
        "protein_decay": "protein",
    }
    matrix = kinetics.stoichiometry()
    for r, own in enumerate(table.reactions):
        kind, _, gene = own.partition(":")
        i = genes.index(gene)
        factor, rate = found.name(f"factor {own}"), found.name(f"rate {own}")
        found.parameters[factor] = 1.0
        found.parameters[rate] = float(np.asarray(rates[kind])[i])
        what = found.name(f"promoter {gene}") if kind == "transcription" else found.name(f"{gene}.{read[kind]}")
        changes = {found.name(table.species[k]): int(matrix[k, r]) for k in np.flatnonzero(matrix[:, r])}
        found.reactions.append((found.name(own), own, ("*", factor, rate, what), changes))
    for name, own, _ in list(found.species):
        drive = found.name(f"drive {own}")
        found.parameters[drive] = 0.0
        found.reactions.append((found.name(f"supply {own}"), f"supply of {own}", drive, {name: 1}))


def math_of(tree: Tree) -> str:
    """MathML of a tree."""
    if isinstance(tree, float):
        return f"<cn> {tree!r} </cn>" if math.isfinite(tree) else "<notanumber/>"
    if isinstance(tree, str):
        return f"<ci> {tree} </ci>"
    return f"<apply><{_WORDS.get(tree[0], tree[0])}/>{''.join(map(math_of, tree[1:]))}</apply>"


def sbml_text(found: Written, time_unit: str, *, dropped: bool = False) -> str:
    """The SBML document of parts."""
    math_in = '<math xmlns="http://www.w3.org/1998/Math/MathML">{}</math>'.format

    def listed(kind: str, items: Iterable[str]) -> str:
        inside = "\n".join(items)
        return f"<listOf{kind}>\n{inside}\n</listOf{kind}>\n" if inside else ""

    labels = {name: own for own, name in found.names.items()}

    def parameter(name: str, value: float | None, constant: bool) -> str:
        number = "" if value is None else f' value="{value!r}"'
        shown = quoteattr(labels.get(name, name))
        return f'<parameter id="{name}" name={shown}{number} constant="{str(constant).lower()}"/>'

    def reaction(name: str, own: str, law: Tree, changes: Mapping[str, int]) -> str:
        sides = {
            "Reactants": {s: -n for s, n in changes.items() if n < 0},
            "Products": {s: n for s, n in changes.items() if n > 0},
        }
        written = "".join(
            listed(
                side, (f'<speciesReference species="{s}" stoichiometry="{n}" constant="true"/>' for s, n in of.items())
            )
            for side, of in sides.items()
        )
        used = [s for s, _, _ in found.species if s in _names(law) and s not in changes]
        more = listed("Modifiers", (f'<modifierSpeciesReference species="{s}"/>' for s in used))
        kinetic = f"<kineticLaw>{math_in(math_of(law))}</kineticLaw>"
        return f'<reaction id="{name}" name={quoteattr(own)} reversible="false">\n{written}{more}{kinetic}</reaction>'

    seconds = _UNITS.get(time_unit)
    unit = (
        ""
        if seconds is None
        else (
            '<listOfUnitDefinitions><unitDefinition id="time_unit"><listOfUnits><unit kind="second" exponent="1" '
            f'scale="0" multiplier="{seconds!r}"/></listOfUnits></unitDefinition></listOfUnitDefinitions>\n'
        )
    )
    units = "" if seconds is None else ' timeUnits="time_unit"'
    note = "Gene kinetics; amounts in arbitrary units, time in " + escape(time_unit)
    note += "; the model's learned residual is left out" if dropped else ""
    rules = [
        f'<assignmentRule variable="{name}">{math_in(math_of(tree))}</assignmentRule>'
        for name, tree in found.ruled.items()
    ]
    rules += [
        f'<rateRule variable="{name}">{math_in(math_of(tree))}</rateRule>' for name, (_, tree) in found.rated.items()
    ]
    parameters = [parameter(name, value, True) for name, value in found.parameters.items()]
    parameters += [parameter(name, None, False) for name in found.ruled]
    parameters += [parameter(name, value, False) for name, (value, _) in found.rated.items()]
    species = (
        f'<species id="{name}" name={quoteattr(own)} compartment="cell" initialAmount="{value!r}" constant="false" '
        'hasOnlySubstanceUnits="true" boundaryCondition="false"/>'
        for name, own, value in found.species
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<sbml xmlns="http://www.sbml.org/sbml/level3/version2/core" level="3" version="2">\n'
        f'<model id="gene_kinetics"{units}>\n<notes><p xmlns="http://www.w3.org/1999/xhtml">{note}.</p></notes>\n'
        f'{unit}<listOfCompartments>\n<compartment id="cell" size="1" spatialDimensions="3" constant="true"/>\n'
        f"</listOfCompartments>\n{listed('Species', species)}{listed('Parameters', parameters)}"
        f"{listed('Rules', rules)}"
        f"{listed('Reactions', (reaction(*one) for one in found.reactions))}</model>\n</sbml>\n"
    )


def _names(tree: Tree) -> set[str]:
    if isinstance(tree, str):
        return {tree}
    return set().union(*map(_names, tree[1:])) if isinstance(tree, tuple) else set()

"""What `pinnsim init --template petab` writes: a small PEtab problem, whose measurements are made up.

    mRNA' = transcription * inducer - decay_mRNA * mRNA,      protein' = translation * mRNA - decay_protein * protein

A culture rests without its inducer, which is then added, and in one of two experiments taken away again.
"""

PROBLEM = "problem.yaml"
_YAML = """\
# A PEtab problem (version 2): a kinetic model in SBML, what was measured, and which numbers are to be found.
# The example's measurements are MADE UP: replace them, and the tables' rows, by your own. All tables have tabs.
format_version: 2.0.0

# The model. Its time is in hours, its amounts in arbitrary units; both are said in the file.
model_files:
  expression: {language: sbml, location: model.xml}

# What is to be found (estimate = true), between which bounds; the others are known. Numbers of the model by their SBML
# identifiers, and numbers that only observables have. Priors are optional (priorDistribution, priorParameters).
parameter_files: [parameters.tsv]

# What is seen of the model, by formula, and how noisy; noiseDistribution: normal, laplace, log-normal, log-laplace.
observable_files: [observables.tsv]

# A row per reading: observable, experiment, time, value.
measurement_files: [measurements.tsv]

# An experiment is a sequence of periods, each under a condition; time = -inf is rest before it begins.
experiment_files: [experiments.tsv]

# A condition sets numbers or amounts of the model (targetId) to a value or a formula (targetValue).
condition_files: [conditions.tsv]
"""
_LAWS = {
    "transcribe": ("", "mRNA", "transcription", "inducer"),
    "degrade_mRNA": ("mRNA", "", "decay_mRNA", "mRNA"),
    "translate": ("", "protein", "translation", "mRNA"),
    "degrade_protein": ("protein", "", "decay_protein", "protein"),
}
_START = {"inducer": 0.1, "transcription": 1.0, "decay_mRNA": 1.0, "translation": 1.0, "decay_protein": 1.0}
_TRUE = {"transcription": 8.0, "decay_mRNA": 0.7, "translation": 2.0, "decay_protein": 0.15}
_SHOWN, _NOISE = 12.0, 0.1  # fluorescence of a unit of protein; standard deviation of the logarithm
_TIMES = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 9.0, 14.0)  # hours
_PERIODS = {"added": ((0.0, 1.0),), "pulse": ((0.0, 1.0), (4.0, 0.1))}  # from when on, how much inducer


def problem_example() -> dict[str, str]:
    """The files of a problem, by name."""
    parameters: list[tuple[object, ...]] = [("parameterId", "lowerBound", "upperBound", "nominalValue", "estimate")]
    parameters += [(name, 0.01, 100, 1, "true") for name in _TRUE if name != "translation"]
    # Protein is seen in units of its own, so that translation and the scale are one number to the data.
    parameters += [("translation", 0.01, 100, _TRUE["translation"], "false")]
    parameters += [("scale", 0.1, 1000, 1, "true"), ("noise", 0.01, 1, 0.2, "true")]
    observables: list[tuple[object, ...]] = [
        ("observableId", "observableFormula", "noiseFormula", "noiseDistribution"),
        ("rna", "mRNA", "noise", "log-normal"),
        ("fluorescence", "scale * protein", "noise", "log-normal"),
    ]
    conditions: list[tuple[object, ...]] = [
        ("conditionId", "targetId", "targetValue"),
        ("without", "inducer", 0.1),
        ("with", "inducer", 1),
    ]
    experiments: list[tuple[object, ...]] = [("experimentId", "time", "conditionId")]
    for name, periods in _PERIODS.items():
        experiments += [(name, "-inf", "without")]
        experiments += [(name, f"{time:g}", "with" if level == 1 else "without") for time, level in periods]
    tables: dict[str, list[tuple[object, ...]]] = {
        "parameters.tsv": parameters,
        "observables.tsv": observables,
        "measurements.tsv": [("observableId", "experimentId", "time", "measurement"), *_measured()],
        "experiments.tsv": experiments,
        "conditions.tsv": conditions,
    }
    return {PROBLEM: _YAML, "model.xml": _model()} | {
        name: "".join("\t".join(map(str, row)) + "\n" for row in rows) for name, rows in tables.items()
    }


def _measured() -> list[tuple[object, ...]]:
    """Readings of the exact course with noise on the logarithm."""
    import numpy as np
    from scipy.linalg import expm

    rows: list[tuple[object, ...]] = []
    k, rng = _TRUE, np.random.default_rng(0)
    flow = np.array([[-k["decay_mRNA"], 0.0], [k["translation"], -k["decay_protein"]]])
    for name, periods in _PERIODS.items():
        rest = -np.linalg.solve(flow, [k["transcription"], 0.0])
        state = rest * 0.1
        ends = [*(time for time, _ in periods[1:]), np.inf]
        for (start, level), end in zip(periods, ends, strict=True):
            for time in _TIMES:
                if start < time <= end:
                    seen = rest * level + expm(flow * (time - start)) @ (state - rest * level)
                    for what, value in (("rna", seen[0]), ("fluorescence", _SHOWN * seen[1])):
                        rows.append((what, name, time, f"{value * np.exp(rng.normal(0, _NOISE)):.4g}"))
            if np.isfinite(end):
                state = rest * level + expm(flow * (end - start)) @ (state - rest * level)
    return rows


def _model() -> str:
    species = "".join(
        f'  <species id="{name}" compartment="cell" initialAmount="0" hasOnlySubstanceUnits="true" '
        'boundaryCondition="false" constant="false"/>\n'
        for name in ("mRNA", "protein")
    )
    numbers = "".join(f'  <parameter id="{name}" value="{value}" constant="true"/>\n' for name, value in _START.items())
    laws = "".join(_reaction(name, *law) for name, law in _LAWS.items())
    return f"""\
<?xml version="1.0" encoding="UTF-8"?>
<sbml xmlns="http://www.sbml.org/sbml/level3/version2/core" level="3" version="2">
<model id="expression" timeUnits="hour">
<listOfUnitDefinitions><unitDefinition id="hour"><listOfUnits>
  <unit kind="second" exponent="1" scale="0" multiplier="3600"/></listOfUnits></unitDefinition></listOfUnitDefinitions>
<listOfCompartments><compartment id="cell" size="1" spatialDimensions="3" constant="true"/></listOfCompartments>
<listOfSpecies>
{species}</listOfSpecies>
<listOfParameters>
{numbers}</listOfParameters>
<listOfReactions>
{laws}</listOfReactions>
</model>
</sbml>
"""


def _reaction(name: str, used: str, made: str, rate: str, by: str) -> str:
    sides = "".join(
        f'<listOf{side}><speciesReference species="{one}" stoichiometry="1" constant="true"/></listOf{side}>'
        for side, one in (("Reactants", used), ("Products", made))
        if one
    )
    if by in ("mRNA", "protein") and by not in (used, made):
        sides += f'<listOfModifiers><modifierSpeciesReference species="{by}"/></listOfModifiers>'
    law = f"<apply><times/><ci> {rate} </ci><ci> {by} </ci></apply>"
    return (
        f'  <reaction id="{name}" reversible="false">{sides}\n'
        f'    <kineticLaw><math xmlns="http://www.w3.org/1998/Math/MathML">{law}</math></kineticLaw></reaction>\n'
    )

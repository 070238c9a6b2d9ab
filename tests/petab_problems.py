"""Small PEtab problems with closed forms, written to a folder as text; JSON is YAML, too.

A <-> B, rates k1 and k2 of one compartment of size 1:
A(t) = (A0 + B0) k2 / (k1 + k2) + (A0 k1 - B0 k2) / (k1 + k2) exp(-(k1 + k2) t)
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

MODEL = """<sbml xmlns="http://www.sbml.org/sbml/level3/version2/core" level="3" version="2"><model id="conversion">
<listOfCompartments><compartment id="C" size="1" spatialDimensions="3" constant="true"/></listOfCompartments>
<listOfSpecies>
<species id="A" compartment="C" initialConcentration="1" hasOnlySubstanceUnits="false" boundaryCondition="false"
 constant="false"/>
<species id="B" compartment="C" initialConcentration="0" hasOnlySubstanceUnits="false" boundaryCondition="false"
 constant="false"/></listOfSpecies>
<listOfParameters><parameter id="k1" value="0.8" constant="true"/><parameter id="k2" value="0.6" constant="true"/>
<parameter id="b0" value="0.5" constant="true"/></listOfParameters>
<listOfInitialAssignments><initialAssignment symbol="B"><math xmlns="http://www.w3.org/1998/Math/MathML"><ci> b0 </ci>
</math></initialAssignment></listOfInitialAssignments>
<listOfReactions><reaction id="R" reversible="true"><listOfReactants><speciesReference species="A" stoichiometry="1"
 constant="true"/></listOfReactants><listOfProducts><speciesReference species="B" stoichiometry="1" constant="true"/>
</listOfProducts><kineticLaw><math xmlns="http://www.w3.org/1998/Math/MathML"><apply><times/><ci> C </ci><apply><minus/>
<apply><times/><ci> k1 </ci><ci> A </ci></apply><apply><times/><ci> k2 </ci><ci> B </ci></apply></apply></apply></math>
</kineticLaw></reaction></listOfReactions></model></sbml>
"""


def conversion(times: np.ndarray, a0: float, b0: float, k1: float, k2: float) -> np.ndarray:
    """A(t), (time,)."""
    rate, total = k1 + k2, a0 + b0
    return total * k2 / rate + (a0 * k1 - b0 * k2) / rate * np.exp(-rate * np.asarray(times))


def table(path: Path, rows: Sequence[Mapping[str, object]]) -> str:
    """Writes a table; its file's name."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = ["\t".join(columns), *("\t".join(str(row.get(column, "")) for column in columns) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path.name


def version_two(folder: Path, model: str = MODEL, **tables: Sequence[Mapping[str, object]]) -> Path:
    """A problem of version 2 from its tables (`parameter`, `observable`, `measurement`, ...); the YAML file."""
    (folder / "model.xml").write_text(model)
    files = {f"{kind}_files": [table(folder / f"{kind}.tsv", rows)] for kind, rows in tables.items()}
    files |= {"format_version": "2.0.0", "model_files": {"m": {"language": "sbml", "location": "model.xml"}}}
    (folder / "problem.yaml").write_text(json.dumps(files))
    return folder / "problem.yaml"


def version_one(folder: Path, model: str = MODEL, **tables: Sequence[Mapping[str, object]]) -> Path:
    """A problem of version 1 from its tables; the YAML file."""
    (folder / "model.xml").write_text(model)
    files = {kind: table(folder / f"{kind}.tsv", rows) for kind, rows in tables.items()}
    parameter = files.pop("parameter")
    one = {f"{kind}_files": [name] for kind, name in files.items()} | {"sbml_files": ["model.xml"]}
    grouping = {"format_version": 1, "parameter_file": parameter, "problems": [one]}
    (folder / "problem.yaml").write_text(json.dumps(grouping))
    return folder / "problem.yaml"

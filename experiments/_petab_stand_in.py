"""What stands in for the PEtab test suite and published problems where they are not there: one problem of our own."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

OWN = "own"
NOTE = "A small problem of our own stands in for the suite and the published problems."


def stand_in(folder: Path) -> Path:
    """A suite of one case of our own, which is a published problem, too: a decay, S' = -k S, seen through a scale."""
    place = folder / "v2.0.0" / "0001"
    place.mkdir(parents=True)
    times, k, scale, sd = np.array([0.0, 1.0, 2.0, 4.0]), 0.5, 2.0, 0.1
    exact = scale * np.exp(-k * times)
    measured = exact + np.array([0.1, -0.1, 0.05, 0.0])
    law = "<apply><times/><ci>k</ci><ci>S</ci></apply>"
    (place / "model.xml").write_text(
        '<sbml xmlns="http://www.sbml.org/sbml/level3/version2/core" level="3" version="2"><model id="decay">'
        '<listOfCompartments><compartment id="C" size="1" spatialDimensions="3" constant="true"/></listOfCompartments>'
        '<listOfSpecies><species id="S" compartment="C" initialAmount="1" constant="false" '
        'hasOnlySubstanceUnits="false" boundaryCondition="false"/></listOfSpecies><listOfParameters><parameter id="k" '
        'value="1" constant="true"/></listOfParameters><listOfReactions><reaction id="R" reversible="false">'
        '<listOfReactants><speciesReference species="S" stoichiometry="1" constant="true"/></listOfReactants>'
        f'<kineticLaw><math xmlns="http://www.w3.org/1998/Math/MathML">{law}</math></kineticLaw></reaction>'
        "</listOfReactions></model></sbml>"
    )
    (place / "parameters.tsv").write_text(
        "parameterId\tlowerBound\tupperBound\tnominalValue\testimate\n"
        f"k\t0.01\t5\t{k}\ttrue\nscale\t0.1\t10\t{scale}\ttrue\n"
    )
    (place / "observables.tsv").write_text(
        f"observableId\tobservableFormula\tnoiseFormula\tnoiseDistribution\ny\tscale * S\t{sd}\tnormal\n"
    )
    rows = "".join(f"y\t\t{t}\t{m}\n" for t, m in zip(times, measured, strict=True))
    (place / "measurements.tsv").write_text(f"observableId\texperimentId\ttime\tmeasurement\n{rows}")
    names = {f"{kind}_files": [f"{kind}s.tsv"] for kind in ("parameter", "observable", "measurement")}
    models = {"m": {"language": "sbml", "location": "model.xml"}}
    grouping = yaml.safe_dump({"format_version": "2.0.0", **names, "model_files": models})
    chi2 = float(np.sum((measured - exact) ** 2) / sd**2)
    llh = -0.5 * chi2 - len(times) * math.log(sd * math.sqrt(2 * math.pi))
    (place / "_0001.yaml").write_text(grouping)
    (place / "_0001_solution.yaml").write_text(yaml.safe_dump({"llh": llh, "chi2": chi2}))
    pd.DataFrame({"simulation": exact}).to_csv(place / "_simulations.tsv", sep="\t", index=False)
    (folder / OWN).symlink_to(place)
    (place / f"{OWN}.yaml").write_text(grouping)
    (folder / "reference_log_likelihood.json").write_text(json.dumps({OWN: {"log_likelihood_at_nominal": llh}}))
    return folder

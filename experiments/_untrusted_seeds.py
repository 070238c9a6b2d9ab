"""Sound files of every kind that is read, small, for damage to start from."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from pinnsim import shelf
from pinnsim.formats.sbml.read import parsed_text

MODELS = (
    "A -> B; k*A; k = 0.7; A = 3; B = 0.5",
    "compartment C = 2; species A in C, B in C; A -> 2B; C*k*A/(Km + A); k = 1; Km = 0.3; A = 4; B = 0",
    "A -> ; k*A; -> A; s*piecewise(1, time < 1.3, 0.2); k = 0.5; s = 1; A = 0.1",
    "E' = 0.3 - 0.5*E; E = 1; A -> B; k/(1 + E^2)*A; k = 1; A = 2; B = 0",
    "f := 1 + 0.5*sin(time); A -> B; f*k*A; k = 0.4; A = 1; B = 0",
    "function mm(x, v, K)\n v*x/(K + x)\nend\nmodel m()\n A -> B; mm(A, v, K); v = 1; K = 0.2; A = 5; B = 0\nend",
    "$S -> X; k1*S; X -> Y; k2*X*X; 2Y -> ; k3*Y; S = 2; X = 0; Y = 1; k1 = 1; k2 = 0.4; k3 = 0.1",
    "A -> B; k*A; B -> A; r*B; k = r*2; r = 0.3; A := 2*k; A = 1; B = 0".replace("A := 2*k; A = 1", "A = 2*k"),
)
PROJECT = """[data]
tidy = "data.csv"
gene = "gene"
condition = "condition"
time_unit = "min"
scale = "log2"

[treatments]
drug = "signal(drug)=1@0:"

[network]
path = "network.csv"

[prior]
half_lives = "half_lives.csv"
unit = "min"

[model.regulation]
[fit]
trajectory_steps = 10
seed = 3
"""
PETAB = {
    "problem.yaml": "format_version: 2.0.0\nparameter_files: [parameters.tsv]\nobservable_files: [observables.tsv]\n"
    "measurement_files: [measurements.tsv]\nexperiment_files: [experiments.tsv]\ncondition_files: [conditions.tsv]\n"
    "model_files: {m: {language: sbml, location: model.xml}}\n",
    "parameters.tsv": "parameterId\tlowerBound\tupperBound\tnominalValue\testimate\nk\t0.01\t10\t0.5\ttrue\n"
    "scale\t0.1\t10\t2\ttrue\n",
    "observables.tsv": "observableId\tobservableFormula\tnoiseFormula\ny\tscale * A\t0.1\nz\tA + B^2\t0.1 + 0.05*B\n",
    "conditions.tsv": "conditionId\ttargetId\ttargetValue\nlow\tA\t1.5\nhigh\tA\t3.0\n",
    "experiments.tsv": "experimentId\ttime\tconditionId\none\t0\tlow\ntwo\t0\thigh\n",
    "measurements.tsv": "observableId\texperimentId\ttime\tmeasurement\n"
    "y\tone\t0\t2.1\ny\tone\t1\t1.1\nz\ttwo\t3\t0.5\n",
}


def write_seeds(folder: Path) -> dict[str, list[Path]]:
    """Files, or folders of files, by kind: what `_untrusted_reader` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    seeds: dict[str, list[Path]] = {"antimony": [], "sbml": []}
    for k, text in enumerate(MODELS):
        seeds["antimony"].append(_text(folder / f"m{k}.ant", text))
        found = parsed_text(text.encode(), "seed", kind="antimony")
        seeds["sbml"].append(_text(folder / f"m{k}.xml", found["sbml"]))
    seeds["project"] = [_project(folder / "project")]
    seeds["petab"] = [_petab(folder / "petab", seeds["sbml"][0])]
    seeds["campaign"] = [shelf.campaign_path("toggle")]
    seeds["system"] = [shelf.path(name) / "model.toml" for name in ("schlogl", "gata1_pu1", "repressilator")]
    seeds["bundle"] = [shelf.path("toggle_switch")]
    seeds["simulation"] = [_simulation(folder / "simulation.nc")]
    seeds["h5ad"] = [_h5ad(folder / "cells.h5ad")]
    return seeds


def copied(seed: Path, target: Path) -> Path:
    """A copy of a seed to be damaged, where another was before."""
    if target.is_dir():
        shutil.rmtree(target)
    elif target.exists():
        target.unlink()
    if seed.is_dir():
        shutil.copytree(seed, target)
    else:
        shutil.copyfile(seed, target)
    return target


def _text(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _project(folder: Path) -> Path:
    folder.mkdir()
    draw = np.random.default_rng(5)
    rows = [
        (gene, condition, time, round(float(draw.normal(8.0, 1.0)), 3))
        for condition in ("control", "drug")
        for time in (0.0, 5.0, 15.0, 30.0)
        for gene in ("a", "b", "c", "d")
    ]
    pd.DataFrame(rows, columns=["gene", "condition", "time", "value"]).to_csv(folder / "data.csv", index=False)
    _text(folder / "network.csv", "regulator,target,sign\na,b,1\na,c,-1\nc,d,0\n")
    _text(folder / "half_lives.csv", "gene,half_life\na,3.5\nb,5.0\nc,4.0\nd,6.0\n")
    _text(folder / "project.toml", PROJECT)
    return folder


def _petab(folder: Path, model: Path) -> Path:
    folder.mkdir()
    shutil.copyfile(model, folder / "model.xml")
    for name, text in PETAB.items():
        _text(folder / name, text)
    return folder


def _h5ad(path: Path) -> Path:
    import anndata

    draw = np.random.default_rng(6)
    cells = anndata.AnnData(
        draw.poisson(3.0, size=(30, 6)).astype(np.float64),
        obs=pd.DataFrame({"hours": np.repeat([0.0, 6.0, 12.0], 10)}, index=[f"cell{k}" for k in range(30)]),
        var=pd.DataFrame(index=[f"gene{k}" for k in range(6)]),
    )
    cells.write_h5ad(path)
    return path


def _simulation(path: Path) -> Path:
    from pinnsim.formats.simulation import save_simulation
    from pinnsim.simulate import simulate

    system = shelf.load_system("schlogl").system
    save_simulation(path, simulate(system, np.linspace(0.0, 1.0, 5)).to_xarray())
    return path

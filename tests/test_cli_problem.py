"""`pinnsim fit` of a PEtab problem: what is written is the problem with the numbers that were found."""

import json

import pandas as pd
import pytest
from command_line import call

pytest.importorskip("libsbml", reason="python-libsbml is not installed (pip install 'pinnsim[sbml]')")
pytest.importorskip("yaml", reason="PyYAML is not installed (pip install 'pinnsim[petab]')")


def test_the_example_is_fitted_and_written_again(tmp_path) -> None:
    assert call("init", tmp_path / "mine", "--template", "petab").status == 0
    out = tmp_path / "fitted"
    called = call("fit", tmp_path / "mine" / "problem.yaml", "--out", out, "--starts", "3", "--no-progress", "--json")
    assert called.status == 0, called.err
    found = json.loads(called.out)
    assert (out / "fitted.png").stat().st_size > 10_000
    table = pd.read_csv(out / "parameters.csv").set_index("parameter")
    # What made the example up, but for its noise of 10 %.
    for name, true in {"transcription": 8.0, "decay_mRNA": 0.7, "decay_protein": 0.15, "scale": 12.0}.items():
        assert table.loc[name, "fitted"] == pytest.approx(true, rel=0.25), name
    assert found["log_likelihood"] > found["log_likelihood_at_nominal"]
    assert found["starts"] == len(pd.read_csv(out / "fit.csv")) == 3
    written = pd.read_csv(out / "problem" / "parameters.tsv", sep="\t").set_index("parameterId")["nominalValue"]
    assert written["scale"] == pytest.approx(table.loc["scale", "fitted"], rel=1e-12)
    simulated = pd.read_csv(out / "simulation.tsv", sep="\t")
    assert len(simulated) == found["measurements"] == 32
    again = call("fit", tmp_path / "mine" / "problem.yaml", "--out", out)
    assert (again.status, again.err.partition(":")[0]) == (2, "E_USAGE")


def test_what_is_for_projects_is_refused_of_a_problem(tmp_path) -> None:
    called = call("fit", tmp_path / "problem.yaml", "--out", tmp_path / "out", "--without", "added")
    assert (called.status, called.err.partition(":")[0]) == (2, "E_USAGE")
    assert not (tmp_path / "out").exists()

"""A project file: every form of data is read, everything that is wrong is said at once, nothing is guessed."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pinnsim import shelf
from pinnsim.errors import PinnsimError
from pinnsim.fit import FitPlan
from pinnsim.project import Project, load_project

VALUES = np.random.default_rng(0).normal(10, 2, (2, 2, 4, 3))  # condition, replicate, time, gene
TIMES, GENES, CONDITIONS = (0.0, 5.0, 10.0, 30.0), ("a", "b", "c"), ("sugar", "salt")

TIDY = """
[data]
tidy = "tables/tidy.csv"
gene = "locus"
value = "log2"
condition = "medium"
replicate = "flask"
time_unit = "min"
scale = "log2"
source = "nobody 2024"
[prior]
organism = "B. subtilis"
"""
WIDE = """
[data]
wide = "tables/wide.csv"
samples = "tables/samples.csv"
gene = "gene"
time = "minutes"
condition = "medium"
replicate = "flask"
time_unit = "min"
scale = "log2"
[network]
path = "tables/network.csv"
allow_missing = true
[prior]
half_lives = "tables/half_lives.csv"
log_sd = 0.3
"""
EMBEDDED = """
[data]
name = "bsubtilis_carbon_shift"
[prior]
organism = "B. subtilis"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("project")
    (root / "tables").mkdir()
    long, wide, samples = [], {}, []
    for c, medium in enumerate(CONDITIONS):
        for r, flask in enumerate("xy"):
            for k, time in enumerate(TIMES):
                name = f"{medium}_{flask}_{k}"
                wide[name] = VALUES[c, r, k]
                samples.append({"sample": name, "minutes": time, "medium": medium, "flask": flask})
                entry = {"time": time, "medium": medium, "flask": flask}
                long += [{"locus": gene, "log2": VALUES[c, r, k, g], **entry} for g, gene in enumerate(GENES)]
    pd.DataFrame(long).to_csv(root / "tables" / "tidy.csv", index=False)
    pd.DataFrame(wide, index=pd.Index(GENES, name="gene")).to_csv(root / "tables" / "wide.csv")
    pd.DataFrame(samples).to_csv(root / "tables" / "samples.csv", index=False)
    edges = {"source": ["a", "b", "q"], "target": ["b", "c", "z"], "sign": [1, -1, 1]}
    pd.DataFrame(edges).to_csv(root / "tables" / "network.csv", index=False)
    halves = {"gene": GENES, "half_life": [2.0, 4.0, 8.0], "unit": ["min"] * 3, "source": ["table 1"] * 3}
    pd.DataFrame(halves).to_csv(root / "tables" / "half_lives.csv", index=False)
    return root


def project(folder: Path, text: str) -> Project:
    (folder / "project.toml").write_text(text, encoding="utf-8")
    return load_project(folder / "project.toml")


def refusal(folder: Path, text: str) -> PinnsimError:
    with pytest.raises(PinnsimError) as caught:
        project(folder, text)
    return caught.value


@pytest.mark.parametrize("text", [TIDY, WIDE], ids=["tidy", "wide"])
def test_tables_are_read_from_beside_the_file(folder: Path, text: str, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # paths are the file's, not the session's
    found = project(folder, text)
    assert found.measured.conditions == CONDITIONS
    assert found.measured.genes == GENES
    np.testing.assert_allclose(found.measured.values, VALUES)
    # What is fitted is the mean, without the spread of two flasks as an error.
    assert found.dataset.replicates != found.measured.replicates
    np.testing.assert_allclose(np.asarray(found.dataset.values)[:, 0], VALUES.mean(axis=1))
    assert np.isnan(found.dataset.sd).all()
    assert found.prior.genes == GENES


def test_networks_and_half_lives_are_read(folder: Path) -> None:
    wide = project(folder, WIDE)
    assert wide.network.edges == ("a->b", "b->c")
    np.testing.assert_allclose(wide.prior.rate.median, np.log(2) / np.array([2.0, 4.0, 8.0]))
    assert project(folder, TIDY).network.edges == ()
    strict = refusal(folder, WIDE.replace("allow_missing = true", ""))
    assert strict.codes == ("E_GENE_UNMATCHED",)
    assert "z" in str(strict)


def test_embedded_data_bring_their_network(folder: Path) -> None:
    found = project(folder, EMBEDDED)
    assert found.network.genes == found.dataset.genes == found.measured.genes
    assert len(found.network.edges) > 100
    assert str(found.dataset.treatments[0]) == str(found.measured.treatments[0])


def test_options_of_the_data_are_obeyed(folder: Path) -> None:
    text = TIDY.replace("[data]", '[data]\nreplicates = "each"\nmeasured_sd = "use"\nsimulated = true')
    found = project(folder, text)
    assert found.dataset.replicates == ("x", "y")
    assert found.dataset.simulated
    assert found.dataset.source == "nobody 2024"
    used = project(folder, TIDY.replace("[data]", '[data]\nmeasured_sd = "use"'))
    standard_error = np.abs(VALUES[:, 0] - VALUES[:, 1]) / 2
    np.testing.assert_allclose(np.asarray(used.dataset.sd)[:, 0], standard_error)


def test_treatments_are_added_to_those_of_the_data(folder: Path) -> None:
    text = TIDY + '[treatments]\nsalt = "a=0@5:"\n"*" = "signal(late)=1@20:"\n'
    found = project(folder, text)
    told = dict(zip(found.measured.conditions, map(str, found.measured.treatments), strict=True))
    assert told == {"sugar": "signal(late)=1@20:", "salt": "a=0@5:, signal(late)=1@20:"}
    embedded = project(folder, EMBEDDED + '[treatments]\nglc_mal = "ccpN=0@30:"\n')
    before = project(folder, EMBEDDED)
    first, second = (str(p.measured.treatments[p.measured.conditions.index("glc_mal")]) for p in (before, embedded))
    assert second == f"{first}, ccpN=0@30:"


def test_unknown_conditions_are_named_with_the_nearest(folder: Path) -> None:
    error = refusal(folder, TIDY + '[treatments]\nslat = "none"\npepper = "none"\n')
    assert error.codes == ("E_CONDITION_UNKNOWN", "E_CONDITION_UNKNOWN")
    assert "'slat' (did you mean 'salt'?), but the conditions are sugar, salt" in str(error)


def test_unknown_keys_are_refused_together_with_their_lines(folder: Path) -> None:
    text = TIDY.replace("time_unit", "time_units") + "[fit]\nstart = 3\n[fitt]\n"
    error = refusal(folder, text)
    assert set(error.codes) == {"E_CONFIG_KEY"}
    assert len(error.problems) == 3
    for hint in ("did you mean 'time_unit'?", "did you mean 'starts'?", "did you mean 'fit'?", "line 8"):
        assert hint in str(error)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[data]\n", "exactly one of name, tidy and wide"),
        ('[data]\nname = "x"\ntidy = "y"\n', "exactly one of name, tidy and wide"),
        ('[data]\nwide = "tables/wide.csv"\n', 'also needs samples = "FILE"'),
        ('[data]\nname = "x"\n[fit]\nstarts = 0\nschedule = "linear"\n', "starts"),
        ("", "'data' is missing"),
    ],
)
def test_impossible_values_are_refused(folder: Path, text: str, told: str) -> None:
    error = refusal(folder, text)
    assert set(error.codes) == {"E_CONFIG_VALUE"}
    assert told in str(error)


def test_what_only_the_user_can_say_is_asked_for(folder: Path) -> None:
    unsaid = TIDY.replace('time_unit = "min"\n', "").replace('scale = "log2"\n', "")
    assert {"E_TIME_UNIT"} <= set(refusal(folder, unsaid).codes)
    assert refusal(folder, TIDY.replace('organism = "B. subtilis"', "")).codes == ("E_PRIOR_MISSING",)
    absent = refusal(folder, TIDY.replace("tidy.csv", "none.csv"))
    assert absent.codes == ("E_DATA_FILE",)


def test_sections_can_be_replaced_by_the_caller(folder: Path) -> None:
    (folder / "project.toml").write_text(TIDY)
    assert load_project(folder / "project.toml", fit=FitPlan(starts=1)).config.fit.starts == 1
    assert load_project(folder / "project.toml").config.fit == FitPlan()


def test_the_shelfs_project_is_read() -> None:
    found = load_project(shelf.experiment_path("carbon_shift").with_suffix(".toml"))
    assert found.config.model.regulation.hidden == "all"
    assert set(found.config.score.candidates) == {"model.inputs.late.own_sd", "model.regulation.tau_sd"}

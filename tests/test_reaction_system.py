"""Reaction systems as files: they come back as they were, what cannot be stored is refused, and bad files are told of
at once."""

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from command_line import call, listing

from pinnsim.dynamics.motifs import birth_death, isoform_kinetics, schlogl, telegraph, toggle
from pinnsim.dynamics.reactions import Reaction, ReactionSystem, reaction_system
from pinnsim.errors import PinnsimError
from pinnsim.formats.reaction_system import load_system, save_system
from pinnsim.perturbation import Perturbation


def isoforms() -> ReactionSystem:
    rates = {"splicing": [0.3, 0.2, 1 / 3], "decay": 0.1, "translation": [2.0, 1.0, 4.0], "protein_decay": 0.01}
    return isoform_kinetics(["A", "B"], [0, 0, 1], [0, 1, 2], transcription=[3.0, np.pi], **rates)


def relay() -> ReactionSystem:
    return reaction_system(
        [
            Reaction("bind", "A + 2 B -> A:B.2", 1e-17),
            Reaction("free", "A:B.2 -> A + 2 B", 1e300),
            Reaction("make", "2 A:B.2 -> 3 A:B.2", 0.1),
            Reaction("stop", "A ->", 0.0),
        ],
        time_unit="h",
        species=["B", "A:B.2", "A", "unused"],
        start={"A": 0.1 + 0.2, "B": 1e-12},
    )


@pytest.mark.parametrize(
    "make", [schlogl, birth_death, lambda: telegraph(["x", "y"], on=[0.1, 0.7]), isoforms, relay]
)  # fmt: skip
def test_a_system_comes_back_as_it_was(make, tmp_path) -> None:
    system = make()
    file = tmp_path / "system.toml"
    save_system(file, system, {"source": "made up", "times": [0, 4]})
    loaded = load_system(file)
    assert loaded.notes == {"source": "made up", "times": [0, 4]}
    again = loaded.system
    assert (again.table, again.time_unit) == (system.table, system.time_unit)
    np.testing.assert_array_equal(again.stoichiometry(), system.stoichiometry())
    np.testing.assert_array_equal(again.start, system.start)
    np.testing.assert_array_equal(again.law.constant, system.law.constant)
    assert [sorted(row) for row in again.structure.reactants] == [sorted(row) for row in system.structure.reactants]
    state = jnp.asarray(np.random.default_rng(0).uniform(0.1, 3.0, len(system.table.species)))
    rates = [s.propensities(jnp.zeros(()), state, Perturbation.none(s.table)) for s in (system, again)]
    np.testing.assert_array_equal(*rates)
    save_system(tmp_path / "twice.toml", again, loaded.notes)
    assert (tmp_path / "twice.toml").read_bytes() == file.read_bytes()


def test_rates_that_are_code_cannot_be_stored(tmp_path) -> None:
    with pytest.raises(PinnsimError, match=r"E_CKPT_MODEL: The rates of this system are Python code \(Mutual"):
        save_system(tmp_path / "x.toml", toggle())
    assert listing(tmp_path) == set()


BAD = """
schema_version = 1
kind = "reaction_system"
time_unit = "h"
[start]
A = -1.0
Q = 2.0
[[reactions]]
name = "bind"
equation = "A + B <-> C"
rate = 0.1
[[reactions]]
name = "bind"
equation = "10 A -> B"
rate = -2.0
"""


def test_all_that_is_wrong_with_a_file_is_told_at_once(tmp_path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(BAD)
    with pytest.raises(PinnsimError) as caught:
        load_system(file)
    told = str(caught.value)
    for part in ("looks reversible", "counts 'A' 10 times", "these repeat: bind", "is -2.0", "A = -1.0", "Q"):
        assert part in told
    assert all("bad.toml" in problem.message for problem in caught.value.problems)
    file.write_text(BAD.replace("rate = 0.1", "rates = 0.1").replace('time_unit = "h"', "time_unit = 3"))
    with pytest.raises(PinnsimError, match=r"did you mean 'rate'") as caught:
        load_system(file)
    assert set(caught.value.codes) == {"E_CONFIG_KEY", "E_CONFIG_VALUE"}
    file.write_text(BAD.replace("schema_version = 1", "schema_version = 2"))
    with pytest.raises(PinnsimError, match="E_CKPT_VERSION"):
        load_system(file)


def test_the_command_line_simulates_a_file_and_the_shelf(tmp_path) -> None:
    file, out = tmp_path / "closed.toml", tmp_path / "x.nc"
    closed = reaction_system(
        [Reaction("there", "A -> B", 0.7), Reaction("back", "B -> A", 0.3)], time_unit="h", start={"A": 10.0}
    )
    save_system(file, closed)
    called = call("simulate", file, "--times", "0,1", "-t", "none", "-t", "reaction(back)*0@0:", "--out", out)
    assert called.status == 0, called.err
    with xr.open_datatree(out) as tree:
        found = tree["/species/abundance"].values
        assert tree.attrs["begins"] == "start"
    np.testing.assert_allclose(found[:, 1, 0], [3 + 7 * np.exp(-1.0), 10 * np.exp(-0.7)], rtol=1e-5)
    called = call("simulate", file, "--times", "0,1", "--from", "rest", "--out", out)
    with xr.open_datatree(out) as tree:
        np.testing.assert_allclose(tree["/species/abundance"].values[0], [[3.0, 7.0], [3.0, 7.0]], rtol=1e-6)
    options = ("--method", "ssa", "--size", "1", "--cells", "5", "--out", out)
    called = call("simulate", "telegraph", "--times", "0,5", *options)
    assert called.status == 0, called.err
    with xr.open_datatree(out) as tree:
        cells = tree["/species/abundance"].values[0]
    np.testing.assert_array_equal(cells[..., :2].sum(axis=-1), 1.0)
    refused = call("simulate", file, "--times", "0,1", "--from", "sample", "--data", "d", "--condition", "c", "-o", out)
    assert refused.status == 2
    assert "which a reaction system has not" in refused.err

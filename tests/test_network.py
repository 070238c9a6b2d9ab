"""Networks and kinetic priors: aliases, signs, restriction, the shuffled control, and half-lives with their sources."""

import numpy as np
import pandas as pd
import pytest

from pinnsim.data import carbon_shift
from pinnsim.errors import CODES, PinnsimError, Problem, Problems
from pinnsim.network import Network
from pinnsim.prior import half_life, half_life_prior, rate_of


def codes(call, *arguments, **options):
    with pytest.raises(PinnsimError) as error:
        call(*arguments, **options)
    return error.value.codes, str(error.value)


@pytest.mark.parametrize(
    "names",
    [
        ("source", "target", "weight"),
        ("tf", "target", "sign"),
        ("regulator", "gene", "mor"),
        ("tf", "target", "effect"),
    ],
)
def test_aliases_read_alike(names):
    frame = pd.DataFrame(dict(zip(names, (["x", "y"], ["y", "x"], [1, -1]), strict=True)))
    network = Network.from_frame(frame)
    assert network.edges == ("x->y", "y->x")
    np.testing.assert_array_equal(network.sign, [1.0, -1.0])


def test_unknown_signs_stay_learnable():
    frame = pd.DataFrame({"tf": ["x", "y", "z"], "target": ["y", "x", "x"], "sign": ["activation", "?", "repression"]})
    np.testing.assert_array_equal(Network.from_frame(frame).sign, [1.0, 0.0, -1.0])


def test_no_edges_is_told():
    assert codes(Network.from_frame, pd.DataFrame({"tf": [], "target": []}))[0] == ("E_NETWORK_EMPTY",)


def test_genes_that_the_data_lack_are_told_with_the_nearest():
    network = Network.from_frame(pd.DataFrame({"tf": ["Gata1", "Spi1"], "target": ["Spi1", "Gata1"], "sign": [1, -1]}))
    found, text = codes(network.restrict, ("GATA1", "Spi1"))
    assert found == ("E_GENE_UNMATCHED",)
    assert "GATA1" in text
    found, _ = codes(network.restrict, ("a", "b"), allow_missing=True)
    assert "E_GENE_UNMATCHED" in found


def test_the_shuffled_network_keeps_every_degree():
    _, network = carbon_shift()
    shuffled = network.shuffled(3)
    for ends in ("source", "target"):
        np.testing.assert_array_equal(np.bincount(getattr(shuffled, ends)), np.bincount(getattr(network, ends)))
    assert len(set(shuffled.edges)) == len(shuffled.edges) == len(network.edges)
    assert len(set(shuffled.edges) & set(network.edges)) < 0.5 * len(network.edges)
    assert shuffled.edges == network.shuffled(3).edges != network.shuffled(4).edges


def test_a_network_comes_back_from_its_table():
    _, network = carbon_shift()
    again = Network.from_frame(network.to_frame(), genes=network.genes)
    assert again.edges == network.edges
    np.testing.assert_array_equal(again.sign, network.sign)


def test_no_half_life_is_ever_assumed_silently():
    assert codes(half_life_prior, None, ("a",))[0] == ("E_PRIOR_MISSING",)


def test_the_report_says_which_gene_got_which_prior():
    table = pd.DataFrame({"gene": ["a"], "half_life": [2.0], "unit": ["h"], "source": ["own measurement"]})
    prior = half_life_prior(table, ("a", "b"), organism="B. subtilis", time_unit="min")
    report = prior.report().set_index("gene")
    assert "own measurement" in report.loc["a", "source"]
    assert "Hambraeus" in report.loc["b", "source"]
    np.testing.assert_allclose(np.asarray(prior.rate.median), np.log(2) / np.array([120.0, 5.0]))


def test_half_life_and_rate_are_inverse():
    np.testing.assert_allclose(half_life(rate_of([0.1, 3.0])), [0.1, 3.0], rtol=1e-15)


def test_bad_half_lives_are_told():
    table = pd.DataFrame({"gene": ["a", "b"], "half_life": [-2.0, 3.0], "unit": ["h", "h"]})
    assert "E_PRIOR_VALUE" in codes(half_life_prior, table, ("a", "b"))[0]


def test_problems_are_collected_and_raised_together():
    problems = Problems()
    problems.add("E_BOUNDS", "first.")
    problems.add("E_DATA_EMPTY", "second.")
    found, text = codes(problems.raise_any)
    assert found == ("E_BOUNDS", "E_DATA_EMPTY")
    assert text.splitlines() == ["E_BOUNDS: first.", "E_DATA_EMPTY: second."]


def test_codes_are_registered_and_have_exit_statuses():
    assert {status for status, _ in CODES.values()} == {0, 2, 3, 4}
    with pytest.raises(ValueError, match="E_BOUND"):
        Problem("E_BOUND", "no such code")
    assert PinnsimError.of("E_SOLVER", "x").exit_status == 4


@pytest.mark.parametrize("twice", ["regulator", "sign"])
def test_a_column_that_is_there_twice_is_refused(tmp_path, twice) -> None:
    (tmp_path / "network.csv").write_text(f"regulator,target,sign,notes,notes,{twice}\na,b,1,,,1\n")
    with pytest.raises(PinnsimError, match=f"E_COLUMN_MISSING: .*has several columns named {twice}"):
        Network.read(tmp_path / "network.csv")
    (tmp_path / "network.csv").write_text("regulator,target,sign,notes,notes\na,b,1,,\n")
    assert Network.read(tmp_path / "network.csv").genes == ("a", "b")

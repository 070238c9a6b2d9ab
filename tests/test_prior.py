"""Kinetic priors: densities against scipy, units, sources, and the refusal to assume anything in silence."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pinnsim.errors import PinnsimError
from pinnsim.prior import TYPICAL, LogNormal, dilution_prior, half_life, half_life_prior, rate_of
from pinnsim.units import TIME_UNITS, time_factor

UNITS = st.sampled_from(sorted(TIME_UNITS))


def codes(call, *arguments, **options):
    with pytest.raises(PinnsimError) as error:
        call(*arguments, **options)
    return error.value.codes, str(error.value)


def table(**columns):
    return pd.DataFrame({"gene": ["a", "b"], "half_life": [2.0, 30.0], "unit": ["h", "min"], **columns})


def test_log_densities_are_those_of_scipy():
    median, log_sd, x = np.array([0.1, 2.0]), np.array([0.4, 1.0]), np.array([0.3, 0.7])
    prior = LogNormal(jnp.asarray(median), jnp.asarray(log_sd))
    expected = stats.lognorm.logpdf(x, log_sd, scale=median)
    np.testing.assert_allclose(prior.log_density(jnp.asarray(x)), expected, rtol=1e-13)
    expected = stats.norm.logpdf(np.log(x), np.log(median), log_sd)
    np.testing.assert_allclose(prior.log_density_log(jnp.log(jnp.asarray(x))), expected, rtol=1e-13)


def test_the_log_density_peaks_at_the_median():
    prior = LogNormal(jnp.asarray([0.1]), jnp.asarray([0.4]))
    slope = jax.grad(lambda y: prior.log_density_log(y).sum())
    np.testing.assert_allclose(slope(jnp.log(prior.median)), 0.0, atol=1e-14)


@given(value=st.floats(1e-3, 1e3), stated=UNITS, asked=UNITS)
def test_a_half_life_is_the_same_in_every_unit(value, stated, asked):
    prior = half_life_prior(table(half_life=[value] * 2, unit=[stated] * 2), ("a",), time_unit=asked)
    found = half_life(np.asarray(prior.rate.median)) * time_factor(asked, stated)
    np.testing.assert_allclose(found, [value], rtol=1e-13)
    again = prior.in_unit(stated)
    assert again.time_unit == stated
    np.testing.assert_allclose(again.rate.median, rate_of([value]), rtol=1e-13)


def test_the_unit_comes_from_a_column_a_suffix_or_an_argument_and_is_never_guessed():
    plain = table().drop(columns="unit")
    named = plain.rename(columns={"half_life": "half_life_h"})
    for prior in (
        half_life_prior(plain, ("a",), table_unit="h", time_unit="h"),
        half_life_prior(named, ("a",), time_unit="h"),
    ):
        np.testing.assert_allclose(half_life(np.asarray(prior.rate.median)), [2.0])
    assert codes(half_life_prior, plain, ("a",))[0] == ("E_TIME_UNIT",)


def test_the_order_is_that_of_the_genes_asked_for():
    prior = half_life_prior(table(log_sd=["0.2", ""]), ("b", "a"), time_unit="min")
    np.testing.assert_allclose(half_life(np.asarray(prior.rate.median)), [30.0, 120.0])
    np.testing.assert_allclose(prior.rate.log_sd, [0.4, 0.2])
    assert prior.source == ("measured: table", "measured: table")


def test_typical_values_stand_in_only_when_the_organism_is_named():
    found, text = codes(half_life_prior, table(), ("a", "B"))
    assert found == ("E_PRIOR_MISSING",)
    assert "'B'→'b'" in text
    found, _ = codes(half_life_prior, table(), ("a", "c"), organism="yeast", allow_missing="error")
    assert found == ("E_GENE_UNMATCHED",)
    found, _ = codes(half_life_prior, table().iloc[:0], ("a",))
    assert found == ("E_PRIOR_MISSING",)
    report = half_life_prior(table(), ("a", "c"), organism="yeast", time_unit="h").report()
    assert report["source"].str.startswith(("measured: ", "typical: ")).all()
    np.testing.assert_allclose(report["half_life"], [2.0, 20.0 / 60.0])


def test_a_blank_half_life_is_not_a_measurement():
    report = half_life_prior(table(half_life=[2.0, np.nan]), ("a", "b"), organism="human").report()
    assert [source.partition(":")[0] for source in report["source"]] == ["measured", "typical"]


@pytest.mark.parametrize(("organism", "quantity"), sorted(TYPICAL))
def test_every_typical_value_can_be_asked_for_and_names_a_paper(organism, quantity):
    prior = half_life_prior(None, ("a",), organism=organism.upper(), quantity=quantity)
    typical = TYPICAL[organism, quantity]
    expected = typical.half_life * time_factor(typical.unit, "min")
    np.testing.assert_allclose(prior.report()["half_life"], [expected])
    assert " et al. " in typical.source or "&" in typical.source


def test_bacterial_proteins_are_diluted_by_growth():
    found, text = codes(half_life_prior, None, ("a",), organism="ecoli", quantity="protein")
    assert found == ("E_PRIOR_MISSING",)
    assert "dilution_prior" in text
    prior = dilution_prior(("a", "b"), 30.0)
    np.testing.assert_allclose(prior.rate.median, np.log(2) / 30.0)
    assert "doubling time 30 min" in prior.source[0]
    assert codes(dilution_prior, ("a",), 0.0)[0] == ("E_PRIOR_VALUE",)


def test_all_problems_of_a_table_come_at_once():
    frame = pd.DataFrame({"gene": list("aab"), "half_life": ["3", "4", "-1"], "unit": ["min", "min", "yr"]})
    found, text = codes(half_life_prior, frame, ("a", "b"), time_unit="eon")
    assert found == ("E_TIME_UNIT", "E_TIME_UNIT", "E_PRIOR_VALUE", "E_GENE_DUPLICATE")
    assert "row 2, b = -1" in text
    assert codes(half_life_prior, None, ("a",), organism="yeest")[0] == ("E_PRIOR_MISSING",)
    assert "'yeast'" in codes(half_life_prior, None, ("a",), organism="yeest")[1]

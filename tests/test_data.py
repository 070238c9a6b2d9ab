"""Data sets: what is read is what was written, and every bad table is refused with its code, all problems at once."""

from importlib.resources import files

import numpy as np
import pandas as pd
import pytest

from pinnsim.data import Dataset, carbon_shift, load, myoblasts, read_tidy, read_wide
from pinnsim.errors import PinnsimError, PinnsimWarning


@pytest.fixture(scope="module")
def shift():
    return carbon_shift()


def tidy(**changes):
    """Two genes, three times, one condition, counts."""
    columns = {
        "gene": ["a", "b"] * 3,
        "time": [0.0, 0.0, 1.0, 1.0, 2.0, 2.0],
        "value": [1.0, 30.0, 2.0, 20.0, 3.0, 9.0],
    }
    return pd.DataFrame({**columns, **changes})


def codes(call, *arguments, **options):
    with pytest.raises(PinnsimError) as error:
        call(*arguments, **options)
    return error.value.codes, str(error.value)


def test_the_embedded_data_are_those_of_the_table(shift):
    data, network = shift
    assert (len(data.genes), len(network.edges), len(network.regulators)) == (121, 210, 35)
    assert data.conditions == ("glc_mal", "mal_glc")
    np.testing.assert_array_equal(np.asarray(data.times), [[0, 5, 10, 15, 25, 45, 60, 90, 120, 150]] * 2)
    # GM+10_2 is bioreactor 2 although its rep_id is 1; bioreactor 1 has no sample at 10 min.
    at_ten = np.asarray(data.mask)[0, :, 2, 0]
    assert dict(zip(data.replicates, at_ten, strict=True)) == {"1": False, "2": True, "3": True}


def test_the_mean_is_that_of_all_samples(shift):
    data, _ = shift
    from importlib.resources import files

    folder = files("pinnsim.data") / "embedded" / "bsubtilis_carbon_shift"
    matrix = pd.read_csv(str(folder / "expression_log2.csv"), index_col="gene")
    samples = pd.read_csv(str(folder / "samples.csv"), index_col="sample")
    mean = data.mean()
    assert mean.replicates == ("mean",)
    for c, condition in enumerate(data.conditions):
        for t, time in enumerate(np.asarray(data.times)[c]):
            chosen = samples.index[(samples.experiment == condition) & (samples.time_min == time)]
            wanted = matrix.loc[list(data.genes), chosen].mean(axis=1)
            np.testing.assert_allclose(np.asarray(mean.values)[c, 0, t], wanted, rtol=0, atol=1e-12)


def test_a_table_comes_back_bit_for_bit(shift, tmp_path):
    data, _ = shift
    data.to_frame().to_csv(tmp_path / "table.csv", index=False)
    treatments = dict(zip(data.conditions, data.treatments, strict=True))
    again = read_tidy(
        tmp_path / "table.csv", time_unit="min", scale="log2", source=data.source, treatments=treatments
    ).select(genes=data.genes)
    for name in ("times", "values", "mask"):
        np.testing.assert_array_equal(np.asarray(getattr(again, name)), np.asarray(getattr(data, name)))


def test_rows_may_come_in_any_order():
    frame = tidy()
    one = read_tidy(frame, time_unit="h", scale="linear")
    other = read_tidy(frame.sample(frac=1.0, random_state=1), time_unit="h", scale="linear").select(genes=one.genes)
    np.testing.assert_array_equal(np.asarray(one.values), np.asarray(other.values))


def test_wide_and_tidy_agree():
    samples = pd.DataFrame({"sample": ["s0", "s1", "s2"], "time": [0.0, 1.0, 2.0]})
    matrix = pd.DataFrame({"gene": ["a", "b"], "s0": [1.0, 30.0], "s1": [2.0, 20.0], "s2": [3.0, 9.0]})
    wide = read_wide(matrix, samples, time_unit="h", scale="linear")
    np.testing.assert_array_equal(
        np.asarray(wide.values), np.asarray(read_tidy(tidy(), time_unit="h", scale="linear").values)
    )


def test_holding_out_hides_readings(shift):
    data, _ = shift
    train, test = data.mean().hold_out([(25.0, 45.0)])
    assert not (np.asarray(train.mask) & np.asarray(test.mask)).any()
    assert np.asarray(test.mask).any(axis=(0, 1, 3)).tolist() == [t in (25.0, 45.0) for t in np.asarray(data.times)[0]]
    assert (np.asarray(train.values)[np.asarray(test.mask)] == 0).all()  # a held-out value cannot leak


def test_genes_may_be_permuted(shift):
    data, _ = shift
    order = list(reversed(data.genes))
    np.testing.assert_array_equal(np.asarray(data.select(genes=order).values), np.asarray(data.values)[..., ::-1])


def test_an_array_form_has_names_and_units(shift):
    array = shift[0].to_xarray()
    assert set(array.dims) >= {"condition", "replicate", "time", "gene"}


def test_an_unknown_name_is_told_with_the_nearest():
    found, text = codes(load, "bsubtilis_carbon_shft")
    assert found == ("E_DATASET_UNKNOWN",)
    assert "bsubtilis_carbon_shift" in text


@pytest.mark.parametrize(
    ("frame", "options", "code"),
    [
        (tidy(value=[1.0, -30.0, 2.0, 20.0, 3.0, 9.0]), {"scale": "counts"}, "E_DATA_NEGATIVE"),
        (tidy(value=[1.0, np.nan, 2.0, np.inf, 3.0, 9.0]), {"scale": "linear"}, "E_DATA_NONFINITE"),
        (tidy(time=[0.0, 0.0, 0.0, 1.0, 2.0, 2.0]), {"scale": "linear"}, "E_TIME_ORDER"),
        (tidy(time=[1.0] * 6, gene=list("abcdef")), {"scale": "linear"}, "E_TIME_FEW"),
        (tidy(time=["0 min", "0 min", "1 h", "1 h", "2 h", "2 h"]), {"scale": "linear"}, "E_TIME_UNIT"),
        (tidy(time=[0.0, 0.0, np.nan, 1.0, 2.0, 2.0]), {"scale": "linear"}, "E_TIME_UNIT"),
        (tidy(value=[1.5, 8.7, 2.5, 7.5, 3.5, 6.1]), {"scale": "counts"}, "E_SCALE_MISMATCH"),
        (tidy(value=[1.0, 3000.0, 2.0, 2000.0, 3.0, 9.0]), {"scale": "log2"}, "E_SCALE_MISMATCH"),
        (tidy().iloc[:0], {"scale": "linear"}, "E_DATA_EMPTY"),
        (tidy().rename(columns={"value": "level"}), {"scale": "linear"}, "E_COLUMN_MISSING"),
    ],
)
def test_bad_tables_have_their_code(frame, options, code):
    found, text = codes(read_tidy, frame, time_unit="h", **options)
    assert code in found
    assert "Traceback" not in text


def test_what_is_declared_missing_is_masked():
    frame = tidy(value=[1.0, np.nan, 2.0, 20.0, 3.0, 9.0])
    data = read_tidy(frame, time_unit="h", scale="linear", missing="mask")
    assert int(np.asarray(data.mask).sum()) == 5


def test_duplicate_genes_are_refused_or_joined():
    samples = pd.DataFrame({"sample": ["s0", "s1"], "time": [0.0, 1.0]})
    matrix = pd.DataFrame({"gene": ["a", "a"], "s0": [1.0, 3.0], "s1": [2.0, 4.0]})
    found, text = codes(read_wide, matrix, samples, time_unit="h", scale="linear")
    assert "E_GENE_DUPLICATE" in found
    assert "'a'" in text
    joined = read_wide(matrix, samples, time_unit="h", scale="linear", aggregate="mean")
    np.testing.assert_array_equal(np.asarray(joined.values).ravel(), [2.0, 3.0])


def test_a_constant_gene_is_told():
    frame = tidy(value=[1.0, 5.0, 2.0, 5.0, 3.0, 5.0])
    with pytest.warns(PinnsimWarning, match="W_GENE_CONSTANT.*b"):
        read_tidy(frame, time_unit="h", scale="linear")
    found, _ = codes(read_tidy, frame, time_unit="h", scale="linear", targets=["b"])
    assert "E_GENE_CONSTANT" in found


def test_raw_counts_called_logarithms_are_told():
    with pytest.warns(PinnsimWarning, match="W_SCALE_RAW"):
        read_tidy(tidy(value=[1.0, 300.0, 2.0, 200.0, 3.0, 90.0]), time_unit="h", scale="log2")


def test_all_problems_of_a_table_come_at_once():
    frame = tidy(value=[-1.0, np.nan, 2.0, 20.0, 3.0, 9.0])
    found, _ = codes(read_tidy, frame, time_unit="h", scale="counts")
    assert {"E_DATA_NEGATIVE", "E_DATA_NONFINITE"} <= set(found)


def test_a_size_beyond_memory_is_refused_before_it_is_made():
    from pinnsim.data.check import check_size
    from pinnsim.errors import Problems

    problems = Problems()
    assert not check_size(problems, {"genes": 10**6, "cells": 10**6}, 16e9)
    assert problems.codes == ("E_SIZE",) or list(problems.codes) == ["E_SIZE"]
    assert "8 TB" in str(problems.found[0])


def test_an_array_data_set_needs_increasing_times():
    values = np.ones((1, 1, 3, 2)) * np.arange(3)[None, None, :, None]
    found, text = codes(
        Dataset.build,
        genes=("a", "b"),
        conditions=("c",),
        replicates=("1",),
        times=np.array([[0.0, 8.0, 6.0]]),
        values=values,
        time_unit="h",
        scale="linear",
    )
    assert "E_TIME_ORDER" in found
    assert "6" in text


def test_embedded_myoblasts():
    cells = myoblasts()
    assert cells.there.sum(axis=2).tolist() == [[69, 74, 79, 49]]
    assert cells.times.tolist() == [[0.0, 24.0, 48.0, 72.0]]
    assert len(cells.genes) == 56
    assert cells.time_unit == "h"
    assert not cells.simulated
    mean = cells.values[0, :, :, 0, cells.genes.index("MYOG")].sum(axis=1) / cells.there[0].sum(axis=1)
    assert mean[2] > 2 * mean[0]  # myogenin comes with differentiation
    assert (files("pinnsim.data") / "embedded" / "hsmm_myoblast" / "NOTICE.md").is_file()

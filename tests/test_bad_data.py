"""Bad tables and arrays: the code, the place, the first offenders and the remedy of every row of the contract, and what
makes each of them good. Simple cases are in `test_data.py`."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnsim.data import Dataset, carbon_shift, read_tidy, read_wide
from pinnsim.errors import PinnsimError
from pinnsim.network import Network

HOURS = {"time_unit": "h", "scale": "linear"}


def tidy(**changes):
    columns = {"gene": ["a", "b"] * 3, "time": [0.0, 0, 1, 1, 2, 2], "value": [1.0, 30, 2, 20, 3, 9]}
    return pd.DataFrame({**columns, **changes})


def matrix(**changes):
    return pd.DataFrame({"gene": ["a", "b"], "s0": [1.0, 30.0], "s1": [2.0, 20.0], "s2": [3.0, 9.0], **changes})


def samples(**changes):
    return pd.DataFrame({"sample": ["s0", "s1", "s2"], "time": [0.0, 1.0, 2.0], **changes})


def refused(call, *arguments, **options):
    with pytest.raises(PinnsimError) as error:
        call(*arguments, **options)
    return error.value.codes, str(error.value)


# What is wrong, how it is read, the codes and the words that the message must hold.
TIDY = {
    "negative": (tidy(value=[1.0, -2, 2, 20, 3, 9]), {"scale": "counts"}, ["E_DATA_NEGATIVE"], "gene b = -2"),
    "not finite": (
        tidy(value=[1.0, np.nan, np.inf, 20, 3, 9]),
        {},
        ["E_DATA_NONFINITE"],
        "1 NaN, 1 inf among 6 values (first: condition all, replicate 1, time 0, gene b = nan",
    ),
    "repeated": (tidy(time=[0.0, 0, 0, 1, 2, 2]), {}, ["E_TIME_ORDER"], "t=0, a in row 0, row 2"),
    "one time": (tidy(condition=["x"] * 4 + ["y"] * 2), {}, ["E_TIME_FEW"], "1 of 2 conditions (y)"),
    "text with a unit": (
        tidy(time=["0 min"] * 2 + ["5 min"] * 2 + ["9 min"] * 2),
        {},
        ["E_TIME_UNIT"],
        "time_unit='min'",
    ),
    "mixed units": (tidy(time=["0 min"] * 4 + ["1 h"] * 2), {}, ["E_TIME_UNIT"], "'min' (4 rows), 'h' (2 rows)"),
    "a unit here and there": (tidy(time=[0, 0, 1, 1, "2 h", 2]), {}, ["E_TIME_UNIT"], "none (5 rows)"),
    "no time": (tidy(time=[0.0, 0, np.nan, 1, 2, 2]), {}, ["E_TIME_UNIT"], "row 2 = nan"),
    "durations": (tidy(time=pd.to_timedelta([0, 0, 1, 1, 2, 2], unit="h")), {}, ["E_TIME_UNIT"], "durations"),
    "no unit": (tidy(), {"time_unit": None}, ["E_TIME_UNIT"], "never guessed"),
    "no scale": (tidy(), {"scale": None}, ["E_USAGE"], "never guessed"),
    "logs as counts": (
        tidy(value=[1.5, 8.7, 2.5, 7.5, 3.5, 6.1]),
        {"scale": "counts"},
        ["E_SCALE_MISMATCH"],
        "max 8.7 (looks log1p)",
    ),
    "counts as logs": (tidy(value=[1.0, 3000, 2, 20, 3, 9]), {"scale": "log1p"}, ["E_SCALE_MISMATCH"], "raw counts"),
    "nothing observed": (tidy(value=[np.nan] * 6), {"missing": "mask"}, ["E_DATA_EMPTY"], "no value"),
    "too large": (tidy(), {"limit": 10}, ["E_SIZE"], "3 times x 2 genes) needs 48 bytes, limit 10 bytes"),
    "unknown target": (tidy(), {"targets": "A"}, ["E_GENE_UNKNOWN"], "did you mean 'a'?"),
    "misspelt option": (tidy(), {"tme_kind": "x"}, ["E_USAGE"], "did you mean 'time_kind'?"),
    "no gene name": (tidy(gene=["a", None] * 3), {}, ["E_DATA_TYPE"], "blank"),
    "no spread": (tidy(sd=[1.0, 1, 1, 1, 1, 0]), {}, ["E_DATA_NEGATIVE"], "sd = 0"),
    "treatment": (
        tidy(),
        {"treatments": {"al": "X=0", "all": "foo bar"}},
        ["E_CONDITION_UNKNOWN", "E_PERTURB_TEXT"],
        "did you mean 'all'?",
    ),
    "two treatments": (tidy(treatment=["X=0"] * 3 + ["X*2"] * 3), {}, ["E_PERTURB_CONFLICT"], "(all)"),
}


@pytest.mark.parametrize(("frame", "options", "codes", "words"), TIDY.values(), ids=TIDY.keys())
def test_a_bad_tidy_table_is_refused_with_its_place_and_remedy(frame, options, codes, words):
    found, text = refused(read_tidy, frame, **{**HOURS, **options})
    assert list(found) == codes
    assert words in text


WIDE = {
    "falling times": (matrix(), samples(time=[0.0, 2, 1]), {}, ["E_TIME_ORDER"], "time[2]=1.0 after 2.0"),
    "equal times": (matrix(), samples(time=[0.0, 0, 1]), {}, ["E_TIME_ORDER"], "time[1]=0.0 after 0.0"),
    "repeated gene": (matrix(gene=["a", "a"]), samples(), {}, ["E_GENE_DUPLICATE"], "'a' ×2 (rows 0, 1)"),
    "other sample": (matrix(), samples(sample=["s0", "S1", "s2"]), {}, ["E_SAMPLE_UNMATCHED"] * 2, "mean 's1'?"),
    "transposed": (
        matrix().set_index("gene").T,
        samples(),
        {"allow_missing": True},
        ["E_SAMPLE_UNMATCHED"] * 2,
        "transposed",
    ),
    "repeated sample": (
        matrix(),
        samples(sample=["s0", "s0", "s2"]),
        {"allow_missing": True},
        ["E_SAMPLE_DUPLICATE"],
        "rows 2, 3",
    ),
    "sum of logarithms": (matrix(), samples(), {"aggregate": "sum", "scale": "log2"}, ["E_USAGE"], "aggregate='mean'"),
    "everything": (
        matrix(gene=["a", "a"], s1=[-1.0, np.nan]),
        samples(time=["0", "1", "z"]),
        {},
        ["E_GENE_DUPLICATE", "E_TIME_UNIT", "E_DATA_NONFINITE", "E_DATA_NEGATIVE"],
        "sample s1, gene a = -1",
    ),
}


@pytest.mark.parametrize(("cells", "about", "options", "codes", "words"), WIDE.values(), ids=WIDE.keys())
def test_a_bad_wide_table_is_refused_with_its_place_and_remedy(cells, about, options, codes, words):
    found, text = refused(read_wide, cells, about, **{**HOURS, **options})
    assert list(found) == codes
    assert words in text


ARRAYS = {
    "another shape": ({"values": np.ones((3, 2))}, ["E_DATA_SHAPE"], "(1, 1, 3, 2), but (1, 1, 2, 2)"),
    "rows of different lengths": ({"values": [[1.0, 2.0], [3.0]]}, ["E_DATA_SHAPE"], "different lengths"),
    "a length beyond the end": ({"length": [3]}, ["E_DATA_SHAPE"], "1 to 2"),
    "text": ({"values": [["1", "2"], ["3", "4"]]}, ["E_DATA_TYPE"], "'1'"),
    "times as text": ({"times": ["0", "1"]}, ["E_TIME_UNIT"], "time_unit="),
    "no times": ({"values": np.ones((0, 2)), "times": []}, ["E_DATA_EMPTY"], "no times"),
    "no genes": ({"values": np.ones((2, 0)), "genes": []}, ["E_DATA_EMPTY"], "no genes"),
    "three things": (
        {"values": [[1.0, -2.0], [2.0, 3.0]], "times": [3.0, 1.0], "genes": ["a", "a"]},
        ["E_GENE_DUPLICATE", "E_TIME_ORDER", "E_DATA_NEGATIVE"],
        "time[1]=1.0 after 3.0",
    ),
}


@pytest.mark.parametrize(("changes", "codes", "words"), ARRAYS.values(), ids=ARRAYS.keys())
def test_bad_arrays_are_refused(changes, codes, words):
    good = {"values": [[1.0, 2.0], [2.0, 3.0]], "times": [0.0, 1.0], "genes": ["a", "b"]}
    assert Dataset.build(**good, **HOURS).values.shape == (1, 1, 2, 2)
    found, text = refused(Dataset.build, **{**good, **changes}, **HOURS)
    assert list(found) == codes
    assert words in text


def test_a_declared_size_is_refused_before_it_is_allocated():
    n = 10**6
    values = np.broadcast_to(1.0, (1, 1, n, n))
    found, text = refused(Dataset.build, values, np.broadcast_to(0.0, (n,)), list(map(str, range(n))), **HOURS)
    assert found == ("E_SIZE",)
    assert "needs 8 TB, limit 16 GB" in text


FILES = {
    "empty": ("", ["E_DATA_FILE"]),
    "ragged": ("gene,time,value\na,0,1,7\n", ["E_DATA_FILE"]),
    "header only": ("gene,time,value\n", ["E_DATA_EMPTY"]),
    "other columns": ("gene,time,level\na,0,1\n", ["E_COLUMN_MISSING"]),
    "everything": (
        "gene,time,value\n\na,0 min,-1\nb,0 min,\na,1 h,3\nb,1 h,foo\n",
        ["E_TIME_UNIT", "E_DATA_TYPE", "E_DATA_NONFINITE", "E_DATA_NEGATIVE"],
    ),
}


@pytest.mark.parametrize(("text", "codes"), FILES.values(), ids=FILES.keys())
def test_a_bad_file_is_refused(text, codes, tmp_path):
    path = tmp_path / "course.csv"
    path.write_text(text, encoding="utf-8")
    found, message = refused(read_tidy, path, time_unit="h", scale="counts")
    assert list(found) == codes
    # Lines are those of the file, blank ones counted.
    assert codes[0] != "E_TIME_UNIT" or "line 3, gene a = -1" in message
    assert "'course.csv'" in refused(read_tidy, tmp_path / "curse.csv", **HOURS)[1]


SHEETS = {
    "latin-1": ("gene,time,value\na,0,1 °C\n".encode("latin-1"), "course.csv", "not text in UTF-8 (byte 0xb0)"),
    "workbook": (b"PK\3\4", "course.xlsx", "is a spreadsheet; save its sheet as CSV"),
    "decimal commas": (b'gene,time,value\na,0,"1,5"\n', "course.csv", "Write decimals with points"),
    "both marks": (b"gene;time;value\na;0;1,5\na;1;2.5\n", "course.csv", "line 2 = '1,5'). Write decimals with points"),
    "twice": (b"gene,time,value,value\na,0,1,2\n", "course.csv", "several columns named value"),
}


@pytest.mark.parametrize(("content", "name", "words"), SHEETS.values(), ids=SHEETS.keys())
def test_what_spreadsheets_write_is_refused_with_the_remedy(content, name, words, tmp_path):
    (tmp_path / name).write_bytes(content)
    assert words in refused(read_tidy, tmp_path / name, **HOURS)[1]


def test_semicolons_and_decimal_commas_are_read(tmp_path):
    path = tmp_path / "course.csv"
    path.write_text('gene;"time, h";dose;value\n"a,5;b";0;0,5;1,5\n"a,5;b";1,25;0,5;2e3\n', encoding="utf-8")
    data = read_tidy(path, time="time, h", condition="dose", **HOURS)
    assert data.genes == ("a,5;b",)
    assert data.conditions == ("0.5",)
    assert data.times[0].tolist() == [0.0, 1.25]
    assert data.values.ravel().tolist() == [1.5, 2000.0]


def test_what_spreadsheets_break_is_read_as_it_stands(tmp_path):
    path = tmp_path / "course.csv"
    path.write_text("\ufeffgene,time,value\nNA,0,0.1\nNA,1,1e-3\nMARCH1,0,3\nMARCH1,1,4\n", encoding="utf-8")
    data = read_tidy(path, **HOURS)
    assert data.genes == ("NA", "MARCH1")
    assert data.values[0, 0, :, 0].tolist() == [0.1, 1e-3]


def test_declared_escapes_accept_what_is_otherwise_refused():
    still = read_tidy(tidy(condition=["x"] * 4 + ["y"] * 2), steady_state=True, **HOURS)
    assert still.length.tolist() == [2, 1]
    assert (np.diff(still.times, axis=1) > 0).all()  # the padding goes on increasing
    assert not still.mask[1, :, 1].any()
    twice = read_wide(matrix(), samples(time=[0.0, 0.0, 1.0]), samples="average", **HOURS)
    assert twice.values[0, 0, :, 0].tolist() == [1.5, 3.0]
    assert twice.samples[0, 0, :, 0].tolist() == [2, 1]
    np.testing.assert_allclose(twice.sd[0, 0, 0, 0], np.std([1.0, 2.0], ddof=1) / np.sqrt(2))
    joined = read_wide(matrix(gene=["a", "a"]), samples(), aggregate="sum", **HOURS)
    assert joined.values.ravel().tolist() == [31.0, 22.0, 12.0]


def test_an_unknown_name_in_a_selection_is_told_with_the_nearest():
    data, _ = carbon_shift()
    found, text = refused(data.select, conditions="glc_ma", genes=["CcpA", "gapB", "gapB"])
    assert found == ("E_CONDITION_UNKNOWN", "E_GENE_UNKNOWN", "E_GENE_DUPLICATE")
    assert "'glc_mal'" in text
    assert "'ccpA'" in text
    assert refused(data.select, times=(200.0, 300.0))[0] == ("E_TIME_RANGE",)
    assert refused(data.hold_out, [(-1.0, 200.0)])[0] == ("E_TIME_RANGE",)


def test_all_problems_of_a_network_come_at_once():
    rows = {"tf": ["x", "x", "y", ""], "target": ["y", "y", None, "q"], "sign": [1, -1, "foo", 9]}
    found, text = refused(Network.from_frame, pd.DataFrame({**rows, "confidence": [1, 0, 2, "high"]}))
    assert found == ("E_NETWORK_EDGE", "E_NETWORK_SIGN", "E_DATA_TYPE", "E_NETWORK_EDGE", "E_NETWORK_EDGE")
    for words in ("row 2 = 'foo'", "row 1 = 0, row 2 = 2", "x->y (row 0, row 1; opposite signs)"):
        assert words in text
    assert refused(Network.from_frame, pd.DataFrame({"tf": ["x"], "target": ["y"], "weight": [0]}))[0] == (
        "E_NETWORK_EDGE",
    )
    assert refused(Network.from_frame(pd.DataFrame({"tf": ["x"], "target": ["y"]})).shuffled, 0)[0] == (
        "E_NETWORK_EMPTY",
    )


# Sizes (conditions, replicates, times, genes) and a seed. The data set itself is made in the test: beartype, which
# checks it, draws from `random`, and hypothesis forbids that inside a strategy.
COURSES = {
    "shape": st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(2, 4), st.integers(1, 3)),
    "seed": st.integers(0, 10**6),
}


def course(shape, seed):
    """A random data set: conditions of different lengths, missing values, sd and counts of samples."""
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < 0.7
    mask[:, 0, :2, 0] = True
    length = rng.integers(2, shape[2] + 1, shape[0])
    return Dataset.build(
        values=rng.normal(size=shape) + 8,
        times=np.cumsum(rng.random((shape[0], shape[2])) + 0.01, axis=1),
        genes=[f"g{i}" for i in range(shape[3])],
        conditions=[f"c{i}" for i in range(shape[0])],
        replicates=[f"r{i}" for i in range(shape[1])],
        mask=mask,
        sd=np.where(rng.random(shape) < 0.5, rng.random(shape) + 0.1, np.nan),
        samples=rng.integers(1, 4, shape),
        length=length,
        treatments={"c0": "signal(malate)=1@0:10, g0*0.5"},
        time_unit="h",
        scale="log2",
        steady_state=True,
    )


@given(**COURSES)
def test_every_data_set_comes_back_from_its_table_bit_for_bit(shape, seed):
    data = course(shape, seed)
    again = read_tidy(data.to_frame(), steady_state=True)
    # Padding beyond the longest condition holds nothing and is not written.
    keep = int(data.length.max())
    assert again.length.tolist() == data.length.tolist()
    for name in ("values", "mask", "sd", "samples"):
        np.testing.assert_array_equal(getattr(again, name), getattr(data, name)[:, :, :keep])
    assert (again.genes, again.conditions, again.replicates) == (data.genes, data.conditions, data.replicates)
    assert (again.treatments, again.time_unit, again.scale) == (data.treatments, "h", "log2")
    assert again.digest() == read_tidy(again.to_frame(), steady_state=True).digest()


@given(**COURSES)
def test_the_order_of_rows_and_genes_says_nothing(shape, seed):
    data = course(shape, seed)
    frame = data.to_frame()
    order = np.random.default_rng(seed).permutation(len(frame))
    names = {"genes": data.genes, "conditions": data.conditions}
    again = read_tidy(frame.iloc[order], steady_state=True)
    replicates = [again.replicates.index(name) for name in data.replicates]
    same = again.select(**names)
    keep = int(data.length.max())
    np.testing.assert_array_equal(same.values[:, replicates], data.values[:, :, :keep])
    there = data.select(genes=data.genes[::-1]).select(genes=data.genes)
    assert there.digest() == data.select().digest()


@given(**COURSES)
def test_the_mean_is_that_of_the_samples(shape, seed):
    data = course(shape, seed)
    mean = data.mean()
    for c, t, g in np.argwhere(data.mask.any(axis=1)).tolist():
        seen = data.mask[c, :, t, g]
        n, v = data.samples[c, seen, t, g], data.values[c, seen, t, g]
        np.testing.assert_allclose(mean.values[c, 0, t, g], np.average(v, weights=n), rtol=1e-13)
        assert mean.samples[c, 0, t, g] == n.sum() == data.n_samples()[c, t, g]


def test_the_error_of_a_mean_is_that_of_all_its_samples():
    # Culture 1 was sampled twice at t = 0: the three samples 1, 2 and 6 count alike.
    frame = tidy(replicate=["1", "1", "2", "1", "1", "2"], time=[0.0, 0, 0, 1, 2, 2], gene=["a"] * 6)
    frame["value"] = [1.0, 2.0, 6.0, 5.0, 7.0, 7.0]
    mean = read_tidy(frame, samples="average", **HOURS).mean()
    assert mean.values.ravel().tolist() == [3.0, 5.0, 7.0]
    expected = [np.std([1.0, 2.0, 6.0], ddof=1) / np.sqrt(3), np.nan, np.nan]
    np.testing.assert_allclose(mean.sd.ravel(), expected, rtol=1e-14)


@given(**COURSES)
def test_the_array_form_holds_the_same_values(shape, seed):
    data = course(shape, seed)
    array = data.to_xarray()
    assert array["time"].attrs["units"] == "h"
    assert int(array["value"].notnull().sum()) == int(data.mask.sum())
    for c, t in np.argwhere(np.arange(data.times.shape[1]) < data.length[:, None]).tolist():
        part = array["value"].isel(condition=c).sel(time=data.times[c, t]).to_numpy()
        np.testing.assert_array_equal(part, np.where(data.mask[c, :, t], data.values[c, :, t], np.nan))

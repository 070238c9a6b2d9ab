"""Fates: shares with Wilson's intervals, bars and bands that are as high as they say."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from matplotlib.patches import PathPatch, Rectangle

from pinnsim import plot
from pinnsim.errors import PinnsimError

STARTS = ["low"] * 40 + ["high"] * 60
ENDS = ["low"] * 30 + ["high"] * 10 + ["high"] * 60


@pytest.fixture(scope="module")
def table():
    return plot.fate_table(STARTS, ENDS)


def test_shares_and_intervals_are_wilsons(table):
    assert table["start"].tolist() == ["low", "low", "high", "high"]
    assert table["count"].tolist() == [30, 10, 0, 60]
    np.testing.assert_allclose(table["probability"], [0.75, 0.25, 0.0, 1.0])
    for row in table.itertuples():
        exact = scipy.stats.binomtest(row.count, 40 if row.start == "low" else 60).proportion_ci(0.95, "wilson")
        np.testing.assert_allclose([row.low, row.high], [exact.low, exact.high], atol=1e-12)
    ordered = plot.fate_table(STARTS, ENDS, order=["high", "low"], level=0.5)
    assert ordered["start"].tolist() == ["high", "high", "low", "low"]
    assert ordered["high"].max() <= 1
    with pytest.raises(PinnsimError, match="E_DATA_SHAPE.*\n.*E_USAGE"):
        plot.fate_table(STARTS, ENDS[1:], level=2)
    with pytest.raises(PinnsimError, match="E_DATA_EMPTY"):
        plot.fate_table([], [])


def test_bars_are_as_high_as_the_probabilities(table):
    ax = plot.fate_bars(table, simulated=True)
    ax.figure.canvas.draw()
    heights = [round(bar.get_height(), 6) for group in ax.containers[::2] for bar in group]
    assert sorted(heights) == [0.0, 0.25, 0.75, 1.0]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["low", "high"]
    assert "95 % interval" in ax.get_ylabel()
    bare = {"before": table[table["start"] == "low"][["start", "end", "probability"]], "after": table.iloc[2:]}
    with pytest.raises(PinnsimError, match="E_COLUMN_MISSING.*end"):
        plot.fate_bars(table[["start", "probability"]])
    ax = plot.fate_bars({name: part[["start", "end", "probability"]] for name, part in bare.items()})
    assert ax.get_ylabel() == "probability of the fate"
    assert ax.get_xlabel() == "condition"
    with pytest.raises(PinnsimError, match="E_DATA_SHAPE.*low -> high occurs twice"):
        plot.fate_bars(pd.concat([table, table.iloc[1:2]]))
    with pytest.raises(PinnsimError, match="E_USAGE.*1.5"):
        plot.fate_bars(table.assign(probability=1.5))


def test_bands_conserve_cells(table):
    ax = plot.fate_flow(table)
    ax.figure.canvas.draw()
    blocks = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    np.testing.assert_allclose([b.get_height() for b in blocks], [0.4, 0.6, 0.3, 0.7], atol=1e-12)
    bands = [patch.get_path().vertices for patch in ax.patches if isinstance(patch, PathPatch)]
    # Low to low, low to high, high to high; nothing from high to low.
    np.testing.assert_allclose([v[0, 1] - v[7, 1] for v in bands], [0.3, 0.1, 0.6], atol=1e-12)
    for v in bands:
        assert abs((v[3, 1] - v[4, 1]) - (v[0, 1] - v[7, 1])) < 1e-12
    assert {"low\n40%", "high\n60%", "low\n30%", "high\n70%"} <= {t.get_text() for t in ax.texts}
    even = plot.fate_flow(table, weights={"low": 1, "high": 1})
    assert even.patches[0].get_height() == pytest.approx(0.5)
    with pytest.raises(PinnsimError, match="E_USAGE.*add up to 1"):
        plot.fate_flow(table.iloc[1:])
    with pytest.raises(PinnsimError, match="E_USAGE.*Weights"):
        plot.fate_flow(table, weights={"low": 1})

"""Pictures: axes come back with labels and units, whatever is missing, and nothing warns or is left behind."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes

from pinnsim import plot
from pinnsim.data import Dataset
from pinnsim.errors import PinnsimError
from pinnsim.landscape import Projection, principal_components
from pinnsim.plot.style import CYCLE, STYLE, grid_shape, place_labels
from pinnsim.score.table import ScoreRow, ScoreTable

TIMES = np.array([0.0, 5.0, 15.0, 60.0])


def course(genes: int, *, simulated: bool = False) -> Dataset:
    rng = np.random.default_rng(genes)
    values = 10 + rng.normal(size=(2, 3, len(TIMES), genes)).cumsum(axis=2)
    mask = rng.random(values.shape) > 0.15
    mask[:, :, 0] = True
    return Dataset.build(
        values, TIMES, [f"g{k}" for k in range(genes)], ("one", "two"), ("1", "2", "3"),
        mask=mask, time_unit="min", scale="log2", simulated=simulated,
    )  # fmt: skip


def members(genes: int, count: int = 3) -> np.ndarray:
    return 10 + np.random.default_rng(0).normal(size=(count, len(TIMES), genes)).cumsum(axis=1)


def drawn(axes: Axes | list[Axes]) -> list[Axes]:
    """Draws and checks that every visible axis label has a text; returns the axes as a list."""
    listed = [axes] if isinstance(axes, Axes) else axes
    assert all(isinstance(ax, Axes) for ax in listed)
    listed[0].figure.canvas.draw()
    return listed


@pytest.mark.parametrize("genes", [1, 2, 5, 14])
def test_fits_are_shown_for_any_number_of_genes(genes):
    data, model = course(genes), members(genes)
    axes = drawn(plot.fit_panels(data, "one", TIMES, model, baselines={"no change": model[0], "mean": model[1]}))
    assert len(axes) == min(genes, 12)
    assert axes[0].get_ylabel() == "expression (log2)"
    assert axes[-1].get_xlabel() == "time (min)"
    assert {line.get_label() for line in axes[0].lines} >= {"model", "replicate", "mean", "no change"}
    assert "simulated" not in axes[0].figure.get_suptitle()


@pytest.mark.parametrize(("scale", "unit"), [("linear", "arbitrary units"), ("log1p", "log1p"), ("counts", "counts")])
def test_readings_of_every_scale_have_a_unit(scale, unit):
    values = np.arange(2.0 * len(TIMES)).reshape(1, 1, -1, 2)
    data = Dataset.build(values, TIMES, ["g0", "g1"], ("one",), time_unit="min", scale=scale)
    axes = drawn(plot.fit_panels(data, "one", TIMES, values[0, 0]))
    assert axes[0].get_ylabel() == f"expression ({unit})"


def test_a_failed_member_is_left_out_and_simulated_data_are_called_so():
    data, model = course(2, simulated=True), members(2)
    model[1] = np.nan
    ax = drawn(plot.fit_panels(data, "two", TIMES, model, genes=["g1"]))[0]
    line = next(line for line in ax.lines if line.get_label() == "model")
    assert np.allclose(line.get_ydata(), model[[0, 2], :, 1].mean(axis=0))
    assert "[simulated data]" in ax.figure.get_suptitle()
    model[:] = np.nan
    assert "model (failed)" in {line.get_label() for line in drawn(plot.fit_panels(data, "one", TIMES, model))[0].lines}


def test_fits_refuse_what_does_not_belong():
    data = course(2)
    with pytest.raises(PinnsimError, match="E_DATA_SHAPE"):
        plot.fit_panels(data, "one", TIMES, members(3))
    with pytest.raises(PinnsimError, match=r"E_GENE_UNKNOWN.*'g5'"):
        plot.fit_panels(data, "one", TIMES, members(2), genes=["g5"])
    with pytest.raises(PinnsimError, match="E_CONDITION_UNKNOWN"):
        plot.fit_panels(data, "three", TIMES, members(2))


def test_a_pulse():
    change = np.sin(TIMES / 20)
    upper, lower = drawn(
        plot.pulse_panel(
            TIMES,
            np.abs(change),
            {"g0": change, "g1": np.stack([change, np.nan * change])},
            (5, 15),
            signal="malate",
            time_unit="min",
            threshold=0.1,
        )  # fmt: skip
    )
    assert upper.get_ylabel() == "distance from rest (rms log2)"
    assert lower.get_xlabel() == "time (min)"
    assert upper.get_title(loc="left") == "malate for 10 min, then withdrawn"
    drawn(plot.pulse_panel(TIMES, np.full(4, np.nan), {}, (5, 15)))


def test_the_landscape_map():
    rng = np.random.default_rng(3)
    genes = ("a", "b", "c")
    samples = rng.normal(size=(8, 3))
    map_ = principal_components(samples, genes)
    broken = np.full((1, 4, 3), np.nan)
    courses = [
        plot.Course("up", TIMES, samples[:4], rng.normal(size=(2, 9, 3))),
        plot.Course("down", TIMES, samples[4:], None),
        plot.Course("lost", TIMES, None, broken),
    ]
    kinds = ("stable", "saddle", "unstable", "marginal")
    marks = [plot.Mark(kind.upper(), rng.normal(size=3), kind) for kind in kinds]
    flow = np.concatenate([rng.normal(size=(3, 4, 3)), broken])
    ax = drawn(plot.landscape_2d(map_, courses, marks, flow=flow, time_unit="min", labelled_times=[0, 60]))[0]
    assert ax.get_xlabel() == f"PC1: {map_.explained[0]:.0%} of the variance (log2)"
    texts = [text.get_text() for text in ax.texts if text.get_text()]
    assert sorted(texts) == sorted([*(k.upper() for k in kinds), "0 min", "60 min", "0 min", "60 min"])
    _no_overlap(ax)
    flat = Projection(np.zeros(1), np.ones((2, 1)), np.array([1.0, 0.0]), ("a",))
    drawn(plot.landscape_2d(flat, [plot.Course("one gene", TIMES, np.ones((4, 1)), np.ones((4, 1)))]))


def _no_overlap(ax: Axes) -> None:
    boxes = [text.get_window_extent() for text in ax.texts if text.get_text()]
    for i, a in enumerate(boxes):
        assert not any(a.overlaps(b) for b in boxes[:i])


def test_labels_of_crowded_points_do_not_cover_each_other():
    import matplotlib.pyplot as plt

    ax = plt.subplots(figsize=(4, 3))[1]
    points = [(0.5 + 0.01 * k, 0.5) for k in range(6)]
    ax.plot(*np.array(points).T, "o")
    ax.set(xlim=(0, 1), ylim=(0, 1))
    place_labels(ax, [*points, (np.nan, 0.5)], [*"uvwxyz", "nowhere"])
    assert len(ax.texts) == 6
    _no_overlap(ax)


@pytest.mark.parametrize("doses", [1, 7])
def test_dose_and_duration(doses):
    valley = np.where(np.add.outer(np.arange(doses), np.arange(5)) > 5, 1, 0)
    valley[0, 0] = -1
    found = np.full(doses, np.nan)
    found[2:3] = 3.0
    line = (np.arange(doses, dtype=float), found)
    ax = drawn(
        plot.dose_duration_map(
            np.arange(doses) + 1.0, np.arange(5.0), valley, ("A1", "A2"), critical=line, dose_unit="1/h", time_unit="h"
        )
    )[0]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("dose (1/h)", "duration of the push (h)")
    shown = {text.get_text() for text in ax.get_legend().get_texts()}
    assert "settles in A1" in shown
    assert ("settles in A2" in shown) == ("critical duration" in shown) == (doses == 7)


def row(name: str, kind: str, rmse: float, **changed: object) -> ScoreRow:
    nan = float("nan")
    fields = dict(
        name=name, kind=kind, direction="one -> two", mode="roll-out", rmse=rmse, lo=rmse - 0.1, hi=rmse + 0.1,
        r_change=0.5, skill=nan, skill_lo=nan, skill_hi=nan, against="", difference=nan, difference_lo=nan,
        difference_hi=nan, p_rank=nan, n_controls=0, n_genes=4, n_values=36,
    )  # fmt: skip
    return ScoreRow(**{**fields, **changed})


def test_scores_of_both_directions_with_a_row_that_failed():
    rows = [row("model", "model", 0.8), row("no change", "baseline", 1.2), row("copy", "baseline", float("nan"))]
    rows += [row("shuffled", "control", 1.0, n_controls=3), row("model", "model", 0.9, direction="two -> one")]
    rows += [row("model", "model", 0.2, mode="one step")]
    table = ScoreTable(tuple(rows), (), data="test", simulated=True)
    first, second = drawn(plot.score_bars(table))
    assert first.get_xlabel() == "RMSE (log2), lower is better"
    assert [t.get_text() for t in first.get_yticklabels()] == ["model", "no change", "copy", "shuffled x 3"]
    assert "failed" in {t.get_text() for t in first.texts}
    assert second.get_title(loc="left") == "two -> one"
    assert "[simulated data]" in first.figure.get_suptitle()
    assert len(drawn(plot.score_bars(table, mode="one step"))) == 1
    with pytest.raises(PinnsimError, match="E_DATA_EMPTY"):
        plot.score_bars(ScoreTable((), ()))


def test_a_knockout_map_shows_every_row_and_is_centred_at_zero():
    rng = np.random.default_rng(0)
    changes = rng.normal(size=(3, 40))
    changes[1] = 0
    changes[1, 7] = 0.01
    changes[2] = np.nan
    changes[0, 0] = -50
    genes = [f"g{k}" for k in range(40)]
    ax = drawn(plot.knockout_heatmap(changes, ["g0", "small", "failed"], genes, top=10))[0]
    labels = [t.get_text() for t in ax.get_xticklabels() if t.get_text()]
    assert len(labels) == 10
    assert "g7" in labels
    image = ax.images[0]
    assert image.norm.vmin == -image.norm.vmax
    assert image.norm.vmax < 10
    assert ax.figure.axes[1].get_ylabel() == "log2 change against wild type"
    assert "model prediction" in ax.get_title(loc="left")
    drawn(plot.knockout_heatmap(np.zeros((1, 1)), ["g0"], ["g0"]))
    with pytest.raises(PinnsimError, match="E_DATA_SHAPE"):
        plot.knockout_heatmap(np.zeros((2, 1)), ["g0"], ["g0"])


def test_the_course_of_a_fit():
    first = 1500 + 100 * np.exp(-np.arange(20) / 5)[:, None] * np.array([1.0, 2.0])
    first[3, 1] = np.nan
    ax = drawn(plot.training_history({"collocation": first, "none": np.zeros((0, 2)), "trajectories": first[-1:] - 5}))[
        0
    ]
    assert ax.get_xlabel() == "optimisation step"
    assert ax.get_ylabel() == "objective above the lowest seen (nats)"
    assert len(ax.get_legend().get_texts()) == 2
    drawn(plot.training_history({"flat": np.ones(3)}))
    with pytest.raises(PinnsimError, match="E_DATA_EMPTY"):
        plot.training_history({"lost": np.full((3, 1), np.nan)})


@pytest.mark.parametrize("genes", [1, 12, 60])
def test_half_lives_and_their_priors(genes):
    rng = np.random.default_rng(0)
    fitted = 3 * np.exp(rng.normal(size=(2, genes)))
    ax = drawn(
        plot.prior_posterior(
            [f"g{k}" for k in range(genes)], fitted, np.full(genes, 3.0), np.full(genes, 0.5), time_unit="min"
        )
    )[0]
    assert ax.get_ylabel() == "mRNA half-life (min)"
    assert {t.get_text() for t in ax.get_legend().get_texts()} >= {"prior, 95 %", "fitted (range of 2 starts)"}
    _no_overlap(ax)


def test_a_given_axes_is_drawn_on():
    import matplotlib.pyplot as plt

    for draw in (
        lambda ax: plot.dose_duration_map([1.0, 2.0], [1.0, 2.0], np.zeros((2, 2), int), ("A1",), ax=ax),
        lambda ax: plot.knockout_heatmap(np.eye(2), ["a", "b"], ["a", "b"], ax=ax),
        lambda ax: plot.training_history({"fit": np.arange(3.0)}, ax=ax),
        lambda ax: plot.prior_posterior(["a"], np.ones(1), np.ones(1), np.ones(1), ax=ax),
    ):
        ax = plt.subplots()[1]
        assert draw(ax) is ax


def test_settings_are_left_as_they_were_and_a_saved_figure_is_closed(tmp_path):
    import matplotlib.pyplot as plt

    before = dict(mpl.rcParams)
    ax = plot.training_history({"fit": np.arange(3.0)})
    assert ax.title.get_fontsize() == mpl.rcParams["axes.titlesize"] or STYLE["axes.titlesize"] == 10.0
    path = plot.save(ax, tmp_path / "new" / "fit.png")
    assert path.stat().st_size > 1000
    assert dict(mpl.rcParams) == before
    assert not plt.get_fignums()
    panels = plot.fit_panels(course(3), "one", TIMES, members(3))
    assert plot.save(panels, tmp_path / "panels.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_colours_differ_in_lightness_or_hue_and_shapes_are_square():
    assert len(set(CYCLE)) == len(CYCLE)
    assert [grid_shape(n) for n in (1, 3, 5, 10, 13)] == [(1, 1), (2, 2), (2, 3), (3, 4), (4, 4)]

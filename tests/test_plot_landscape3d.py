"""Surfaces: heights and lines are where they should be, what a hill hides is known, and the small print is there."""

import importlib.util
import io
import json
import re

import numpy as np
import pytest
from chains import points_of, wells
from PIL import Image

from pinnsim import plot
from pinnsim.errors import PinnsimError
from pinnsim.landscape import InTime, Potential, Relief, principal_components, relief_of_cells, relief_of_grid
from pinnsim.landscape.action import ActionPath, MinimumAction
from pinnsim.plot.animation import encoded
from pinnsim.plot.landscape3d import axes_3d, on_surface, surface

COURSE = np.column_stack([np.linspace(-1, 1, 25), 0.4 * np.sin(np.linspace(0, np.pi, 25))])


@pytest.fixture(scope="module")
def relief():
    return relief_of_grid(wells())


@pytest.fixture(scope="module")
def points():
    # A third point outside the box is not shown.
    return points_of([[-1, 0], [1, 0], [0, 0], [9, 9]], ["stable", "stable", "saddle", "unstable"], ("u", "v"))


@pytest.fixture(scope="module")
def way():
    path = ActionPath(np.column_stack([np.linspace(-1, 0, 9), np.zeros(9)]), 0.1, 1, True)
    return MinimumAction((path,), 0.2, ("u", "v"))


def words(picture):
    figure = picture.figure
    texts = [t.get_text() for t in (*figure.texts, *(t for a in figure.axes for t in a.texts))]
    legends = [a.get_legend() for a in figure.axes if a.get_legend()] + list(figure.legends)
    return texts, [t.get_text() for legend in legends for t in legend.get_texts()]


def test_a_surface_tells_potential_noise_cut_and_marks(relief, points, way):
    ax = plot.landscape_3d(relief, course=COURSE, points=points, paths=[way], highest=4.0, unit="nM", simulated=True)
    ax.figure.canvas.draw()
    texts, legend = words(ax)
    small = " ".join(texts)
    assert "-ln p of the stationary law" in small
    assert "D = 0.1" in small
    share = (relief.potential.values > 4).mean()
    assert f"heights above 4 are cut ({share:.0%} of the box)" in small.replace("\n", " ")
    assert "Landscape [simulated data]" in texts
    assert {"A1", "A2", "S1"} <= set(texts)
    assert "U1" not in texts
    assert legend == ["minimum action path", "the ball's course", "attractor (stable)", "saddle"]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_zlabel()) == ("u (nM)", "v (nM)", "-ln p, lowest 0")
    # The ball lies on the surface, a hair above it.
    ball = [line for line in ax.lines if line.get_markersize() == 9][0].get_data_3d()
    assert 0 < float(ball[2][0]) - relief.height(COURSE[-1:], 4.0)[0] < 0.06 * 4
    with pytest.raises(PinnsimError, match="E_USAGE.*projection"):
        plot.landscape_3d(relief, ax=plot.landscape_contour(relief))
    with pytest.raises(PinnsimError, match="E_DATA_SHAPE.*relief.place"):
        plot.landscape_3d(relief, course=COURSE[:, :1])
    with pytest.raises(PinnsimError, match="E_USAGE.*highest"):
        plot.landscape_3d(relief, highest=0)


def test_a_place_is_hidden_exactly_behind_the_ridge():
    # A ridge of height 1 along x for |y| < 0.3, seen from the front (-y) at 60 degrees: in units of the drawn box its
    # shadow is height / tan(60) long.
    import matplotlib.pyplot as plt

    y = np.linspace(-5, 5, 201)
    heights = np.broadcast_to(np.where(np.abs(y) < 0.3, 1.0, 0.0), (11, 201)).copy()
    ridge = Relief(np.linspace(0, 1, 11), y, Potential("energy", heights, ""), ("x", "y"))
    ax = axes_3d(plt.figure().add_subplot(projection="3d"), (60.0, -90.0))
    surface(ax, ridge, 1.01, "", "")
    _, _, near, far, low, high = ax.get_w_lims()
    shadow = 2.4 / (high - low) / np.tan(np.radians(60)) * (far - near) / 4.0
    behind = 0.3 + shadow * np.array([0.3, 0.6, 0.9, 1.1, 1.5])
    place, hidden = on_surface(ax, ridge, 1.01, np.column_stack([np.full(6, 0.5), [*behind, -1.0]]))
    assert hidden.tolist() == [True, True, True, False, False, False]
    assert (place[:, 2] < 0.05).all()


def test_components_of_many_genes_have_a_relief_with_marks():
    rng = np.random.default_rng(0)
    genes = ("a", "b", "c", "d")
    cells = np.concatenate([rng.normal(size=(400, 4)) + 3, rng.normal(size=(400, 4)) - 3])
    flat = principal_components(cells, genes)
    relief = relief_of_cells(cells, genes, flat, noise="drawn")
    marks = [plot.Mark("M", np.full(4, 3.0), "stable"), plot.Mark("far", np.full(4, 99.0), "saddle")]
    ax = plot.landscape_contour(relief, points=marks, course=relief.place(cells[:2], genes))
    ax.figure.canvas.draw()
    texts, legend = words(ax)
    assert "M" in texts
    assert "far" not in texts
    assert "density of an ensemble" in " ".join(texts)
    assert legend == ["the ball's course", "attractor (stable)"]
    assert ax.get_xlabel() == "PC1"
    star = next(line for line in ax.lines if line.get_marker() == "*")
    np.testing.assert_allclose([star.get_xdata()[0], star.get_ydata()[0]], flat.project(marks[0].readings))
    with pytest.raises(PinnsimError, match="E_USAGE.*give Attractors"):
        plot.landscape_contour(relief_of_grid(wells()), points=marks)


def test_panels_share_a_scale_and_refuse_what_does_not_compare(relief, points):
    pushed = relief_of_grid(wells(tilt=1.0))
    axes = plot.landscape_panels(
        {"at rest": relief, "pushed": pushed}, courses={"pushed": COURSE}, points={"at rest": points}
    )
    axes[0].figure.canvas.draw()
    assert axes[0].get_zlim() == axes[1].get_zlim()
    texts, legend = words(axes[0])
    assert {"at rest", "pushed"} <= set(texts)
    assert legend == ["the ball's course", "attractor (stable)", "saddle"]
    with pytest.raises(PinnsimError, match="E_USAGE.*compute both in the same way"):
        plot.landscape_panels({"a": relief, "b": relief_of_grid(wells(noise="D = 1"))})


def test_the_contour_has_the_same_marks_and_the_flux(relief, points, way):
    swirl = np.stack([-relief.y[None, :] + 0 * relief.x[:, None], relief.x[:, None] + 0 * relief.y[None, :]])
    flux = swirl * np.exp(-relief.potential.values)
    ax = plot.landscape_contour(relief, course=COURSE, points=points, paths=[way], flux=flux, highest=5)
    ax.figure.canvas.draw()
    texts, legend = words(ax)
    assert {"A1", "A2", "S1"} <= set(texts)
    assert legend == ["flux J / p", "minimum action path", "the ball's course", "attractor (stable)", "saddle"]
    arrows = [c for c in ax.collections if hasattr(c, "U")][0]
    x, y = arrows.XY[:, 0], arrows.XY[:, 1]
    shown = ~arrows.Umask
    assert 0.2 < shown.mean() < 0.8
    np.testing.assert_allclose(arrows.U[shown], -y[shown], atol=1e-9)
    np.testing.assert_allclose(arrows.V[shown], x[shown], atol=1e-9)
    assert ax.figure.axes[1].get_ylabel() == "-ln p, lowest 0"
    with pytest.raises(PinnsimError, match="E_DATA_SHAPE.*flux"):
        plot.landscape_contour(relief, flux=flux[:, 1:])


@pytest.fixture(scope="module")
def pushed():
    which = np.array([0, 1, 1, 1, 0, 0])
    return InTime(np.arange(6.0), (wells(), wells(tilt=2.0)), which, "drive(u)=1@1:4", "min")


def test_the_push_moves(pushed, points, tmp_path):
    states = np.column_stack([np.linspace(-1, 1, 6), np.zeros(6)])[:, ::-1]
    path = plot.push_gif(
        tmp_path / "new" / "push.gif", pushed, states, ("v", "u"), points=points, fps=10, dpi=50, progress=False
    )
    with Image.open(path) as image:
        assert image.n_frames == 6
        assert image.info["duration"] == 100
        assert image.size == (300, 260)
        frames = []
        for k in range(6):
            image.seek(k)
            frames.append(np.asarray(image.convert("RGB"), dtype=float))
    # The ball moves in every frame; the ground changes only when the push begins and ends.
    moved = [np.abs(b - a).max(axis=2) > 60 for a, b in zip(frames[:-1], frames[1:], strict=True)]
    share = [m.mean() for m in moved]
    assert min(share) > 0
    assert min(share[0], share[3]) > 3 * max(share[1], share[2], share[4])
    with pytest.raises(PinnsimError, match="E_BOUNDS.*outside the box at 1 of 6"):
        plot.push_gif(path, pushed, np.where(states == 1.0, 9.0, states), ("v", "u"), progress=False)
    with pytest.raises(PinnsimError, match="E_DATA_SHAPE.*\n.*not '.png'.*\n.*2 or more frames"):
        plot.push_gif(tmp_path / "a.png", pushed, states[1:], ("v", "u"), fps=0, progress=False)


def test_a_moving_picture_that_is_too_large_gets_coarser():
    noise = np.random.default_rng(0).integers(0, 255, size=(3, 40, 50, 3), dtype=np.uint8)
    images = [Image.fromarray(pixels) for pixels in noise]
    full = len(encoded(images, 10.0, 10**9))
    fewer = encoded(images, 10.0, int(0.75 * full))
    smaller = encoded(images, 10.0, int(0.3 * full))
    sizes = []
    for data in (fewer, smaller):
        with Image.open(io.BytesIO(data)) as image:
            sizes.append(image.size)
            assert image.n_frames == 3
    assert len(fewer) <= 0.75 * full
    assert len(smaller) <= 0.3 * full
    assert sizes[0] == (50, 40)
    assert sizes[1] < (50, 40)
    with pytest.raises(PinnsimError, match="E_USAGE.*fewer frames"):
        encoded(images, 10.0, 100)


def test_a_surface_to_turn_by_hand(relief, points, way, tmp_path, monkeypatch):
    pytest.importorskip("plotly")
    figure = plot.landscape_interactive(relief, course=COURSE, points=points, paths=[way], highest=4.0, unit="nM")
    assert [part.name for part in figure.data] == [
        "heights", "minimum action path", "the ball's course", "the ball", "attractor (stable)", "saddle",
    ]  # fmt: skip
    np.testing.assert_allclose(
        figure.data[0].z, np.where(relief.potential.values <= 4, relief.potential.values, np.nan).T
    )
    np.testing.assert_allclose(figure.data[2].z, relief.height(COURSE, 4.0) + 0.048)
    assert list(figure.data[4].text) == ["A1", "A2"]
    assert "D = 0.1" in figure.layout.title.text
    assert figure.layout.scene.xaxis.title.text == "u (nM)"
    path = plot.write_html(figure, tmp_path / "a" / "surface.html", embedded=False)
    text = path.read_text(encoding="utf-8")
    assert re.search(r"<script[^>]*src=", text)
    assert json.dumps("the ball's course")[1:-1] in text
    with pytest.raises(PinnsimError, match="E_USAGE.*plot.save"):
        plot.write_html(None, path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PinnsimError, match=r"E_EXTRA_MISSING.*pip install 'pinnsim\[interactive\]'"):
        plot.landscape_interactive(relief)

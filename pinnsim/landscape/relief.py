"""A relief: heights of one potential over two coordinates, which is all that a picture of a landscape can show.

From a grid of three species the third is summed out, from cells of many genes a plane is looked at, and both are said:

    grid of more species   h(x, y) = -ln sum_z p(x, y, z)          kind `stationary`, as the grid's
    cells of an ensemble   h(x, y) = -ln (kernel density of the cells' coordinates)     kind `ensemble`
    energy                 h(x, y) = U(x, y)                        kind `energy`

each with its lowest point at 0. Between the centres heights are interpolated linearly along each axis. Reliefs compare
only where potentials do (`pinnsim.landscape.potential`) and only on the same plane and centres.

Source: B. W. Silverman, Density Estimation for Statistics and Data Analysis (1986), section 4.2, for the kernel.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import scipy.interpolate
import scipy.stats

from pinnsim.errors import PinnsimError, Problems, did_you_mean
from pinnsim.landscape.fokker_planck import Grid
from pinnsim.landscape.potential import Potential, from_probability
from pinnsim.landscape.projection import Projection
from pinnsim.shapes import Scalar, State
from pinnsim.shown import Facts, as_html, as_text, span

_OF_LOGARITHMS = 12.0  # heights of -ln p shown by default: where a state has 6e-6 of the likeliest one's probability


@dataclasses.dataclass(frozen=True)
class Relief:
    """Heights over a plane.

    **Arguments:** `x`, `y`: centres, increasing, (x,) and (y,); `potential`: its values are (x, y); `axes`: names of
    both coordinates, species or components; `note`: what was done with everything else, in words; `projection`: where
    the coordinates are components of readings.

    **Raises** `E_USAGE` for shapes that do not fit, centres that do not increase, and heights without a finite value.
    """

    x: np.ndarray
    y: np.ndarray
    potential: Potential
    axes: tuple[str, str]
    note: str = ""
    projection: Projection | None = None

    def __post_init__(self) -> None:
        with Problems() as problems:
            for name, centres in (("x", self.x), ("y", self.y)):
                if centres.ndim != 1 or len(centres) < 2 or not (np.diff(centres) > 0).all():
                    problems.add("E_USAGE", f"Centres `{name}` of a relief must be 2 or more and increasing.")
            if self.potential.values.shape != (self.x.size, self.y.size):
                problems.add(
                    "E_USAGE",
                    f"Heights {self.potential.values.shape} must be (x, y), here {(self.x.size, self.y.size)}; of a "
                    "grid of other than two species use relief_of_grid.",
                )
            elif not np.isfinite(self.potential.values).any():
                problems.add("E_USAGE", "No height of the relief is finite; there is nothing to draw.")

    def __repr__(self) -> str:
        return as_text(self._facts())

    def _repr_html_(self) -> str:
        return as_html(self._facts())

    def _facts(self) -> Facts:
        (x, y), values = self.axes, self.potential.values
        low = np.unravel_index(int(np.nanargmin(np.where(np.isfinite(values), values, np.nan))), values.shape)
        rows: list[tuple[str, object]] = [
            ("heights", self.potential.meaning),
            (x, f"{span(float(self.x[0]), float(self.x[-1]), '')}, {self.x.size} centres"),
            (y, f"{span(float(self.y[0]), float(self.y[-1]), '')}, {self.y.size} centres"),
            ("lowest at", f"{x} {self.x[low[0]]:.3g}, {y} {self.y[low[1]]:.3g}"),
        ]
        return "Relief", [*rows, *([("the rest", self.note)] if self.note else [])]

    @property
    def highest(self) -> float:
        """A height up to which to draw: 12 for logarithms of probabilities or what there is; an energy's largest."""
        finite = self.potential.values[np.isfinite(self.potential.values)]
        top = float(finite.max())
        return top if self.potential.kind == "energy" else min(top, _OF_LOGARITHMS)

    @property
    def box(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Lowest and highest edges of the cells around the centres, of x and of y."""
        return _edges(self.x), _edges(self.y)

    def place(self, states: np.ndarray, species: Sequence[str]) -> np.ndarray:
        """Coordinates of states on this plane, (..., 2).

        **Arguments:** `states`: (..., species) (readings, (..., gene), for a relief over components); `species`: their
        names. **Raises** `E_USAGE` where the plane's are not among them.
        """
        return _placed(states, species, self.axes, self.projection)

    def height(self, points: np.ndarray, highest: float | int = np.inf) -> np.ndarray:
        """Heights at points (..., 2), cut at `highest`; level in the outer half of the outermost cells, NaN outside."""
        cut = np.minimum(self.potential.values, highest)
        where = np.asarray(points, dtype=float)
        low, high = np.array(self.box).T
        inner = np.clip(where, [self.x[0], self.y[0]], [self.x[-1], self.y[-1]])
        found = scipy.interpolate.RegularGridInterpolator((self.x, self.y), cut, bounds_error=False)(inner)
        # Edges are sums of centres and widths, so what lies on them may miss them by rounding.
        slack = 1e-9 * (high - low)
        return np.where(((where >= low - slack) & (where <= high + slack)).all(axis=-1), found, np.nan)

    def minus(self, other: "Relief") -> np.ndarray:
        """Differences of heights, (x, y), for example before and after a perturbation.

        **Raises** `E_USAGE` for potentials that do not compare and for other planes or centres.
        """
        difference = self.potential.minus(other.potential)
        require_alike([self, other])
        return difference


def require_alike(reliefs: Sequence[Relief]) -> None:
    """**Raises** `E_USAGE` where reliefs to be shown together differ in kind, noise, plane or centres."""
    first = reliefs[0]
    for other in reliefs[1:]:
        first.potential.require_like(other.potential)
        if first.axes != other.axes or first.note != other.note:
            raise PinnsimError.of(
                "E_USAGE",
                f"One relief is over {_plane(first)}, the other over {_plane(other)}; show the same plane of both.",
            )
        if not (np.array_equal(first.x, other.x) and np.array_equal(first.y, other.y)):
            raise PinnsimError.of("E_USAGE", "The reliefs have other centres; compute both on one grid.")


def relief_of_grid(grid: Grid, axes: tuple[str, str] | None = None) -> Relief:
    """The stationary law of a grid of two or three species, seen along two: `-ln sum_z p(x, y, z)`.

    **Arguments:** `axes`: two of the grid's species (default: its first two).

    **Raises** `E_USAGE` for a grid of one species and unknown or equal names.
    """
    if len(grid.species) < 2:
        raise PinnsimError.of(
            "E_USAGE", f"A relief needs two species and this grid has {grid.species[0]} only; draw its potential."
        )
    shown = grid.species[:2] if axes is None else tuple(axes)
    for name in shown:
        if name not in grid.species:
            raise PinnsimError.of("E_USAGE", f"'{name}' is not on the grid{did_you_mean(name, grid.species)}.")
    if shown[0] == shown[1]:
        raise PinnsimError.of("E_USAGE", f"A relief needs two different species, not '{shown[0]}' twice.")
    first, second = (grid.species.index(name) for name in shown)
    others = tuple(k for k in range(len(grid.species)) if k not in (first, second))
    p = grid.stationary().sum(axis=others)
    p = p if first < second else p.T
    note = ", ".join(f"{grid.species[k]} summed out" for k in others)
    heights = from_probability(p, "stationary", grid.noise)
    return Relief(grid.centres[first], grid.centres[second], heights, (shown[0], shown[1]), note)


def relief_of_energy(
    energy: Callable[[State], Scalar],
    box: tuple[Sequence[float | int], Sequence[float | int]],
    axes: tuple[str, str],
    cells: int = 80,
) -> Relief:
    """An energy U of two coordinates, as written or learned, with `f = -grad U`.

    **Arguments:** `energy`: (2,) to one number, for example of a `Descent`; `box`: lowest and highest, (2,) each.

    **Raises** `E_USAGE` where it is nowhere finite, `E_BOUNDS`.
    """
    low, high = (np.asarray(b, dtype=float) for b in box)
    if low.shape != (2,) or high.shape != (2,) or not (low < high).all():
        raise PinnsimError.of("E_BOUNDS", f"Argument `box` must be two increasing pairs, but is {low} to {high}.")
    x, y = (np.linspace(a, b, cells) for a, b in zip(low, high, strict=True))
    plane = jnp.asarray(np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2))
    values = np.asarray(jax.jit(jax.vmap(energy))(plane)).reshape(cells, cells)
    return Relief(x, y, Potential("energy", values - np.nanmin(values), ""), axes)


def relief_of_cells(
    cells: np.ndarray,
    species: Sequence[str],
    axes: tuple[str, str] | Projection,
    *,
    noise: str,
    count: int = 60,
    spread: float | int = 0.3,
) -> Relief:
    """Where the cells of an ensemble are, seen along two species or two components: `-ln density`.

    **Arguments:** `cells`: (cell, species), finite; `axes`: two species, or a projection of readings; `noise`: what
    made the cells differ, in words; `count`: centres per axis; `spread`: margin around the cells, as a share of their
    range.

    Good values: some thousands of cells; heights above `ln(cells)` are those of the kernel, not of the cells, and are
    drawn as one.

    **Returns** a `Relief` of kind `ensemble`. **Raises** `E_USAGE`, `E_DATA_NONFINITE`, `E_DATA_EMPTY` for cells that
    all lie on one line.
    """
    names = ("PC1", "PC2") if isinstance(axes, Projection) else axes
    projection = axes if isinstance(axes, Projection) else None
    points = _placed(np.asarray(cells, dtype=float), species, names, projection)
    if not np.isfinite(points).all():
        bad = int((~np.isfinite(points).all(axis=1)).sum())
        raise PinnsimError.of("E_DATA_NONFINITE", f"{bad} of {len(points)} cells are not finite; leave them out.")
    if len(points) < 3 or np.linalg.matrix_rank(points - points.mean(axis=0), tol=1e-9 * np.abs(points).max()) < 2:
        raise PinnsimError.of("E_DATA_EMPTY", f"The {len(points)} cells do not spread over the plane; give more.")
    low, high = points.min(axis=0), points.max(axis=0)
    margin = float(spread) * (high - low)
    x, y = (np.linspace(a - m, b + m, count) for a, b, m in zip(low, high, margin, strict=True))
    plane = np.stack(np.meshgrid(x, y, indexing="ij")).reshape(2, -1)
    density = scipy.stats.gaussian_kde(points.T)(plane).reshape(count, count)
    heights = from_probability(density, "ensemble", noise)
    cut = dataclasses.replace(heights, values=np.minimum(heights.values, np.log(len(points))))
    hidden = len(species) - 2
    note = f"{hidden} other species not shown" if hidden > 0 and projection is None else ""
    return Relief(x, y, cut, names, note, projection)


def _placed(
    states: np.ndarray, species: Sequence[str], axes: tuple[str, str], projection: Projection | None
) -> np.ndarray:
    names, wanted = list(species), axes if projection is None else projection.genes
    with Problems() as problems:
        for name in dict.fromkeys(wanted):
            if name not in names:
                problems.add(
                    "E_USAGE", f"'{name}' of the relief is not among the states' species{did_you_mean(name, names)}."
                )
    chosen = np.asarray(states)[..., [names.index(name) for name in wanted]]
    return chosen if projection is None else projection.project(chosen)[..., :2]


def _edges(centres: np.ndarray) -> tuple[float, float]:
    return (
        float(centres[0] - 0.5 * (centres[1] - centres[0])),
        float(centres[-1] + 0.5 * (centres[-1] - centres[-2])),
    )


def _plane(relief: Relief) -> str:
    return f"{relief.axes[0]} x {relief.axes[1]}" + (f" ({relief.note})" if relief.note else "")

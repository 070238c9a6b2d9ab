"""What the report says of landscapes, screens and pushes that it finds in a folder."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pinnsim.cli.output import highest
from pinnsim.cli.report import Told
from pinnsim.cli.screen import EFFECTS, FATES, MAP, RANKING, SYNERGIES

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from pinnsim.report import Report

_HEAD = ("point", "stability", "share", "index", "leading eigenvalue", "residual")  # how a table of landscape begins
_ROWS = 60


def landscapes(folder: Path) -> list[Path]:
    """Tables of fixed points, as `pinnsim landscape --out` writes them, by how they begin."""
    line = (",".join(_HEAD) + ",").encode()
    return [path for path in sorted(folder.glob("*.csv")) if _begins(path, line)]


def within(folder: Path, name: str) -> list[Path]:
    """Files of this name, in the folder and in folders of it."""
    return [path for path in sorted([*folder.glob(name), *folder.glob(f"*/{name}")]) if path.is_file()]


def pushes(stored: Sequence[Path]) -> list[Path]:
    """Those of these results that are maps of pushes. **Raises:** `E_CKPT_CORRUPT`, `E_SIZE`."""
    from pinnsim.formats.simulation import load_simulation

    return [path for path in stored if "settles_in" in load_simulation(path).to_dataset()]


def tell_landscape(page: "Report", path: Path) -> Told:
    """A section on a table of fixed points, and its picture if there is one."""
    import numpy as np
    import pandas as pd

    blank = {name: [""] for name in ("share", "residual")}
    table = pd.read_csv(path, keep_default_na=False, na_values=blank, dtype={"leading eigenvalue": str})
    species = table.columns[len(_HEAD) :].tolist()
    states = table[species].to_numpy(float)
    shown = table[list(_HEAD)].assign(highest=[highest(species, state) for state in states])
    stable = int((table["stability"] == "stable").sum())
    text = f"{_many(stable, 'valley')} where the cell can rest, among {_many(len(table), 'fixed point')}."
    page.section(_title("Landscape", path, "landscape")).text(text)
    caption = (
        "Fixed points, each certified: a residual of nearly 0, and stability by the leading eigenvalue of the Jacobian "
        "(its real part is below 0 where the cell returns). Share: of the states that were followed, how many came to "
        "rest there."
    )
    page.table(shown.head(_ROWS), caption + ("" if len(table) <= _ROWS else f" The first {_ROWS}; all: {path.name}."))
    picture = path.with_suffix(".png")
    if picture.is_file():
        page.picture(picture, "Flow, nullclines, fixed points in a plane of two species.")
    elif len(species) > 1 and len(states):
        span = np.sort(np.argsort(-np.ptp(states, axis=0), kind="stable")[:2])
        page.figure(
            _plane(states[:, span], [species[k] for k in span], table["stability"].tolist(), table["point"].tolist()),
            f"The fixed points in the plane of the two species in which they differ most. For the flow too: pinnsim "
            f"landscape MODEL --picture {picture.name}.",
            f"Fixed points in the plane of {species[span[0]]} and {species[span[1]]}.",
        )
    else:
        page.absent("A model of one species has no plane to draw.")
    return Told({}, [text])


def tell_screen(page: "Report", path: Path) -> Told:
    """A section on a screen: ranked effects, doubles, fates that change."""
    import pandas as pd

    found, folder = json.loads(path.read_text(encoding="utf-8")), path.parent
    counts = ", ".join(f"{count} {name}" for name, count in found["combinations"].items() if count)
    where = f" at {found['time']:g} {found['time_unit']}" if found["time"] is not None else " at rest"
    text = f"{len(found['edits'])} perturbations, combinations {counts}, read{where}; simulated, not measured."
    page.section("Perturbation screen").text(text)
    tables = {
        EFFECTS: "Perturbations, strongest first: what moved most, as log2 fold of the unperturbed level.",
        SYNERGIES: "Doubles against what their singles do, strongest interactions first.",
        FATES: "Fates that change.",
    }
    for name, caption in tables.items():
        if (folder / name).is_file():
            table = pd.read_csv(folder / name, keep_default_na=False, na_values={})
            if len(table):
                more = f" The first {_ROWS} of {len(table)}; all: {name}." if len(table) > _ROWS else ""
                page.table(table.head(_ROWS), caption + more)
    for name, caption in {
        MAP: "Interactions of all doubles.",
        RANKING: "The strongest interactions, with intervals where members of a fit agree or not.",
    }.items():
        if (folder / name).is_file():
            page.picture(folder / name, caption)
    return Told({}, [f"Screen: {text}"])


def tell_push(page: "Report", path: Path) -> Told:
    """A section on a map of pushes: where the cell settles by dose and duration."""
    import pandas as pd

    from pinnsim.formats.simulation import load_simulation
    from pinnsim.plot import dose_duration_map

    found = load_simulation(path).to_dataset()
    names = [str(name) for name in found["valley"].values]
    valley, unit = found["settles_in"].values, found["duration"].attrs.get("units", "")
    counts = [f"{int((valley == k).sum())} in {name}" for k, name in enumerate(names) if (valley == k).any()]
    lost = int((valley < 0).sum())
    counts += [f"{lost} in none of them"] if lost else []
    begun = found.attrs.get("start_valley", "its valley")
    text = f"{valley.size} pushes ({found.attrs['push']}) from {begun}; the cell settles: {', '.join(counts)}."
    page.section(_title("Push", path, "push")).text(text)
    rows: dict[str, object] = {"dose": found["dose"].values}
    for k, name in enumerate(names):
        rows[f"settles in {name}"] = [_span(found["duration"].values[row == k], unit) for row in valley]
    page.table(pd.DataFrame(rows), "By dose: the durations of a push after which the cell settles in each valley.")
    page.figure(
        dose_duration_map(
            found["dose"].values,
            found["duration"].values,
            valley,
            names,
            dose_label=f"dose of {found.attrs['push']}",
            time_unit=unit,
            simulated=True,
        ),
        "In which valley the pushed cell settles, by dose and duration of the push.",
        text,
    )
    stayed = begun in names and (valley == names.index(begun)).all()
    return Told({}, [f"{text} No push of these moves it elsewhere." if stayed else text])


def _plane(states: "np.ndarray", names: Sequence[str], stability: Sequence[str], points: Sequence[str]) -> "Axes":
    from pinnsim.plot.style import BLUE, RED, new_axes, place_labels, styled

    @styled
    def draw() -> "Axes":
        ax = new_axes(None, (5.2, 4.2))
        for kind, colour, marker in (("stable", BLUE, "o"), ("other", RED, "X")):
            of = [k for k, word in enumerate(stability) if (word == "stable") == (kind == "stable")]
            if of:
                label = "valley (stable)" if kind == "stable" else "pass or top (not stable)"
                ax.plot(*states[of].T, marker, color=colour, markersize=8, linestyle="", label=label)
        ax.margins(0.15)
        ax.set_xlabel(f"{names[0]} (relative abundance)", parse_math=False)
        ax.set_ylabel(f"{names[1]} (relative abundance)", parse_math=False)
        ax.set_title("Fixed points [simulated]")
        ax.legend(loc="best")
        place_labels(ax, [(float(x), float(y)) for x, y in states], list(points))
        return ax

    return draw()


def _span(durations: "np.ndarray", unit: str) -> str:
    if not len(durations):
        return "never"
    low, high = float(durations.min()), float(durations.max())
    return f"{low:g} {unit}" if low == high else f"{low:g} to {high:g} {unit}"


def _many(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _title(kind: str, path: Path, usual: str) -> str:
    return kind if path.stem == usual else f"{kind}: {path.stem}"


def _begins(path: Path, line: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(line)) == line

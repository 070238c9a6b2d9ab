"""`pinnsim landscape`: where the cell can rest under a treatment, how wide the valleys are, and the flow between."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pinnsim.cli.arguments import ModelName, check_folder, read_members, read_times
from pinnsim.cli.output import AsJson, answer, highest, show_table, speak_to, tell, write_files
from pinnsim.errors import PinnsimError, Problems, did_you_mean, first
from pinnsim.session import start

if TYPE_CHECKING:
    import pandas as pd

    from pinnsim.dynamics.kinetics import AbstractKinetics
    from pinnsim.landscape import Attractors

_ROOM = 0.2  # of the span of the fixed points, around them in a picture
_SHOWN = ("point", "stability", "share", "leading eigenvalue", "highest")


def landscape(
    model: ModelName,
    treatment: Annotated[
        str,
        typer.Option(
            "--treatment", "--perturb", "-t", metavar="TEXT", help="What acts for ever, such as 'GATA1=0, SPI1*2'."
        ),
    ] = "none",
    starts: Annotated[int, typer.Option(min=1, metavar="N", help="From how many states valleys are looked for.")] = 64,
    settle: Annotated[
        float | None,
        typer.Option(metavar="TIME", help="How long each is followed.", show_default="12 slowest relaxation times"),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the states to start from.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE.csv", help="The fixed points, all species.", show_default=False),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Flow and nullclines in a plane of two species.", show_default=False),
    ] = None,
    plane: Annotated[
        str | None,
        typer.Option(
            metavar="SPECIES,SPECIES",
            help="The two species of the picture.",
            show_default="those in which the fixed points differ most",
        ),
    ] = None,
    box: Annotated[
        str | None,
        typer.Option(
            metavar="LOW,HIGH,LOW,HIGH", help="The picture's range of both.", show_default="around the fixed points"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find where the cell can rest: attractors with their shares, saddles, cycles, each with its certificate.

    Many cells are followed from states spread over the range of abundances. Where they come to rest is polished and
    certified; the share of cells that end in a valley is its share of that range. Saddles, over which a cell goes from
    valley to valley, are looked for too. The picture shows the flow in the plane of two species, with all others at
    rest for the two.

    \b
    Examples:
      pinnsim landscape toggle_switch
      pinnsim landscape toggle_switch --picture toggle.png
      pinnsim landscape myeloid --treatment "Gata1=0" --out attractors.csv --json
      pinnsim landscape gata1_pu1 --plane GATA1.mrna,PU1.mrna --box 0,3,0,3 --picture plane.png
    """
    start()
    speak_to(as_json)
    from pinnsim.landscape import find_attractors
    from pinnsim.precision import enable_x64

    enable_x64()
    with Problems() as problems:
        for path, option, suffix in ((out, "--out", ".csv"), (picture, "--picture", ".png")):
            if path is not None and path.suffix != suffix:
                problems.add("E_USAGE", f"{option} '{path.name}' must end in {suffix}.")
        if picture is None and (plane is not None or box is not None):
            problems.add("E_USAGE", "--plane and --box are those of --picture; give --picture FILE.png too.")
        corners = None
        try:
            corners = None if box is None else _corners(box)
        except PinnsimError as error:
            problems.absorb(error)
    for path in (out, picture):
        if path is not None:
            check_folder(path.parent)
    kinetics = read_members(model)[0]
    species = None if plane is None else _pair(plane, kinetics.table.species)
    found = find_attractors(
        kinetics, treatment, starts=starts, settle=settle, seed=seed, totals=kinetics.default_state()
    )
    table = _table(found)
    answer(_summary(model, treatment, found))
    if not as_json:
        title = "Where it can rest" if treatment == "none" else f"Where it can rest under {treatment}"
        show_table(f"{title} (time in {found.time_unit})", _SHOWN, table[list(_SHOWN)].to_numpy().tolist())
        tell(found.describe())
    for note in found.notes:
        typer.echo(str(note), err=True)
    if out is not None:
        write_files(out.parent, {out.name: table.drop(columns="highest").to_csv(index=False)})
        tell(f"Written: {out}")
    if picture is not None:
        _draw(kinetics, treatment, found, species, corners, picture)
        tell(f"Written: {picture}")


def _corners(text: str) -> tuple[tuple[float, float], tuple[float, float]]:
    numbers = [float(value) for value in read_times(text, "--box")]
    if len(numbers) != 4 or numbers[0] >= numbers[1] or numbers[2] >= numbers[3]:
        raise PinnsimError.of("E_USAGE", f"--box '{text}' needs the lowest and the highest of each species.")
    return (numbers[0], numbers[2]), (numbers[1], numbers[3])


def _pair(text: str, species: tuple[str, ...]) -> tuple[str, str]:
    """The two species of a picture. **Raises** `E_USAGE`."""
    names = [name.strip() for name in text.split(",")]
    with Problems() as problems:
        if len(names) != 2 or names[0] == names[-1]:
            problems.add("E_USAGE", f"--plane '{text}' must name two different species, separated by a comma.")
        for name in names:
            if name not in species:
                near = did_you_mean(name, species) or f"; there are {first(species)}"
                problems.add("E_USAGE", f"--plane: the model has no species '{name}'{near}.")
    return names[0], names[1]


def _table(found: "Attractors") -> "pd.DataFrame":
    """One row per fixed point, with its certificate and its state."""
    import pandas as pd

    leading = found.eigenvalues[:, 0].tolist() if len(found.names) else []
    rows = pd.DataFrame(
        {
            "point": list(found.names),
            "stability": list(found.stability),
            "share": found.share,
            "index": found.index,
            "leading eigenvalue": [f"{value:.4g}" if value.imag else f"{value.real:.4g}" for value in leading],
            "residual": found.residual,
            "highest": [highest(found.species, state) for state in found.states],
        }
    )
    return pd.concat([rows, pd.DataFrame(found.states, columns=list(found.species))], axis=1)


def _summary(model: str, treatment: str, found: "Attractors") -> dict[str, object]:
    points = [
        {
            "point": name,
            "stability": found.stability[k],
            "share": found.share[k],
            "index": int(found.index[k]),
            "leading_eigenvalue": [found.eigenvalues[k, 0].real, found.eigenvalues[k, 0].imag],
            "residual": found.residual[k],
            "state": dict(zip(found.species, found.states[k].tolist(), strict=True)),
        }
        for k, name in enumerate(found.names)
    ]
    cycles = [{"cycle": c.name, "stability": c.stability, "period": c.period} for c in found.cycles]
    return {
        "model": model,
        "treatment": treatment,
        "time_unit": found.time_unit,
        "described": found.describe(),
        "points": points,
        "cycles": cycles,
        "notes": [str(note) for note in found.notes],
    }


def _draw(
    kinetics: "AbstractKinetics",
    treatment: str,
    found: "Attractors",
    asked: tuple[str, str] | None,
    corners: tuple[tuple[float, float], tuple[float, float]] | None,
    picture: Path,
) -> None:
    """The flow in a plane of two species."""
    import numpy as np

    from pinnsim.landscape import plane
    from pinnsim.plot import plane_portrait, save

    species = kinetics.table.species
    if asked is None:
        # Where the fixed points lie furthest apart, on a scale of abundances.
        span = np.ptp(found.states, axis=0) if len(found.states) else np.zeros(len(species))
        columns = sorted(np.argsort(-span, kind="stable")[:2].tolist())
    else:
        columns = [species.index(name) for name in asked]
    if len(columns) < 2:
        raise PinnsimError.of("E_USAGE", "A picture needs two species, and the model has one; leave --picture out.")
    if corners is None:
        states = found.states[:, columns] if len(found.states) else found.ends[:, columns]
        low, high = states.min(axis=0), states.max(axis=0)
        room = _ROOM * np.maximum(high - low, np.maximum(np.abs(high), 1e-3))
        low = np.where(np.asarray(kinetics.material())[columns], np.maximum(low - room, 0.0), low - room)
        corners = (float(low[0]), float(low[1])), (float(high[0] + room[0]), float(high[1] + room[1]))
    low, high = (np.array(corner) for corner in corners)
    shown = plane(kinetics, (species[columns[0]], species[columns[1]]), (low, high), treatment)
    title = "Flow and nullclines" if treatment == "none" else f"Flow and nullclines under {treatment}"
    save(plane_portrait(shown, title=title, unit="relative abundance", simulated=True), picture)

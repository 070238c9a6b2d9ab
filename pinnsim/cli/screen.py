"""`pinnsim screen`: every perturbation alone and together, ranked, against what is expected of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pinnsim.cli.arguments import ModelName, ProgressBar, check_folder, read_members
from pinnsim.cli.output import AsJson, answer, show_table, speak_to, tell, to_json, write_files
from pinnsim.cli.simulate import Members
from pinnsim.errors import PinnsimError, Problems
from pinnsim.session import start

if TYPE_CHECKING:
    import pandas as pd

    from pinnsim.screen import Screen

EFFECTS, SYNERGIES, TRIPLES, FATES, SUMMARY = "effects.csv", "synergies.csv", "triples.csv", "fates.csv", "screen.json"
MAP, RANKING = "synergies.png", "ranking.png"
_SHOWN = {
    "Effects": ("perturbation", "valley", "fate", "downstream", "readout", "log2 fold"),
    "Doubles, against what their singles do": (
        "perturbation",
        "valley",
        "readout",
        "multiplicative",
        "multiplicative term",
        "additive",
        "additive term",
    ),
    "Triples, against what their doubles do": ("perturbation", "valley", "readout", "multiplicative", "additive"),
    "Fates that change": ("perturbation", "valley", "fate", "rests in", "when lifted", "emergent"),
}


def screen(
    model: ModelName,
    edits: Annotated[
        list[str] | None,
        typer.Option(
            "--edit",
            "-e",
            metavar="TEXT",
            help="One edit; repeat for more.",
            show_default="the knock-out of each gene, or the stop of each reaction",
        ),
    ] = None,
    order: Annotated[int, typer.Option(min=1, max=3, help="1 singles, 2 and doubles, 3 and triples.")] = 2,
    triples: Annotated[
        int | None,
        typer.Option(metavar="N", help="How many triples, of the doubles that interact most.", show_default="32"),
    ] = None,
    readouts: Annotated[
        list[str] | None,
        typer.Option("--readout", "-r", metavar="NAME", help="A species or gene; repeat.", show_default="all species"),
    ] = None,
    time: Annotated[
        float | None, typer.Option(metavar="TIME", help="Effects at this time after the switch.", show_default="rest")
    ] = None,
    background: Annotated[str, typer.Option(metavar="TEXT", help="A treatment that acts in all.")] = "none",
    members: Annotated[Members, typer.Option(help="Of an ensemble: its best member, or all of them.")] = Members.BEST,
    level: Annotated[float, typer.Option(help="Of the members' intervals.")] = 0.9,
    threshold: Annotated[float, typer.Option(help="What is no difference: log2, or share of the level.")] = 0.1,
    top: Annotated[int, typer.Option(min=1, metavar="N", help="Rows that are shown of each table.")] = 10,
    as_json: AsJson = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="For whole tables and pictures.")
    ] = None,
    progress: ProgressBar = True,
) -> None:
    """Perturb everything, alone and together, and say what the parts do not explain.

    A ball lies in every valley of the model. Each edit, each double of edits on different targets and, with --order 3,
    the triples whose doubles interact most are switched on, and the balls are followed to where they rest. A double is
    compared with its singles twice: where folds multiply (log2), and where amounts add (share of the unperturbed
    level). With --members all, every number comes with its interval over the members of a fit.

    \b
    Words for doubles:
      synthetic     neither acts alone, the double does: look here for redundant genes
      masking       the double does what one of the two does alone
      synergistic   the double goes further than expected, and than either alone
      buffering     the double lies between the stronger one alone and what is expected
      antagonistic  the double falls short of both, or goes the other way

    \b
    Examples:
      pinnsim screen toggle_switch
      pinnsim screen myeloid --readout Gata1 --readout Pu1 --out myeloid_screen
      pinnsim screen toggle_switch -e "u*0.6" -e "v*1.6" -e "drive(v)=0.5" --order 3 --json
      pinnsim screen toggle_switch -e "u=0" -e "v=0" --time 2
      pinnsim screen fitted/model -e "ccpA=0" -e "glpK*4" --members all --out screen

    \b
    With --out: effects.csv, synergies.csv, triples.csv, fates.csv, screen.json, and two pictures.
    """
    start()
    speak_to(as_json)
    from pinnsim.precision import enable_x64
    from pinnsim.screen import screen as run

    enable_x64()
    with Problems() as problems:
        if triples is not None and order != 3:
            problems.add("E_USAGE", "--triples needs --order 3; give it, or leave --triples out.")
        if out is not None:
            try:
                check_folder(out)
            except PinnsimError as error:
                problems.absorb(error)
    chosen = read_members(model)
    others = chosen[1:] if members == Members.ALL and len(chosen) > 1 else None
    if members == Members.ALL and others is None:
        typer.echo("This model has no other members; give a fitted bundle for intervals.", err=True)
    found = run(
        chosen[0],
        edits,
        order=order,
        triples=triples,
        readouts=readouts,
        members=others,
        time=time,
        background=background,
        level=level,
        threshold=threshold,
        progress=progress and not as_json,
    )
    tables = _tables(found)
    answer(_summary(model, found, {name: table.head(top) for name, table in tables.items()}))
    if not as_json:
        for (title, columns), table in zip(_SHOWN.items(), tables.values(), strict=True):
            if len(table):
                show_table(title, columns, table.head(top)[list(columns)].to_numpy().tolist())
        tell(found.describe())
    if out is not None:
        _write(out, model, found, tables)
        tell(f"Written: {out}")


def _tables(found: "Screen") -> "dict[str, pd.DataFrame]":
    return {
        EFFECTS: found.effects(),
        SYNERGIES: found.synergies(),
        TRIPLES: found.triples(),
        FATES: found.fates(),
    }


def _summary(model: str, found: "Screen", tables: "dict[str, pd.DataFrame]") -> dict[str, Any]:
    return {
        "model": model,
        "kind": "simulation: nothing here was measured",
        "edits": list(found.edits),
        "combinations": {f"of {k}": int((found.order == k).sum()) for k in (1, 2, 3)},
        "valleys": list(found.valleys),
        "readouts": list(found.readouts.names),
        "time": found.time,
        "time_unit": found.time_unit,
        "members": len(found.members),
        "level": found.level,
        "threshold": found.threshold,
        "seconds": found.seconds,
        **{name.removesuffix(".csv"): table.to_dict("records") for name, table in tables.items()},
    }


def _write(out: Path, model: str, found: "Screen", tables: "dict[str, pd.DataFrame]") -> None:
    """Tables, a summary, and, where there are doubles to draw, the pictures."""
    import numpy as np

    from pinnsim.plot import ranked_intervals, save, synergy_map

    files: dict[str, bytes | str] = {name: table.to_csv(index=False) for name, table in tables.items() if len(table)}
    files[SUMMARY] = to_json(_summary(model, found, {}))
    write_files(out, files)
    if np.isfinite(tables[SYNERGIES]["multiplicative"].astype(float)).any():
        save(synergy_map(found), out / MAP)
        save(ranked_intervals(tables[SYNERGIES]), out / RANKING)

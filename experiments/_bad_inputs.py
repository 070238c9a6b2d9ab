"""The thirty bad inputs of the contract, each as a folder to be written and a command line to be run in it.

`CASES[number]` is a list of cases: most are projects for `pinnsim check`, the tiny project of `PROJECT` with a text or
a table changed; those that cannot occur there (stored models, solvers, disks) are the command where they can. A second
runner of a campaign (part of row 29) is refused in tests/test_sweep_store.py.
"""

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

PROJECT = """\
[data]
tidy = "readings.csv"
condition = "medium"
time_unit = "min"
scale = "log2"
simulated = true
[treatments]
up = "signal(sugar)=1@0:"
[network]
path = "network.csv"
[prior]
half_lives = "half_lives.csv"
unit = "min"
[model]
inputs = [{ name = "sugar" }]
[model.readout]
kind = "array"
[fit]
starts = 1
"""
TIMES, LEVELS = (0, 5, 10, 20), {"gA": (9.0, 9.6, 10.1, 10.4), "gB": (8.0, 8.2, 8.9, 9.5), "gC": (7.0, 6.8, 6.1, 5.9)}
TABLES = {
    "readings.csv": "gene,medium,time,value\n"
    + "".join(
        f"{gene},up,{time},{level}\n" for gene, row in LEVELS.items() for time, level in zip(TIMES, row, strict=True)
    ),
    "network.csv": "source,target,weight\ngA,gB,1\ngB,gC,-1\n",
    "half_lives.csv": "gene,half_life\ngA,5\ngB,4\ngC,8\n",
}
WIDE = {
    "expression.csv": "gene,s0,s1,s2\ngA,9,9.5,10\ngB,8,8.5,9\ngC,7,6.5,6\n",
    "samples.csv": "sample,time,medium\ns0,0,up\ns1,5,up\ns2,9,up\n",
}
SYSTEM = 'schema_version = 1\nkind = "reaction_system"\ntime_unit = "s"\n[start]\nx = 1.0\n'
SYSTEM += '[[reactions]]\nname = "birth"\nequation = "x -> 2 x"\nrate = 1.0\n'
SBML = """<?xml version="1.0" encoding="UTF-8"?>
<sbml xmlns="http://www.sbml.org/sbml/level3/version1/core" level="3" version="1"><model id="m">
<listOfCompartments><compartment id="C" size="1" constant="true" spatialDimensions="3"/></listOfCompartments>
<listOfSpecies><species id="A" compartment="C" initialAmount="1" hasOnlySubstanceUnits="false"
 boundaryCondition="false" constant="false"/></listOfSpecies>
<listOfParameters><parameter id="a" constant="false"/><parameter id="b" constant="false"/></listOfParameters>
<listOfRules>RULES</listOfRules></model></sbml>
"""
_MATH = '<math xmlns="http://www.w3.org/1998/Math/MathML">{}</math>'
CHECK = ("check", "project.toml")
SIMULATE = ("--times", "0:40:1", "--out", "x.zarr")


class Case(NamedTuple):
    """Files to write (texts, or bytes made by a function of the folder), a command line, and the code it must give."""

    code: str
    command: tuple[str, ...]
    files: dict[str, str]
    prepare: Callable[[Path], None] | None = None


def project(code: str, *changes: tuple[str, str], **tables: str) -> Case:
    """The tiny project with texts of its file replaced, and whole tables by their names without ending."""
    text = PROJECT
    for old, new in changes:
        if old not in text:
            raise ValueError(old)
        text = text.replace(old, new, 1)
    return Case(code, CHECK, {"project.toml": text, **TABLES, **{f"{name}.csv": rows for name, rows in tables.items()}})


def wide(code: str, **tables: str) -> Case:
    """The same as a matrix."""
    text = PROJECT.replace('tidy = "readings.csv"', 'wide = "expression.csv"\nsamples = "samples.csv"\ngene = "gene"')
    files = {"project.toml": text, **TABLES, **WIDE, **{f"{name}.csv": rows for name, rows in tables.items()}}
    return Case(code, CHECK, files)


def simulated(code: str, *more: str) -> Case:
    """A simulation of the toggle switch."""
    return Case(code, ("simulate", "toggle_switch", *SIMULATE, *more), {})


def system(code: str, old: str = "", new: str = "", *more: str) -> Case:
    """A simulation of a reaction system of one's own."""
    text = SYSTEM.replace(old, new, 1) if old else SYSTEM
    return Case(code, ("simulate", "own.toml", *SIMULATE, *more), {"own.toml": text})


def sbml(code: str, rules: str) -> Case:
    """An SBML model with these rules."""
    return Case(code, ("check", "model.xml"), {"model.xml": SBML.replace("RULES", rules)})


def stored(code: str, prepare: Callable[[Path], None]) -> Case:
    """A model of the shelf that something was done to."""
    return Case(code, ("simulate", "model", *SIMULATE), {}, prepare)


def rule(variable: str, math: str) -> str:
    """An assignment rule in MathML."""
    return f'<assignmentRule variable="{variable}">{_MATH.format(math)}</assignmentRule>'


def edited(file: str, old: str, new: str) -> str:
    """A table with a text replaced."""
    if old not in TABLES[file]:
        raise ValueError(old)
    return TABLES[file].replace(old, new)


def _copied(folder: Path) -> Path:
    import shutil

    from pinnsim import shelf

    return Path(shutil.copytree(shelf.path("toggle_switch"), folder / "model"))


def _flip(folder: Path) -> None:
    path = _copied(folder) / "parameters.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _resealed(folder: Path, **changes: object) -> None:
    """Changes a manifest and gives it the digest that fits."""
    from pinnsim.formats import bundle

    path = folder / bundle.MANIFEST
    manifest = {k: v for k, v in (json.loads(path.read_text()) | changes).items() if k != "digest"}
    path.write_bytes(bundle._canonical({**manifest, "digest": bundle._self_digest(manifest)}))


def _newer(folder: Path) -> None:
    _resealed(_copied(folder), schema_version=3)


def _other_order(folder: Path) -> None:
    """Parameters of the same model with its genes the other way round."""
    import hashlib

    from pinnsim import shelf, store
    from pinnsim.model import build
    from pinnsim.prior import LogNormal

    kept, place = shelf.load("toggle_switch"), _copied(folder)
    genes = kept.network.genes[::-1]
    rate = LogNormal(kept.prior.rate.median[::-1], kept.prior.rate.log_sd[::-1])
    prior = type(kept.prior)(rate, genes, kept.prior.source[::-1], kept.prior.quantity, kept.prior.time_unit)
    (place / "parameters.safetensors").write_bytes(
        store.encode_tree(build(kept.config, kept.network.restrict(genes), prior).center)
    )
    names = ("model.toml", "parameters.safetensors")
    _resealed(place, files={name: hashlib.sha256((place / name).read_bytes()).hexdigest() for name in names})


def _single(folder: Path) -> None:
    """A model that was saved in single precision."""
    import jax

    from pinnsim.formats.bundle import save_model
    from pinnsim.model import ModelConfig, build
    from pinnsim.network import Network
    from pinnsim.prior import half_life_prior

    with jax.enable_x64(False):
        network, config = Network.empty(("a", "b")), ModelConfig()
        prior = half_life_prior(None, network.genes, "B. subtilis")
        save_model(folder / "model", build(config, network, prior).center, config, network, prior)


def _occupied(folder: Path) -> None:
    """A file where a folder is wanted."""
    (folder / "taken").write_text("a file")


def called(case: Case, folder: Path) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a case in a folder of its own."""
    from pinnsim.cli import run

    for name, text in case.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        if case.prepare is not None:
            case.prepare(folder)
        status = run(list(case.command))
    return status, out.getvalue(), err.getvalue()


def found(case: Case, folder: Path) -> bool:
    """Whether it yields its code, with the exit status that belongs to it, and no traceback."""
    from pinnsim.errors import CODES

    status, _, said = called(case, folder)
    codes = {line.partition(":")[0] for line in said.splitlines()}
    least = min((CODES[code][0] for code in codes if code in CODES), default=-1)
    return case.code in codes and status == least and "Traceback" not in said


def _cells(folder: Path) -> None:
    """The example of single cells."""
    from pinnsim.cli import run

    run(["init", str(folder / "cells"), "--template", "snapshots"])


def _no_layer(folder: Path) -> None:
    _cells(folder)
    path = folder / "cells" / "project.toml"
    path.write_text(path.read_text().replace('mrna = "X"', 'mrna = "splicd"'))


def _huge(folder: Path) -> None:
    """A file of a few kilobytes that declares a million genes x a million cells."""
    import h5py

    _cells(folder)
    with h5py.File(folder / "cells" / "cells.h5ad", "w") as file:
        file.create_dataset("X", shape=(10**6, 10**6), dtype="f8", chunks=(1000, 1000))


_CELLS = ("check", "cells/project.toml")
_RATE = "rate = 1.0"
_COUNTS = ('scale = "log2"', 'scale = "counts"')
CASES: dict[int, list[Case]] = {
    1: [project("E_DATA_NEGATIVE", _COUNTS, readings=edited("readings.csv", "gA,up,5,9.6", "gA,up,5,-2"))],
    2: [
        project("E_DATA_NONFINITE", readings=edited("readings.csv", "gA,up,5,9.6", "gA,up,5,inf")),
        project("E_DATA_NONFINITE", readings=edited("readings.csv", "gA,up,5,9.6", "gA,up,5,")),
    ],
    3: [wide("E_GENE_DUPLICATE", expression=WIDE["expression.csv"].replace("gB,", "gA,"))],
    4: [project("E_GENE_UNMATCHED", network="source,target,weight\nGA,gB,1\ngX,gC,-1\n")],
    5: [
        wide("E_TIME_ORDER", samples=WIDE["samples.csv"].replace("s2,9", "s2,3")),
        project("E_TIME_ORDER", readings=edited("readings.csv", "gA,up,10,", "gA,up,5,")),
    ],
    6: [project("E_TIME_FEW", readings="gene,medium,time,value\ngA,up,0,9\ngB,up,0,8\ngC,up,0,7\n")],
    7: [project("E_TIME_UNIT", readings=edited("readings.csv", ",5,", ",5 min,").replace(",10,", ",1 h,"))],
    8: [
        project(
            "W_GENE_CONSTANT",
            readings=edited("readings.csv", "9.6", "9.0").replace("10.1", "9.0").replace("10.4", "9.0"),
        )
    ],
    9: [project("E_SCALE_MISMATCH", ("[fit]", '[model.likelihood]\nkind = "negative_binomial"\n[fit]'))],
    10: [
        project(
            "E_SCALE_MISMATCH", ('scale = "log2"', 'scale = "linear"'), readings=edited("readings.csv", "9.6", "9600")
        ),
        project("W_SCALE_RAW", ('scale = "log2"', 'scale = "linear"')),
    ],
    11: [Case("E_LAYER_MISSING", _CELLS, {}, _no_layer)],
    12: [project("E_NETWORK_EMPTY", network="source,target,weight\n")],
    13: [project("E_DATA_EMPTY", readings="gene,medium,time,value\n")],
    14: [sbml("E_RULE_CYCLE", rule("a", "<apply><plus/><ci>b</ci><cn>1</cn></apply>") + rule("b", "<ci>a</ci>"))],
    15: [project("E_CONFIG_KEY", ("[fit]", "[fit]\nlerning_rate = 0.1"))],
    16: [
        project("E_PERTURB_GENE", ("signal(sugar)=1@0:", "gX=0@5:")),
        simulated("E_PERTURB_GENE", "-t", "U=0"),
    ],
    17: [
        project("E_DOSE_NEGATIVE", ("signal(sugar)=1@0:", "gA*-1@5:")),
        project("E_PERTURB_CONFLICT", ("signal(sugar)=1@0:", "gA=0, gA*3")),
    ],
    18: [
        project("E_PERTURB_TIME", ("signal(sugar)=1@0:", "gA=0@50:60")),
        simulated("E_PERTURB_TIME", "-t", "u=0@50:60"),
    ],
    19: [
        project("E_BOUNDS", ("[model.readout]\n", "[model.readout]\nfloor = 12.0\nceiling = 3.0\n")),
        project("E_CONFIG_VALUE", ("[fit]", "[model.regulation]\nhill = 9.0\n[fit]")),
    ],
    20: [system("E_INIT", "x = 1.0", "x = -1.0")],
    21: [stored("E_CKPT_VERSION", _newer)],
    22: [stored("E_CKPT_MODEL", _other_order)],
    23: [stored("E_CKPT_CORRUPT", _flip)],
    24: [stored("E_PRECISION", _single)],
    25: [sbml("E_SBML_UNSUPPORTED", f"<algebraicRule>{_MATH.format('<ci>a</ci>')}</algebraicRule>")],
    26: [sbml("E_SBML_INVALID", rule("a", "<ci>nothing</ci>"))],
    27: [system("E_FORMULA", _RATE, "rate = \"__import__('os')\"")],
    28: [system("E_SOLVER", _RATE, 'rate = "x * x"')],
    29: [
        Case("E_DISK", ("fit", "project.toml", "--out", "taken/out"), {"project.toml": PROJECT, **TABLES}, _occupied),
    ],
    30: [Case("E_SIZE", _CELLS, {}, _huge)],
}

"""Hostile files of our own, more than forty: what strangers' files have done to other programs."""

import io
import json
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

SBML = (
    '<?xml version="1.0" encoding="UTF-8"?>{before}'
    '<sbml xmlns="http://www.sbml.org/sbml/level3/version2/core" level="3" version="2"{spaces}>'
    '<model id="m">{functions}<listOfCompartments><compartment id="C" size="1" constant="true"/></listOfCompartments>'
    '<listOfSpecies><species id="A" compartment="C" initialAmount="3" hasOnlySubstanceUnits="false"'
    ' boundaryCondition="false" constant="false"/></listOfSpecies>'
    '<listOfParameters><parameter id="k" value="{value}" constant="true"/></listOfParameters>'
    '<listOfReactions><reaction id="R" reversible="false"><listOfReactants>'
    '<speciesReference species="A" stoichiometry="1" constant="true"/></listOfReactants><kineticLaw>'
    '<math xmlns="http://www.w3.org/1998/Math/MathML">{law}</math></kineticLaw></reaction></listOfReactions>{after}'
    "</model></sbml>"
)
# Python's own form of stored objects, of one that runs a command where it is read; written out by hand.
BOMB = b"cposix\nsystem\n(S'touch canary'\ntR."
LAW = "<apply><times/><ci>k</ci><ci>A</ci></apply>"


class Attack(NamedTuple):
    """A hostile file: what it tries, how it is read, where it is."""

    what: str
    kind: str
    path: Path


def attacks(folder: Path, sound: dict[str, list[Path]]) -> list[Attack]:
    """Writes all of them. **Arguments:** `sound`: seeds by kind, to be poisoned."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "secret.txt").write_text("secret")
    found = []
    for makers in (_models(), _texts(), _bundles(folder), _hdf5(folder)):
        for number, (what, kind, make) in enumerate(makers, start=len(found)):
            place = folder / f"{number:02d}"
            place.mkdir()
            found.append(Attack(what, kind, make(place, sound)))
    return found


Maker = Callable[[Path, dict[str, list[Path]]], Path]


def _file(name: str, content: bytes | str) -> Maker:
    def make(place: Path, sound: dict[str, list[Path]]) -> Path:
        path = place / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return make


def sbml(law: str = LAW, *, before: str = "", spaces: str = "", functions: str = "", value: str = "0.7",
         after: str = "") -> str:  # fmt: skip
    """A small model with something put in."""
    return SBML.format(law=law, before=before, spaces=spaces, functions=functions, value=value, after=after)


def _models() -> Iterator[tuple[str, str, Maker]]:
    entities = "".join(f'<!ENTITY e{k} "{f"&e{k - 1};" * 10 if k else "ha"}">' for k in range(12))
    doubling = "".join(
        f'<functionDefinition id="f{k}"><math xmlns="http://www.w3.org/1998/Math/MathML"><lambda><bvar><ci>x</ci></bvar>'
        + (f"<apply><ci>f{k - 1}</ci><apply><ci>f{k - 1}</ci><ci>x</ci></apply></apply>" if k else
           "<apply><plus/><ci>x</ci><ci>x</ci></apply>")
        + "</lambda></math></functionDefinition>"
        for k in range(40)
    )  # fmt: skip
    circle = (
        '<functionDefinition id="f"><math xmlns="http://www.w3.org/1998/Math/MathML"><lambda><bvar><ci>x</ci></bvar>'
        "<apply><ci>f</ci><ci>x</ci></apply></lambda></math></functionDefinition>"
    )
    tower = "<cn>9</cn>"
    for _ in range(60):
        tower = f"<apply><power/><cn>9</cn>{tower}</apply>"
    factorial = "<apply><factorial/>" * 12 + "<cn>9</cn>" + "</apply>" * 12
    wide = f"<apply><plus/>{'<ci>A</ci>' * 600_000}</apply>"
    annotation = "<annotation>" + "<a>" * 150_000 + "</a>" * 150_000 + "</annotation>"
    comp = ' xmlns:comp="http://www.sbml.org/sbml/level3/version1/comp/version1" comp:required="true"'
    external = (
        '<comp:listOfExternalModelDefinitions><comp:externalModelDefinition comp:id="x" comp:source="secret.txt"/>'
        "</comp:listOfExternalModelDefinitions>"
    )
    texts = {
        "entities that double": sbml(before=f"<!DOCTYPE sbml [{entities}]>").replace(">k<", ">&e11;<"),
        "one long entity many times": sbml(before=f'<!DOCTYPE sbml [<!ENTITY a "{"a" * 50_000}">]>',
                                           value="&a;" * 5_000),
        "an external entity": sbml(before='<!DOCTYPE sbml [<!ENTITY x SYSTEM "file:///etc/passwd">]>', value="&x;"),
        "an external document type": sbml(before='<!DOCTYPE sbml SYSTEM "http://127.0.0.1:9/x.dtd">'),
        "a parameter entity": sbml(before='<!DOCTYPE s [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]>'),
        "MathML 20,000 deep": sbml("<apply><minus/>" * 20_000 + "<ci>A</ci>" + "</apply>" * 20_000),
        "an annotation 150,000 deep": sbml(after=annotation),
        "functions that double 40 times": sbml("<apply><ci>f39</ci><ci>A</ci></apply>",
                                              functions=f"<listOfFunctionDefinitions>{doubling}</listOfFunctionDefinitions>"),
        "a function that calls itself": sbml("<apply><ci>f</ci><ci>A</ci></apply>",
                                             functions=f"<listOfFunctionDefinitions>{circle}</listOfFunctionDefinitions>"),
        "a tower of powers": sbml(f"<apply><times/>{tower}<ci>A</ci></apply>"),
        "factorials of factorials": sbml(f"<apply><times/>{factorial}<ci>A</ci></apply>"),
        "a sum of 600,000 terms": sbml(wide),
        "a number of 100,000 digits": sbml(value="9" * 100_000),
        "not a number as a rate": sbml(value="NaN"),
        "infinity as a rate": sbml(value="INF"),
        "a name that is code": sbml(LAW.replace(">k<", ">__import__('os').system('touch canary')<")),
        "a model from another file": sbml(spaces=comp, after=external),
        "an include": sbml(after='<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="file:///etc/passwd"/>'),
        "a style sheet": sbml(before='<?xml-stylesheet href="http://127.0.0.1:9/x.xsl" type="text/xsl"?>'),
    }  # fmt: skip
    for what, text in texts.items():
        yield what, "sbml", _file("m.xml", text)


def _texts() -> Iterator[tuple[str, str, Maker]]:
    yield "Antimony that imports a file", "antimony", _file("m.ant", 'import "/etc/passwd"\nA -> B; A = 1; B = 0')
    yield "Antimony, 20,000 brackets", "antimony", _file("m.ant", f"A := {'(' * 20_000}1{')' * 20_000}")
    yield "Antimony, powers of powers", "antimony", _file("m.ant", f"A = {'^'.join(['9'] * 80)}; B' = A; B = 0")
    code = "__import__('os').system('touch canary')"
    yield (
        "a reaction system whose law is code",
        "system",
        _file(
            "model.toml", f'schema = 1\nkind = "reaction_system"\n[reactions.r]\nequation = "A -> B"\nlaw = "{code}"\n'
        ),
    )
    yield "TOML nested 5,000 deep", "project", _project("a = " + "[" * 5_000 + "]" * 5_000)
    yield "a treatment that is code", "project", _project(None, '[treatments]\ndrug = "' + code + '"\n')
    yield "a spreadsheet's command", "project", _project(None, "", ("data.csv", "\na,control,0.0,=cmd|' /C calc'!A0"))
    yield "a value of 400 digits", "project", _project(None, "", ("data.csv", f"\na,control,0.0,{'9' * 400}"))
    yield (
        "a campaign of 10^18 points",
        "campaign",
        _file(
            "c.toml",
            'model = "toggle_switch"\ntimes = [0.0, 1.0]\n[[axes]]\nname = "dose"\n'
            "linear = [0.0, 1.0, 1000000000000000000]",
        ),
    )


def _project(text: str | None, more: str = "", row: tuple[str, str] | None = None) -> Maker:
    def make(place: Path, sound: dict[str, list[Path]]) -> Path:
        folder = place / "project"
        shutil.copytree(sound["project"][0], folder)
        config = folder / "project.toml"
        kept = config.read_text()
        if more:
            kept = kept[: kept.index("[treatments]")] + more + kept[kept.index("[network]") :]
        config.write_text(kept if text is None else text)
        if row:
            (folder / row[0]).write_text((folder / row[0]).read_text().rstrip() + row[1] + "\n")
        return folder

    return make


def _bundles(folder: Path) -> Iterator[tuple[str, str, Maker]]:
    def poisoned(name: str, content: bytes) -> Maker:
        def make(place: Path, sound: dict[str, list[Path]]) -> Path:
            target = place / "bundle"
            shutil.copytree(sound["bundle"][0], target)
            (target / name).write_bytes(content)
            return target

        return make

    array = io.BytesIO()
    np.lib.format.write_array_header_1_0(array, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    header = json.dumps({"x": {"dtype": "F64", "shape": [10**12], "data_offsets": [0, 8 * 10**12]}}).encode()
    yield "an object that runs a command as parameters", "bundle", poisoned("parameters.safetensors", BOMB)
    yield "an array of objects as parameters", "bundle", poisoned("parameters.safetensors", array.getvalue() + BOMB)
    yield "parameters of 8 TB", "bundle", poisoned("parameters.safetensors", struct.pack("<Q", len(header)) + header)
    yield "a header of 2^63 bytes", "bundle", poisoned("parameters.safetensors", struct.pack("<Q", 2**63) + b"{}")
    yield "a manifest nested 100,000 deep", "bundle", poisoned("manifest.json", b"[" * 100_000)

    def archive(place: Path, sound: dict[str, list[Path]]) -> Path:
        path = place / "bundle"
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("../../canary", "x")
        return path

    yield "an archive with a path that climbs", "bundle", archive

    def linked(place: Path, sound: dict[str, list[Path]]) -> Path:
        target = place / "bundle"
        shutil.copytree(sound["bundle"][0], target)
        (target / "manifest.json").unlink()
        (target / "manifest.json").symlink_to(folder / "secret.txt")
        return target

    yield "a manifest that is a link to a secret", "bundle", linked


def _hdf5(folder: Path) -> Iterator[tuple[str, str, Maker]]:
    def changed(change: Callable[[h5py.File], None], kind: str = "h5ad", name: str = "c.h5ad") -> Maker:
        def make(place: Path, sound: dict[str, list[Path]]) -> Path:
            path = place / name
            shutil.copyfile(sound[kind][0], path)
            with h5py.File(path, "r+") as file:
                change(file)
            return path

        return make

    def huge(file: h5py.File) -> None:
        del file["X"]
        file.create_dataset("X", shape=(10**6, 10**6), chunks=(100, 100), dtype="f8").attrs.update(
            {"encoding-type": "array", "encoding-version": "0.2.0"}
        )

    def empty(file: h5py.File) -> None:
        del file["X"]
        file.create_dataset("X", shape=(30, 50_000_000), chunks=(1, 100), dtype="f8").attrs.update(
            {"encoding-type": "array", "encoding-version": "0.2.0"}
        )

    def external(file: h5py.File) -> None:
        del file["X"]
        file["X"] = h5py.ExternalLink(str(folder / "secret.txt"), "/X")

    def elsewhere(file: h5py.File) -> None:
        del file["X"]
        file.create_dataset("X", shape=(30, 6), dtype="f8", external=[(str(folder / "secret.txt"), 0, 1440)])

    def circular(file: h5py.File) -> None:
        file["obs/again"] = file["/"]

    def stored(file: h5py.File) -> None:
        file["uns/object"] = np.void(BOMB)

    yield "cells: 8 TB declared", "h5ad", changed(huge)
    yield "cells: 12 GB of which nothing is written", "h5ad", changed(empty)
    yield "cells: a link to another file", "h5ad", changed(external)
    yield "cells: counts that lie in another file", "h5ad", changed(elsewhere)
    yield "cells: a group that holds itself", "h5ad", changed(circular)
    yield "cells: such an object among notes", "h5ad", changed(stored)
    yield (
        "a simulation: a link to another file",
        "simulation",
        changed(
            lambda file: file.__setitem__("link", h5py.ExternalLink(str(folder / "secret.txt"), "/X")),
            "simulation",
            "s.nc",
        ),
    )

"""Damage to files: what a copy, an editor, a hostile hand or another program's export may do, drawn at random."""

import random
import re
from pathlib import Path

import h5py
import numpy as np

EXTREME = [b"nan", b"inf", b"-inf", b"-1", b"0", b"1e308", b"1e-320", b"1e400", b"9" * 400, b"1_000", b"0x10", b"1e6 ",
           b"\xe2\x88\x92" + b"1", b"", b"true", b"'", b'"', b"=CMD()", b"NA", b"null"]  # fmt: skip
WORDS = {
    "sbml": [b"<!DOCTYPE a>", b"&e;", b"<apply><power/>", b"<csymbol/>", b"</math>", b"<delay/>", b"<infinity/>",
             b"<cn>nan</cn>", b' id="time"', b' id="A"', b"<piecewise>", b"]]>", b"<![CDATA["],
    "antimony": [b"import 'x'", b"A -> B;", b"^", b"(" * 50, b"model *x()", b"end", b":=", b"'", b"at (time>1):",
                 b"delete A;", b"-o", b"A.B.C", b"function f(x) f(x) end", b"1/0", b"exp(1e9)"],
    "text": [b"[", b"]", b'"""', b"\n[model]\n", b"../../etc/passwd", b"__import__('os').system('x')", b",", b";",
             b"\t", b"\r", b"=", b"{", b"}", b"!!python/object", b"\x00", b"# ", b"https://example.org/x"],
}  # fmt: skip
BINARY = ("simulation", "h5ad")
_NUMBER = re.compile(rb"(?<![\w.])-?\d+\.?\d*(?:[eE][-+]?\d+)?")


def mutated(content: bytes, kind: str, draw: random.Random, other: bytes = b"") -> bytes:
    """The content after one to four random changes; `other`: a second file of the kind, for splices."""
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        content = draw.choice(_CHANGES)(content, kind, draw, other)
    return content[:2_000_000]


def damage(path: Path, kind: str, draw: random.Random, other: bytes = b"") -> None:
    """Damages a file where it lies. HDF5 is damaged by bits, or in its content with all the rest left sound."""
    if kind not in BINARY:
        path.write_bytes(mutated(path.read_bytes(), kind, draw, other))
    elif draw.random() < 0.5:
        path.write_bytes(_flip(path.read_bytes(), kind, draw, other))
    else:
        with h5py.File(path, "r+") as file:
            names: list[str] = []
            file.visit(names.append)
            for _ in range(draw.choice((1, 1, 2))):
                draw.choice((_lost, _odd, _odd, _odd, _retyped, _relabelled))(file, draw.choice(names), draw)


def _lost(file: h5py.File, name: str, draw: random.Random) -> None:
    if name in file:
        del file[name]


def _odd(file: h5py.File, name: str, draw: random.Random) -> None:
    """One value of an array of numbers becomes an extreme one."""
    item = file.get(name)
    if isinstance(item, h5py.Dataset) and item.dtype.kind in "fiu" and item.size:
        values = np.array(item[()])
        value = draw.choice([np.nan, np.inf, -1.0, 1e300, 0.5, 2**40])
        with np.errstate(all="ignore"):
            values.reshape(-1)[draw.randrange(values.size)] = np.asarray(value).astype(values.dtype)
        item[()] = values


def _retyped(file: h5py.File, name: str, draw: random.Random) -> None:
    """An array of another type, shape or length under the same name and label."""
    item = file.get(name)
    if isinstance(item, h5py.Dataset):
        labels = dict(item.attrs)
        del file[name]
        made = draw.choice([np.zeros((3, 3)), np.array(b"text"), np.zeros(0), np.arange(7), np.zeros((30, 6), "S3")])
        file.create_dataset(name, data=made).attrs.update(labels)


def _relabelled(file: h5py.File, name: str, draw: random.Random) -> None:
    item = file.get(name)
    if item is not None and len(item.attrs):
        label = draw.choice(sorted(item.attrs))
        item.attrs[label] = draw.choice(["csr_matrix", "dataframe", "categorical", "", "9.9", "dict", "string-array"])


def _span(content: bytes, draw: random.Random, longest: int = 200) -> tuple[int, int]:
    start = draw.randrange(len(content) + 1)
    return start, min(len(content), start + draw.randint(1, longest))


def _flip(content: bytes, kind: str, draw: random.Random, other: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 3, 20))):
        if changed:
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _cut(content: bytes, kind: str, draw: random.Random, other: bytes) -> bytes:
    start, stop = _span(content, draw)
    return content[:start] + content[stop:]


def _repeat(content: bytes, kind: str, draw: random.Random, other: bytes) -> bytes:
    start, stop = _span(content, draw)
    return content[:stop] + content[start:stop] * draw.choice((1, 2, 50)) + content[stop:]


def _truncate(content: bytes, kind: str, draw: random.Random, other: bytes) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def _splice(content: bytes, kind: str, draw: random.Random, other: bytes) -> bytes:
    start, stop = _span(other, draw, 2000)
    place = draw.randrange(len(content) + 1)
    return content[:place] + other[start:stop] + content[place:]


def _insert(content: bytes, kind: str, draw: random.Random, other: bytes) -> bytes:
    place = draw.randrange(len(content) + 1)
    return content[:place] + draw.choice(WORDS.get(kind, WORDS["text"])) + content[place:]


def _number(content: bytes, kind: str, draw: random.Random, other: bytes) -> bytes:
    numbers = list(_NUMBER.finditer(content))
    if not numbers:
        return _flip(content, kind, draw, other)
    found = draw.choice(numbers)
    return content[: found.start()] + draw.choice(EXTREME) + content[found.end() :]


def _lines(content: bytes, kind: str, draw: random.Random, other: bytes) -> bytes:
    lines = content.split(b"\n")
    one, two = draw.randrange(len(lines)), draw.randrange(len(lines))
    lines[one], lines[two] = lines[two], lines[one]
    return b"\n".join(lines)


def _word(content: bytes, kind: str, draw: random.Random, other: bytes) -> bytes:
    """A name exchanged for another of the file's."""
    words = list(re.finditer(rb"[A-Za-z_]\w*", content))
    if len(words) < 2:
        return _cut(content, kind, draw, other)
    one, two = draw.sample(words, 2)
    return content[: one.start()] + two.group() + content[one.end() :]


_CHANGES = (_flip, _cut, _repeat, _truncate, _splice, _insert, _lines, *[_number] * 5, *[_word] * 5)

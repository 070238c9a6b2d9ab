"""A signed, typed gene network: who may regulate whom, in which direction, how surely and according to whom.

Edges are arrays (one entry per edge), names are static tuples that the arrays index; so a model's equations see only
integers and numbers, and a change of sign or confidence never recompiles anything. A sign of 0 means that the
direction of the effect is unknown: the edge is kept and the model learns its sign. A regulator that is not among
`genes` is one that nobody measured (see `Network.restrict`).

The shuffled network is the control of DESIGN 7: targets are exchanged between edges, which keeps every out-degree,
every in-degree and each regulator's number of activating and repressing edges (Maslov & Sneppen 2002, Science
296:910), and destroys who regulates whom.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import equinox as eqx
import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from pinnsim.errors import PinnsimError, Problems, closest, first
from pinnsim.shown import Facts, as_html, as_text, some
from pinnsim.texttable import blank, need_columns, numbers, pick, read_table, row_name

# `source` is the last resort: tables that have a regulator column use it for the data base.
_REGULATOR = ("regulator", "tf", "source")
_TARGET = ("target", "target_gene", "gene")
_SIGN = ("sign", "mor", "weight", "effect")
_KIND = ("kind", "type", "interaction", "effect")
_ORIGIN = ("origin", "evidence", "database", "resource", "references", "reference", "source")
_CONFIDENCE = ("confidence", "score")

_WORDS: dict[str, float] = {
    **dict.fromkeys(("+", "+1", "activation", "activator", "activates", "activating", "active", "positive", "up"), 1.0),
    **dict.fromkeys(("induction", "inducer", "induces", "stimulation", "stimulates", "sigma factor", "enhancer"), 1.0),
    **dict.fromkeys(("-", "−", "-1", "repression", "repressor", "represses", "repressing", "negative", "down"), -1.0),
    **dict.fromkeys(("inhibition", "inhibitor", "inhibits", "inhibiting", "silencer", "silencing"), -1.0),
    **dict.fromkeys(("", "?", "+-", "-+", "+/-", "dual", "both", "unknown", "unspecified", "na", "nan", "none"), 0.0),
}  # fmt: skip


class Network(eqx.Module):
    """Signed edges from regulators to genes.

    **Arguments:** `genes`, the names that `target` indexes; `regulators`, the names that `source` indexes (each once,
    in order); `source`, `target`, indices per edge; `sign`, +1 activates, -1 represses, 0 unknown (learnable);
    `confidence` in (0, 1]; `kind` and `origin`, words per edge ("activation", "sigma factor"; where the edge comes
    from). Use `Network.read`, `from_frame` or `empty`: they check.
    """

    source: Int[np.ndarray, " edge"]
    target: Int[np.ndarray, " edge"]
    sign: Float[np.ndarray, " edge"]
    confidence: Float[np.ndarray, " edge"]
    genes: tuple[str, ...] = eqx.field(static=True)
    regulators: tuple[str, ...] = eqx.field(static=True)
    kind: tuple[str, ...] = eqx.field(static=True)
    origin: tuple[str, ...] = eqx.field(static=True)

    @classmethod
    def read(cls, path: str | Path) -> Network:
        """The network of a `.csv` or `.tsv` table; columns as in `from_frame`. **Raises** also `E_DATA_FILE`."""
        return _from_table(read_table(path), str(Path(path).name), None, from_file=True)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, genes: Sequence[str] | None = None) -> Network:
        """The network of a table with one row per edge.

        **Arguments:** `frame` with the columns regulator | tf | source, target | gene, and optionally sign | mor |
        weight | effect (numbers, + and -, or words such as activation and repression; blank, ? or dual = unknown),
        confidence in (0, 1], kind | type | effect, origin | evidence | database. Without a confidence column
        `|weight|`, scaled to at most 1, is the confidence. `genes`, the order of the genes; default: regulators and
        targets in the order they appear.

        **Returns:** the network; without any sign column every sign is unknown.

        **Raises:** `E_COLUMN_MISSING`, `E_NETWORK_EMPTY`, `E_NETWORK_SIGN`, `E_NETWORK_EDGE`, `E_DATA_TYPE`,
        `E_GENE_UNMATCHED`; all at once.
        """
        return _from_table(read_table(frame), "table", genes, from_file=False)

    @classmethod
    def empty(cls, genes: Sequence[str]) -> Network:
        """A network of unregulated genes."""
        none = np.zeros(0, dtype=np.int64)
        return cls(none, none, np.zeros(0), np.zeros(0), tuple(genes), (), (), ())

    def __repr__(self) -> str:
        return as_text(self._facts())

    def _repr_html_(self) -> str:
        return as_html(self._facts())

    def _facts(self) -> Facts:
        sign = np.asarray(self.sign)
        kinds = ((sign > 0, "activating"), (sign < 0, "repressing"), (sign == 0, "of unknown sign"))
        counts = ", ".join(f"{int(mask.sum())} {word}" for mask, word in kinds if mask.any())
        rows = [("genes", some(self.genes)), ("regulators", some(self.regulators)), ("edges", len(sign))]
        rows += [("signs", counts)] if counts else []
        return "Network", [*rows, ("not measured", some(self.hidden))]

    @property
    def edges(self) -> tuple[str, ...]:
        """The name of every edge, `regulator->target`."""
        pairs = zip(self.source.tolist(), self.target.tolist(), strict=True)
        return tuple(f"{self.regulators[s]}->{self.genes[t]}" for s, t in pairs)

    @property
    def hidden(self) -> tuple[str, ...]:
        """Regulators that are not among `genes`: their activity acts, but nothing of them was measured."""
        known = set(self.genes)
        return tuple(name for name in self.regulators if name not in known)

    def restrict(self, genes: Sequence[str], allow_missing: bool = False) -> Network:
        """The network among measured genes.

        **Arguments:** `genes`, the measured genes in the wanted order (isolated ones stay, unregulated);
        `allow_missing`, accept that some nodes of the network were not measured: edges to an unmeasured target are
        dropped, an unmeasured regulator stays as a `hidden` one.

        **Returns:** a network whose `genes` are exactly `genes`.

        **Raises:** `E_GENE_UNMATCHED` if nodes of the network are absent from `genes` and `allow_missing` is false,
        and always if none is present; `E_GENE_DUPLICATE` if a gene is given twice; `E_NETWORK_EMPTY` if no edge is
        left.
        """
        with Problems() as problems:
            twice = _repeated(genes)
            if twice:
                problems.add(
                    "E_GENE_DUPLICATE", f"Argument `genes` names {first(twice)} more than once; name each once."
                )
            check_matched(problems, self._linked(), genes, allow_missing, "network genes", "data")
        known = set(genes)
        kept = [e for e, t in enumerate(self.target.tolist()) if self.genes[t] in known]
        if len(self.target) and not kept:
            raise PinnsimError.of("E_NETWORK_EMPTY", "no edge of the network ends in a measured gene; check the names.")
        return _assemble(
            [self.regulators[self.source[e]] for e in kept],
            [self.genes[self.target[e]] for e in kept],
            self.sign[kept],
            self.confidence[kept],
            [self.kind[e] for e in kept],
            [self.origin[e] for e in kept],
            tuple(genes),
        )

    def shuffled(self, seed: int) -> Network:
        """The control network: targets exchanged between random pairs of edges, every degree and every regulator's
        signs kept.

        **Arguments:** `seed` of the exchange; the same seed gives the same network.

        **Returns:** a network without duplicate edges that differs from this one.

        **Raises:** `E_NETWORK_EMPTY` if no two edges can exchange their targets, so that no control of this kind
        exists.
        """
        rng = np.random.default_rng(seed)
        n = len(self.target)
        target = self.target.copy()
        present = set(zip(self.source.tolist(), target.tolist(), strict=True))
        original = frozenset(present)
        # 20 attempts per edge mix the degree sequence thoroughly (Milo et al. 2003, arXiv:cond-mat/0312028).
        for a, b in rng.integers(0, n, size=(20 * n, 2)) if n else ():
            old = ((int(self.source[a]), int(target[a])), (int(self.source[b]), int(target[b])))
            new = ((old[0][0], old[1][1]), (old[1][0], old[0][1]))
            if old[0][0] == old[1][0] or new[0] in present or new[1] in present:
                continue
            present -= set(old)
            present |= set(new)
            target[a], target[b] = target[b], target[a]
        if present == original:
            raise PinnsimError.of(
                "E_NETWORK_EMPTY", f"the network ({n} edges) allows no exchange of targets; it has no shuffled control."
            )
        return eqx.tree_at(lambda network: network.target, self, target)

    def to_frame(self) -> pd.DataFrame:
        """One row per edge: source, target, sign, confidence, kind, origin. `from_frame(frame, genes)` is the
        inverse."""
        return pd.DataFrame(
            {
                "regulator": [self.regulators[s] for s in self.source.tolist()],
                "target": [self.genes[t] for t in self.target.tolist()],
                "sign": self.sign,
                "confidence": self.confidence,
                "kind": list(self.kind),
                "origin": list(self.origin),
            }
        )

    def _linked(self) -> list[str]:
        """Nodes that have an edge, in order."""
        return list(dict.fromkeys([*self.regulators, *(self.genes[t] for t in self.target.tolist())]))


def check_matched(
    problems: Problems, wanted: Sequence[str], there: Sequence[str], allow_missing: bool, what: str, where: str
) -> None:
    """Adds `E_GENE_UNMATCHED` with near misses if `wanted` names are absent from `there` (none present: always an
    error)."""
    known = set(there)
    absent = [name for name in wanted if name not in known]
    if not absent or (allow_missing and len(absent) < len(wanted)):
        return
    near = [(name, closest(name, there)) for name in absent]
    hints = first([f"'{n}'→'{m}'" + (" (case)" if n.lower() == m.lower() else "") for n, m in near if m is not None])
    remedy = "Rename them, or pass allow_missing=True: unmeasured regulators stay, hidden; edges to the others go."
    if len(absent) == len(wanted):
        remedy = "No name matches: check that both use the same naming."
    problems.add(
        "E_GENE_UNMATCHED",
        f"{len(absent)} of {len(wanted)} {what} absent from {where} ({first(absent)})"
        + (f"; closest: {hints}" if hints else "")
        + f". {remedy}",
    )


def _repeated(names: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    return list(dict.fromkeys(name for name in names if name in seen or seen.add(name)))  # type: ignore[func-returns-value]


def _text(cell: object) -> str:
    """A cell as stripped text; a missing cell of a frame is blank, not the gene 'nan'."""
    return cell.strip() if isinstance(cell, str) else "" if pd.isna(cell) else str(cell)  # type: ignore[call-overload]


def _from_table(frame: pd.DataFrame, origin: str, genes: Sequence[str] | None, from_file: bool) -> Network:
    regulator, target = pick(frame, _REGULATOR), pick(frame, _TARGET)
    sign_column, confidence_column = pick(frame, _SIGN), pick(frame, _CONFIDENCE)
    kind_column = pick(frame, tuple(name for name in _KIND if name != "effect" or sign_column is not None))
    origin_column = pick(frame, tuple(name for name in _ORIGIN if name != str(regulator).lower()))
    optional = {"sign": sign_column, "confidence": confidence_column, "kind": kind_column, "origin": origin_column}
    with Problems() as problems:
        wanted = {"regulator": regulator or "regulator", "target": target or "target"}
        wanted |= {role: name for role, name in optional.items() if name is not None}
        if not need_columns(problems, frame, wanted, f"network '{origin}'", nameable=False):
            problems.raise_any()
        if not len(frame):
            problems.add(
                "E_NETWORK_EMPTY", f"network '{origin}' has no edges; use Network.empty(genes) if this is meant."
            )
            problems.raise_any()
        # A row without both ends is a broken row, not an edge to a gene called ''.
        sources, targets = ([_text(cell) for cell in frame[name]] for name in (regulator, target))
        rows = [row_name(index, from_file) for index in frame.index]
        broken = [row for row, s, t in zip(rows, sources, targets, strict=True) if not s or not t]
        if broken:
            problems.add(
                "E_NETWORK_EDGE", f"{len(broken)} rows of '{origin}' lack a regulator or a target ({first(broken)})."
            )
        sign, size = _signs(problems, frame, sign_column, rows, origin)
        confidence = _confidences(problems, frame, confidence_column, sign_column, size, rows, origin, from_file)
        _check_duplicates(problems, sources, targets, sign, rows, origin)
        if genes is not None:
            check_matched(problems, list(dict.fromkeys(targets)), genes, False, "targets", "`genes`")
    words = {1.0: "activation", -1.0: "repression", 0.0: "unknown"}
    kinds = [words[s] for s in sign.tolist()] if kind_column is None else [_text(cell) for cell in frame[kind_column]]
    origins = [origin] * len(frame) if origin_column is None else [_text(cell) for cell in frame[origin_column]]
    order = tuple(dict.fromkeys([*sources, *targets])) if genes is None else tuple(genes)
    return _assemble(sources, targets, sign, confidence, kinds, origins, order)


def _assemble(
    sources: list[str],
    targets: list[str],
    sign: np.ndarray,
    confidence: np.ndarray,
    kind: list[str],
    origin: list[str],
    genes: tuple[str, ...],
) -> Network:
    regulators = tuple(dict.fromkeys(sources))
    row, column = {name: i for i, name in enumerate(regulators)}, {name: i for i, name in enumerate(genes)}
    return Network(
        source=np.array([row[name] for name in sources], dtype=np.int64),
        target=np.array([column[name] for name in targets], dtype=np.int64),
        sign=np.asarray(sign, dtype=np.float64),
        confidence=np.asarray(confidence, dtype=np.float64),
        genes=genes,
        regulators=regulators,
        kind=tuple(kind),
        origin=tuple(origin),
    )


def _signs(
    problems: Problems, frame: pd.DataFrame, column: str | None, rows: list[str], origin: str
) -> tuple[np.ndarray, np.ndarray]:
    """Sign and absolute size of every edge; an unreadable sign is a problem, a blank one is unknown."""
    sign, size = np.zeros(len(frame)), np.full(len(frame), np.nan)
    if column is None:
        return sign, size
    bad: list[str] = []
    for i, cell in enumerate(frame[column].tolist()):
        text = _text(cell).lower()
        if text in _WORDS:
            sign[i] = _WORDS[text]
            continue
        try:
            value = float(text)
        except ValueError:
            value = np.nan
        if np.isfinite(value):
            sign[i], size[i] = np.sign(value), abs(value)
        else:
            bad.append(f"{rows[i]} = '{cell}'")
    if bad:
        problems.add(
            "E_NETWORK_SIGN",
            f"{len(bad)} entries of column '{column}' of '{origin}' are no signs (first: {first(bad)}); use numbers, "
            "+ and -, activation and repression, or leave the cell blank where the sign is unknown.",
        )
    return sign, size


def _confidences(
    problems: Problems,
    frame: pd.DataFrame,
    column: str | None,
    sign_column: str | None,
    size: np.ndarray,
    rows: list[str],
    origin: str,
    from_file: bool,
) -> np.ndarray:
    if column is not None:
        values = numbers(problems, frame[column], f"column '{column}' of '{origin}'", from_file)
        # Text that is no number was reported by `numbers`; a blank cell was not.
        read = np.isfinite(values) | blank(frame[column])
        bad = [f"{row} = {v:g}" for row, v, r in zip(rows, values.tolist(), read, strict=True) if r and not 0 < v <= 1]
        if bad:
            problems.add(
                "E_NETWORK_EDGE",
                f"{len(bad)} confidences of '{origin}' lie outside (0, 1] (first: {first(bad)}); rescale.",
            )
        return values
    values = np.ones(len(frame))
    if sign_column is not None and str(sign_column).strip().lower() == "weight":
        given = np.isfinite(size)
        zero = [row for row, s in zip(rows, size.tolist(), strict=True) if s == 0]
        if zero:
            problems.add(
                "E_NETWORK_EDGE",
                f"{len(zero)} edges of '{origin}' have weight 0 ({first(zero)}); drop them, or give a `sign` "
                "column with 0 for edges of unknown sign.",
            )
        elif given.any():
            values[given] = size[given] / max(1.0, float(size[given].max()))
    return values


def _check_duplicates(
    problems: Problems, sources: list[str], targets: list[str], sign: np.ndarray, rows: list[str], origin: str
) -> None:
    where: dict[tuple[str, str], list[int]] = {}
    for i, pair in enumerate(zip(sources, targets, strict=True)):
        where.setdefault(pair, []).append(i)
    repeated = {pair: places for pair, places in where.items() if len(places) > 1}
    if repeated:
        shown = first(
            f"{s}->{t} ({', '.join(rows[i] for i in places)}"
            + ("; opposite signs)" if len(set(sign[places].tolist())) > 1 else ")")
            for (s, t), places in repeated.items()
        )
        problems.add(
            "E_NETWORK_EDGE",
            f"{len(repeated)} edges of '{origin}' are listed more than once: {shown}; keep one row each, with a "
            "blank sign where the sources disagree.",
        )

"""XML from strangers, looked at before any parser of models sees it: no document type, no entities, bounded in size,
depth and number of elements.

The scan is one pass of expat, which works without recursion and is stopped at the first thing that is refused, so that
neither an entity that doubles thirty times nor formulas nested twenty thousand deep reach libSBML.
"""

import dataclasses
from xml.parsers import expat

from pinnsim.errors import PinnsimError

_ENCODINGS = ("utf-8", "us-ascii", "ascii")


@dataclasses.dataclass(frozen=True)
class Limits:
    """What is read: `size` in bytes, `depth` and number of `elements`, nodes of all formulas with functions written out
    (`nodes`); and what the parser may take: `memory` in bytes, `seconds`."""

    size: int = 50_000_000
    depth: int = 200
    elements: int = 2_000_000
    nodes: int = 500_000
    memory: int = 2_000_000_000
    seconds: int = 60


LIMITS = Limits()


def scan_xml(content: bytes, place: str, limits: Limits = LIMITS) -> None:
    """Refuses what an SBML file has no use for.

    **Arguments:** `content`: the file's bytes; `place`: its name for messages.

    **Raises** `E_SIZE` for more than `limits`, `E_SBML_INVALID` for a document type, entities, other encodings than
    UTF-8, and text that is no XML; with the line.
    """
    if len(content) > limits.size:
        raise PinnsimError.of(
            "E_SIZE", f"'{place}' has {len(content)} bytes, limit {limits.size}; pass limits= with a larger `size`."
        )
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise PinnsimError.of("E_SBML_INVALID", f"'{place}' is not UTF-8 text; save it as UTF-8.")
    _Scan(place, limits).read(content)


class _Scan:
    def __init__(self, place: str, limits: Limits) -> None:
        self.place, self.limits = place, limits
        self.depth = self.elements = 0
        # No namespaces: names are not looked at.
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.XmlDeclHandler = self._declared
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.EntityDeclHandler = self._doctype

    def read(self, content: bytes) -> None:
        try:
            self.parser.Parse(content, True)
        except expat.ExpatError as error:
            reason = expat.ErrorString(error.code) or "not well-formed"
            raise PinnsimError.of(
                "E_SBML_INVALID", f"'{self.place}', line {error.lineno}: no XML ({reason}); write the file again."
            ) from error
        if not self.elements:
            raise PinnsimError.of("E_SBML_INVALID", f"'{self.place}' is empty; give an SBML file.")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        self.elements += 1
        if self.depth > self.limits.depth:
            self._refuse("E_SIZE", f"nested more than {self.limits.depth} deep; write sums and products flat")
        if self.elements > self.limits.elements:
            self._refuse("E_SIZE", f"more than {self.limits.elements} elements; split the model")

    def _end(self, name: str) -> None:
        self.depth -= 1

    def _declared(self, version: str, encoding: str | None, standalone: int) -> None:
        if encoding is not None and encoding.lower() not in _ENCODINGS:
            self._refuse("E_SBML_INVALID", f"the encoding '{encoding}' is not read; save it as UTF-8")

    def _doctype(self, *_: object) -> None:
        self._refuse("E_SBML_INVALID", "a document type or entity has no place in SBML and is not read; remove it")

    def _refuse(self, code: str, what: str) -> None:
        raise PinnsimError.of(code, f"'{self.place}', line {self.parser.CurrentLineNumber}: {what}.")

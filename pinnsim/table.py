"""The names of a model's rates: what equations build and perturbations are resolved against.

A compiled model knows positions only; its `Table` is the one place that knows names. It lists the genes, the
regulators (nodes with outgoing edges), the external inputs (signals), and the reactions, species and edges in the
order of the model's arrays. Reactions of gene kinetics are called `kind:gene` (`transcription:GATA1`), species
`gene.layer` (`GATA1.mrna`, `GATA1.protein`); a hidden activity is the species `gene.activity`, a gene's own hidden
input `gene.input`.
"""

import dataclasses
from functools import cached_property

from pinnsim.errors import PinnsimError, closest


@dataclasses.dataclass(frozen=True)
class Table:
    """Names of everything a perturbation may edit, in array order. Hashable, so that it can be a static field of a
    model.

    **Arguments:** tuples of names; `reactions` as `kind:gene` and `species` as `gene.layer` for gene kinetics, or as
    the source names them for other models.
    """

    genes: tuple[str, ...]
    regulators: tuple[str, ...]
    inputs: tuple[str, ...]
    reactions: tuple[str, ...]
    species: tuple[str, ...]
    edges: tuple[str, ...]

    @cached_property
    def _positions(self) -> dict[str, dict[str, int]]:
        return {
            field.name: {name: position for position, name in enumerate(getattr(self, field.name))}
            for field in dataclasses.fields(self)
        }

    def position(self, what: str, name: str) -> int | None:
        """Position of `name` among the table's `what` ("genes", "species", ...), or `None` when it is not there."""
        return self._positions[what].get(name)

    def require(self, what: str, name: str, code: str = "E_PERTURB_GENE") -> int:
        """Like `position`, but raises `code` with the closest name when it is not there."""
        found = self.position(what, name)
        if found is None:
            raise PinnsimError.of(code, self.unknown(what, name))
        return found

    def unknown(self, what: str, name: str) -> str:
        """The sentence for an unknown name: what is missing, the closest name, and how to list the names."""
        names = getattr(self, what)
        near = closest(name, names)
        hint = f" (did you mean '{near}'?)" if near else ""
        return f"'{name}' is not among the model's {len(names)} {what}{hint}; list them with model.table.{what}."

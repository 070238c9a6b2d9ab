"""Antimony in: kinetic models as people write them, through the antimony package and SBML.

    S1 -> S2; k1 * S1
    S1 = 10; k1 = 0.1

Source: L. P. Smith et al., Bioinformatics 25:2452 (2009).
"""

from pathlib import Path

from pinnsim.dynamics.events import PLACES
from pinnsim.dynamics.rules import RuleSystem
from pinnsim.errors import PinnsimError
from pinnsim.formats.sbml.read import parsed_text, system_of
from pinnsim.formats.sbml.scan import LIMITS, Limits
from pinnsim.formats.toml import read_text

_LONGEST = 2_000_000  # characters


def read_antimony(
    text: str | Path, *, limits: Limits = LIMITS, isolated: bool = True, places: int = PLACES
) -> RuleSystem:
    """The model of an Antimony text, or of the file at a `Path`; otherwise as `pinnsim.read_sbml`.

    **Raises** also `E_SBML_UNSUPPORTED` for `import`, which would read other files, and `E_SIZE`.

    Source: Smith et al. (2009), above; the semantics are those of the SBML it stands for.
    """
    place = str(text) if isinstance(text, Path) else "Antimony text"
    content = read_text(text) if isinstance(text, Path) else text
    if len(content) > _LONGEST:
        raise PinnsimError.of("E_SIZE", f"'{place}' has {len(content)} characters, limit {_LONGEST}; split the model.")
    parsed = parsed_text(content.encode(), place, kind="antimony", limits=limits, isolated=isolated)
    return system_of(parsed, place, places)

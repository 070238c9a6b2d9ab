"""A kinetic model as what the decoder starts from: its states along courses, on the scale of the readings.

    eta_m = log x(t_m)  (counts),   log2 x(t_m)  or  log(1 + x(t_m))  (logarithmic readings)

What multiplies all abundances of a gene (how much of it is captured) is the decoder's own offset.
"""

from collections.abc import Sequence

import numpy as np

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError, first
from pinnsim.latent.cells import check_scale
from pinnsim.latent.network import Anchor
from pinnsim.parameter import frozen
from pinnsim.shapes import Numbers
from pinnsim.simulate import AbstractInitial, simulate
from pinnsim.treatment import NONE, Treatment

_LEAST = 1e-4  # of a gene's largest abundance: below it a logarithm would be all that counts


def kinetic_anchor(
    kinetics: AbstractKinetics,
    times: Numbers,
    readings: Sequence[str],
    *,
    scale: str,
    treatments: Treatment | str | Sequence[Treatment | str] = NONE,
    initial: AbstractInitial | None = None,
) -> Anchor:
    """What a kinetic model says of expression, for `fit_latent`.

    **Arguments:** `kinetics`: resolved or not; `times`: (time,), of the nodes, in its unit; `readings`: the data's
    genes (or `gene.layer`), of which each must be a species, by its name or as the only one of that gene; `scale`: of
    the data; `treatments`: one course each; `initial`: where courses start (default: at rest).

    **Returns** an anchor of (treatment x time) nodes.

    **Raises** `E_GENE_UNMATCHED` for readings that the model does not have, `E_SCALE_MISMATCH`, `E_SOLVER` for courses
    that cannot be solved, and what `simulate` raises.
    """
    counted = check_scale(scale)
    species = kinetics.table.species
    where = [_place(name, species) for name in readings]
    missing = [name for name, place in zip(readings, where, strict=True) if place < 0]
    if missing:
        raise PinnsimError.of(
            "E_GENE_UNMATCHED",
            f"{len(missing)} of {len(readings)} readings are not species of the kinetic model ({first(missing)}); it "
            f"has {first(species)}. Select the others from the snapshots.",
        )
    found = simulate(kinetics, times, treatments, initial=initial).raise_failures()
    states = np.asarray(found.states)[..., where].reshape(-1, len(where))
    floor = _LEAST * np.maximum(states.max(axis=0), np.finfo(states.dtype).tiny)
    if counted:
        return Anchor(frozen(np.log(np.maximum(states, floor))))
    return Anchor(frozen(np.log2(np.maximum(states, floor)) if scale == "log2" else np.log1p(states)))


def _place(name: str, species: tuple[str, ...]) -> int:
    if name in species:
        return species.index(name)
    own = [k for k, one in enumerate(species) if one.partition(".")[0] == name and not one.endswith(".activity")]
    return own[0] if len(own) == 1 else -1

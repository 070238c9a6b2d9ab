"""The landscape under a treatment that changes with time, moment by moment.

At a moment t the treatment's edits are frozen, and the landscape is that of the cell for which they would last:

    phi(x; t) = -ln p_ss(x; edits(t)),      0 = -div (f(x; edits(t)) p_ss - grad (D p_ss))

It says towards what the cell is driven at that moment; it is not the density of cells at that moment, which lags
behind. Moments with equal edits share one grid, so a push that is on and then off costs two, and all moments run one
compiled program, because edits are array leaves.

Source: M. Saez, J. Briscoe and D. A. Rand, Interface Focus 12:20220002 (2022): landscapes that signals tilt.
"""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np
from tqdm import tqdm

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError
from pinnsim.landscape.coordinates import Numbers, frozen, kinetics_of, resolved
from pinnsim.landscape.fokker_planck import Grid, fokker_planck
from pinnsim.landscape.noise import AbstractNoise
from pinnsim.landscape.relief import Relief, relief_of_grid
from pinnsim.landscape.system import System
from pinnsim.model import CellModel
from pinnsim.perturbation import Perturbation
from pinnsim.treatment import Treatment
from pinnsim.tree import brief


@dataclasses.dataclass(frozen=True)
class InTime:
    """Landscapes at moments.

    **Arguments:** `times`: (time,), in the model's unit; `grids`: the distinct ones; `which`: (time,), the grid of each
    moment; `treatment`: its text.
    """

    __repr__ = brief

    times: np.ndarray
    grids: tuple[Grid, ...]
    which: np.ndarray
    treatment: str
    time_unit: str

    def reliefs(self, axes: tuple[str, str] | None = None) -> tuple[Relief, ...]:
        """Heights of every distinct grid, see `relief_of_grid`; `which` tells whose moment is whose."""
        return tuple(relief_of_grid(grid, axes) for grid in self.grids)


def in_time(
    model: CellModel | AbstractKinetics,
    noise: AbstractNoise | Callable[[System], AbstractNoise],
    box: tuple[Numbers, Numbers],
    cells: int | tuple[int, ...],
    treatment: Treatment | Perturbation | str,
    times: Numbers,
    *,
    progress: bool = False,
) -> InTime:
    """The landscape at every moment of a treatment.

    **Arguments:** `noise`, `box`, `cells`: see `fokker_planck`; `treatment`: with its starts, stops and dose curves;
    `times`: (time,); `progress`: a bar over the distinct moments.

    **Returns** an `InTime`. **Raises** `E_USAGE` for times that are not finite, and for a treatment that holds a
    species some of the time only (the grid would lose an axis); what `fokker_planck` raises.
    """
    kinetics = kinetics_of(model)
    edits = resolved(treatment, kinetics)
    moments = np.atleast_1d(np.asarray(times, dtype=float))
    if moments.ndim != 1 or not moments.size or not np.isfinite(moments).all():
        raise PinnsimError.of("E_USAGE", "Argument `times` must be one or more finite numbers.")
    acting = [frozen(edits, moment) for moment in moments]
    held = np.stack([np.asarray(a.hold[0]) > 0 for a in acting])
    if (held != held[:1]).any():
        names = [n for n, some in zip(kinetics.table.species, (held != held[:1]).any(axis=0), strict=True) if some]
        raise PinnsimError.of(
            "E_USAGE",
            f"The treatment holds {', '.join(names)} some of the time, when the grid would have no such axis; push by "
            "drive, factor or signal, or hold all the time.",
        )
    keys = [b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(a)) for a in acting]
    order = list(dict.fromkeys(keys))
    with tqdm(total=len(order), desc="landscapes", unit="moment", disable=None if progress else True) as bar:
        grids = []
        for key in order:
            grids.append(fokker_planck(model, noise, box, cells, acting[keys.index(key)]))
            bar.update()
    which = np.array([order.index(key) for key in keys])
    text = "" if isinstance(treatment, Perturbation) else str(treatment)
    return InTime(moments, tuple(grids), which, text, kinetics.time_unit)

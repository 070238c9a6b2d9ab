"""The phase portrait of any two species of a model: nullclines, streamlines, and fixed points by stability.

What the other species do is part of the picture, because another choice of them is another picture: the title tells it.
"""

import dataclasses
import textwrap
from collections.abc import Sequence

import scipy.interpolate
from matplotlib.axes import Axes

from pinnsim.errors import PinnsimError
from pinnsim.landscape import MinimumAction, Plane, Relief
from pinnsim.plot.bifurcation import phase_portrait
from pinnsim.plot.style import styled, with_unit


@styled
def plane_portrait(
    plane: Plane,
    *,
    paths: Sequence[MinimumAction] = (),
    relief: Relief | None = None,
    unit: str = "",
    title: str = "Flow and nullclines",
    simulated: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """The flow of a plane of two species, with the fixed points of `plane.points`; the title tells what the others do.

    **Arguments:** `plane`: of `pinnsim.landscape.plane`; `paths`: of `minimum_action`, of the whole cell; `relief`:
    heights behind the flow, over the same two species; `unit`: of both species.

    **Returns** axes. **Raises** `E_USAGE` for a relief of other species.
    """
    if relief is not None and relief.axes != plane.species:
        raise PinnsimError.of(
            "E_USAGE", f"The relief is over {' x '.join(relief.axes)}, the flow over {' x '.join(plane.species)}."
        )
    columns = [plane.points.species.index(name) for name in plane.species]
    flat = [
        dataclasses.replace(
            found,
            paths=tuple(dataclasses.replace(path, points=path.points[:, columns]) for path in found.paths),
            species=plane.species,
        )
        for found in paths
    ]
    text = f"{title}; {plane.others}" if plane.others else title
    ax = phase_portrait(
        scipy.interpolate.RegularGridInterpolator((plane.x, plane.y), plane.flow),
        ((plane.x[0], plane.y[0]), (plane.x[-1], plane.y[-1])),
        plane.species,
        points=dataclasses.replace(plane.points, states=plane.points.states[:, columns]),
        paths=flat,
        potential=None if relief is None else relief.potential,
        grid=None if relief is None else (relief.x, relief.y),
        title="\n".join(textwrap.wrap(text, 60)),
        simulated=simulated,
        ax=ax,
    )
    ax.set_xlabel(with_unit(plane.species[0], unit))
    ax.set_ylabel(with_unit(plane.species[1], unit))
    return ax

"""Rate laws as pictures: how fast one reaction runs as one species grows, by several models of it."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.errors import PinnsimError
from pinnsim.fit import KineticFit
from pinnsim.perturbation import Perturbation
from pinnsim.plot.style import CYCLE, DASHES, PALE, new_axes, styled, titled, with_unit


@styled
def rate_law(
    models: Mapping[str, AbstractKinetics | KineticFit],
    reaction: str,
    species: str,
    amounts: ArrayLike,
    *,
    seen: tuple[float, float] | None = None,
    level: float = 0.9,
    unit: str = "amount",
    time_unit: str = "",
    title: str | None = None,
    simulated: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """The rate of one reaction against the amount of one species, everything else as the model starts.

    **Arguments:** `models`: name -> a model, or a fit, with its interval of this `level` as a band; `reaction`,
    `species`: names that all of them have; `amounts`: (amount,); `seen`: lowest and highest amount that the data held,
    shaded outside; `unit`: of amounts; `time_unit`: default that of the first model.

    **Raises** `E_DATA_EMPTY` without models, `E_PERTURB_GENE` for unknown names.
    """
    if not models:
        raise PinnsimError.of("E_DATA_EMPTY", "There is no model, so there is no rate to draw.")
    across = np.asarray(amounts, dtype=float)
    ax = new_axes(ax, (6.4, 4.2))
    told = time_unit
    for k, (name, given) in enumerate(models.items()):
        color, dash = CYCLE[k % len(CYCLE)], ("-", *DASHES)[k % (1 + len(DASHES))]
        if isinstance(given, KineticFit):
            low, rates, high = given.rate(reaction, species, across, level)
            ax.fill_between(across, low, high, color=color, alpha=0.2, linewidth=0)
            name, told = f"{name}, with its {level:.0%} interval", told or given.kinetics.time_unit
        else:
            rates, told = _rates(given, reaction, species, across), told or given.time_unit
        ax.plot(across, rates, color=color, linestyle=dash, label=name)
    if seen is not None:
        for left, right in ((across.min(), seen[0]), (seen[1], across.max())):
            if right > left:
                ax.axvspan(left, right, color=PALE, alpha=0.6, linewidth=0, zorder=0)
        ax.plot([], [], color=PALE, linewidth=6, label="amounts that the data do not hold")
    ax.set_xlim(across.min(), across.max())
    ax.set_ylim(bottom=0.0)
    ax.set_xlabel(with_unit(species, unit))
    ax.set_ylabel(with_unit(f"rate of {reaction}", f"{unit}/{told}" if told else unit))
    ax.set_title(titled(f"How fast {reaction} runs" if title is None else title, simulated))
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)
    return ax


def _rates(model: AbstractKinetics, reaction: str, species: str, amounts: np.ndarray) -> np.ndarray:
    """(amount,)."""
    column, row = model.table.require("reactions", reaction), model.table.require("species", species)
    none, start = Perturbation.none(model.table), model.default_state()

    def one(amount: jax.Array) -> jax.Array:
        return model.propensities(jnp.zeros(()), start.at[row].set(amount), none)[column]

    return np.asarray(jax.vmap(one)(jnp.asarray(amounts)))

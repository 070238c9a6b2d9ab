"""From a cell model to populations of measured layers, and from what was read of cells to the states they seem to have.

One instrument reads every measured layer. Its unit is chosen so that abundances are of order 1: the scale of gene g is
the highest mean reading, per unit of exposure, of its most mature measured layer,

    reading_ig = exposure_i scale_g x_ig,
    scale_g = max over conditions and times of mean_i (reading_ig / exposure_i),

because thresholds and rates of synthesis have priors in units of abundance. The scale is no parameter of the cell: a
gene's rates of synthesis and its thresholds carry what the scale does not know.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pinnsim.data.snapshots import Snapshots
from pinnsim.dynamics.gene_kinetics import LAYERS
from pinnsim.errors import PinnsimError, Problems
from pinnsim.fit.population import AbstractBegin, AbstractPush, PopulationModel, PopulationPrior, SampledBegin
from pinnsim.model import CellModel, ModelConfig, ModelPrior
from pinnsim.observation import LikelihoodConfig, LinearReadout, ReadoutConfig
from pinnsim.parameter import positive, resolve
from pinnsim.perturbation import Perturbation
from pinnsim.units import time_factor

_MATURE = ("mrna", "spliced", "unspliced")  # the first that was measured gives the scale
_LEAST = 1e-3  # of the highest scale: what a gene that was hardly seen is given


def reading_scale(snapshots: Snapshots) -> np.ndarray:
    """The highest mean reading per unit of exposure of every gene, (gene,), of its most mature RNA layer measured."""
    layer = next((name for name in _MATURE if name in snapshots.layers), snapshots.layers[0])
    highest = np.nanmax(snapshots.mean()[:, :, snapshots.layers.index(layer)], axis=(0, 1))
    return np.maximum(highest, _LEAST * max(float(highest.max()), _LEAST))


def usual_config(layers: tuple[str, ...], time_unit: str, scale: str) -> ModelConfig:
    """A configuration to begin with, for populations of cells whose abundances are read by `reading_scale`.

    Production can carry a gene to twice its highest mean (log-sd 0.5); counts are Poisson beside the cells' own noise,
    other readings have 10 % of a scale of 1; splicing has a half-life of 5 minutes, which is not fitted.

    **Arguments:** `layers`: measured ones, which are also the model's; `scale`: "counts" or "linear". **Raises**
    `E_CONFIG_VALUE` for layers that no model has, and for logarithms, which a linear readout does not give.
    """
    with Problems() as problems:
        if layers not in LAYERS:
            known = "; ".join(", ".join(names) for names in LAYERS)
            problems.add(
                "E_CONFIG_VALUE", f"No model has the layers {', '.join(layers)}; there are {known}. Give config=."
            )
        if scale not in ("counts", "linear"):
            problems.add(
                "E_CONFIG_VALUE", f"scale='{scale}' needs config= with a readout of its own; counts or linear do not."
            )
    return ModelConfig(
        layers=layers,
        time_unit=time_unit,
        synthesis=2.0,
        synthesis_sd=0.5,
        splicing_half_life=5.0 * time_factor("min", time_unit),
        readout=ReadoutConfig(kind="linear"),
        likelihood=LikelihoodConfig(kind="poisson") if scale == "counts" else LikelihoodConfig(sd=0.1),
    )


def population_prior(
    prior: ModelPrior,
    layers: tuple[str, ...],
    begin: AbstractBegin,
    push: AbstractPush,
    scale: np.ndarray | None = None,
) -> PopulationPrior:
    """The prior of cells that begin and move so, and are read layer by layer by the model's instrument.

    **Arguments:** `prior`: from `build`; `layers`: measured ones, in the data's order; `begin`, `push`: as given, they
    are not fitted; `scale`: (gene,), readings per unit of abundance in place of the configuration's (`reading_scale`),
    kept fixed; only for a linear readout.

    **Raises** `E_CONFIG_VALUE` where several layers are read by an instrument that is to be fitted, or a scale is given
    for another readout.
    """
    center, spread = prior.center.observation, prior.spread.observation
    if scale is not None:
        if not isinstance(center.readout, LinearReadout):
            raise PinnsimError.of(
                "E_CONFIG_VALUE",
                f"A scale per gene needs readout.kind = 'linear', but the readout is {type(center.readout).__name__}.",
            )
        center = eqx.tree_at(lambda one: one.readout.scale, center, positive(np.asarray(scale, dtype=float)))
    free = [leaf for leaf in jax.tree.leaves(eqx.filter(spread, eqx.is_inexact_array)) if np.any(np.asarray(leaf) != 0)]
    if free and len(layers) > 1:
        raise PinnsimError.of(
            "E_CONFIG_VALUE",
            f"{len(layers)} layers ({', '.join(layers)}) are read by one instrument, which cannot be fitted for each "
            "of them: set offset_sd, scale_sd and dispersion_sd of readout and likelihood to 0.",
        )

    def still(tree: AbstractBegin | AbstractPush) -> AbstractBegin | AbstractPush:
        return jax.tree.map(lambda leaf: jnp.zeros_like(leaf) if eqx.is_inexact_array(leaf) else leaf, tree)

    count = len(layers)
    return PopulationPrior(
        PopulationModel(prior.center.kinetics, begin, push, (center,) * count),
        PopulationModel(prior.spread.kinetics, still(begin), still(push), (spread,) * count),  # type: ignore[arg-type]
    )


def cell_model(population: PopulationModel) -> CellModel:
    """The cell of a fitted population and its instrument; lanes stay lanes."""
    return CellModel(population.kinetics, population.observations[0])  # type: ignore[arg-type]


def cell_states(
    model: CellModel, readings: Float[np.ndarray, "cell layer gene"], layers: tuple[str, ...]
) -> Float[np.ndarray, "cell species"]:
    """States that cells with these readings per unit of exposure seem to have; layers that were not measured are at
    rest with the cell's RNA, hidden activities at their set points.

    **Arguments:** `layers`: the model's names of what was read. **Raises** `E_GENE_UNMATCHED` for a layer that the
    model does not have.
    """
    missing = [name for name in layers if name not in model.kinetics.layers]
    if missing:
        raise PinnsimError.of(
            "E_GENE_UNMATCHED", f"The model has no layer '{missing[0]}'; it has {', '.join(model.kinetics.layers)}."
        )
    species = model.table.species
    where = np.array([[species.index(f"{gene}.{layer}") for gene in model.table.genes] for layer in layers])
    return np.asarray(_states(model, jnp.asarray(readings, dtype=float), jnp.asarray(where)))


@eqx.filter_jit
def _states(model: CellModel, readings: Array, where: Array) -> Array:
    cell = resolve(model)
    amounts = jax.vmap(jax.vmap(cell.observation.readout.invert))(readings)
    keys = jnp.zeros((readings.shape[0], 2), dtype=jnp.uint32)
    return SampledBegin().states(cell.kinetics, amounts, where, keys, Perturbation.none(cell.table))

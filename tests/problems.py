"""Small fitting problems with simulated data, shared by the tests of `fit`: three genes, two cultures, known truth."""

import jax
import jax.numpy as jnp
import numpy as np
from systems import network_of, prior_of

from pinnsim.data import Dataset
from pinnsim.data.build import Declared
from pinnsim.fit import FitPlan
from pinnsim.fit.fit import draw_start
from pinnsim.model import CellModel, ModelConfig, ModelPrior, build
from pinnsim.network import Network
from pinnsim.prior import KineticPrior
from pinnsim.simulate import ODE, AtRest, FromSample, simulate

GENES, TIMES = 3, (0.0, 2.0, 5.0, 9.0, 15.0, 25.0, 40.0)
CONDITIONS = {
    "fed": "signal(rich)=1, signal(food)=1@0:",
    "warm": "signal(food)=1, signal(rich)=1@0:, signal(heat)=1@10:",
}
SAMPLES = {"fed": (14.0, 15.2, 13.1), "warm": (15.0, 13.5, 14.4)}
QUICK = FitPlan(starts=2, keep=2, collocation_steps=20, trajectory_steps=5, substeps=2, rtol=1e-3, atol=1e-5)


def config_of(kind: str = "hidden", **changes: object) -> ModelConfig:
    """`hidden`: every regulator acts by a hidden activity and every gene has an input of its own; `abundance`:
    proteins regulate. `changes` replace whole sections."""
    hidden = kind == "hidden"
    inputs = [{"name": name, "reference": float(name != "heat")} for name in ("rich", "food", "heat")]
    sections: dict[str, object] = {
        "layers": ("mrna",) if hidden else ("mrna", "protein"),
        "inputs": inputs,
        "protein_half_life": 5.0,
        "regulation": {"hidden": "all" if hidden else "none", "own_inputs": hidden, "basal": -1.0, "tau": 6.0},
        "readout": {"kind": "array"},
        "likelihood": {"kind": "gaussian", "sd": 0.1},
    }
    return ModelConfig.model_validate({**sections, **changes})


def parts_of(kind: str = "hidden", **changes: object) -> tuple[ModelConfig, Network, KineticPrior]:
    """What a model is built from."""
    network = network_of(GENES)
    return config_of(kind, **changes), network, prior_of(network)


def prior_model(kind: str = "hidden", **changes: object) -> ModelPrior:
    """The model at its prior's centre, and the spread."""
    return build(*parts_of(kind, **changes), key=jax.random.key(5))


def truth_of(prior: ModelPrior, seed: int = 1, scale: float = 0.5) -> CellModel:
    """A model drawn from the prior."""
    return draw_start(prior, jax.random.key(seed), scale)


def measured(
    model: CellModel,
    times: tuple[float, ...] = TIMES,
    noise: float = 0.0,
    sample: bool = True,
    seed: int = 0,
    treatments: dict[str, str] = CONDITIONS,
) -> Dataset:
    """Readings of both cultures as this model gives them; from a first sample, or from rest. The first sample has no
    noise."""
    names = list(treatments)
    rules = [FromSample(jnp.asarray(SAMPLES[name])) if sample else AtRest() for name in names]
    done = simulate(model, times, list(treatments.values()), initial=rules, method=ODE(1e-9, 1e-11))
    readings = np.array(done.raise_failures().readings)
    readings[:, 1:] += noise * np.random.default_rng(seed).standard_normal(readings[:, 1:].shape)
    return dataset_of(readings, times, treatments)


def dataset_of(readings: np.ndarray, times: tuple[float, ...], treatments: dict[str, str] = CONDITIONS) -> Dataset:
    """A data set from readings, (culture, time, gene)."""
    genes = tuple(f"g{i}" for i in range(readings.shape[-1]))
    units: Declared = {"time_unit": "min", "scale": "log2", "simulated": True}
    return Dataset.build(readings[:, None], times, genes, list(treatments), treatments=treatments, **units)

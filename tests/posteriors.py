"""A fit whose posterior is known in closed form, shared by the tests of profiles, samplers and outside optimisers.

One gene at rest, read with log-normal errors: log y = log scale + log synthesis - log decay + log a + noise, which is
linear in the three free numbers, so that with normal priors the posterior is normal:

    precision = P + n / sd^2 v v',    v = (1, -1, 1),    mean = m0 + precision^-1 v sum_i r_i / sd^2.
"""

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from systems import prior_of

from pinnsim.data import Dataset
from pinnsim.fit import Cultures, FitPlan, cultures
from pinnsim.model import CellModel, ModelConfig, ModelPrior, build
from pinnsim.network import Network

NAMES = ("synthesis:g0", "decay:g0", "scale:g0")
SDS = {"synthesis": 0.8, "decay": 0.4, "scale": 0.3}
NOISE, TIMES = 0.2, (0.0, 1.0, 2.0, 4.0, 8.0)
PLAN = FitPlan(collocation_steps=10, trajectory_steps=0, substeps=1, initial="rest")
_V = np.array([1.0, -1.0, 1.0])


class Known(NamedTuple):
    """A fit's parts, and its posterior's mean and covariance in unconstrained numbers."""

    model: CellModel
    prior: ModelPrior
    data: Cultures
    plan: FitPlan
    mean: np.ndarray
    covariance: np.ndarray


def known(sds: dict[str, float] | None = None, seed: int = 0) -> Known:
    """The problem; infinite prior widths leave a number free, and its row and column of the covariance unknown."""
    sds = SDS if sds is None else sds
    config = ModelConfig.model_validate(
        {
            "synthesis": 3.0,
            "synthesis_sd": sds["synthesis"],
            "regulation": {"hidden": "none"},
            "readout": {"kind": "linear", "scale": 5.0, "scale_sd": sds["scale"]},
            "likelihood": {"kind": "lognormal", "sd": NOISE},
        }
    )
    network = Network.empty(["g0"])
    prior = build(config, network, prior_of(network))
    spread = jax.tree.map(lambda leaf: jnp.zeros_like(leaf) if eqx.is_inexact_array(leaf) else leaf, prior.spread)
    spread = eqx.tree_at(
        lambda s: (s.kinetics.synthesis.raw, s.kinetics.decay.raw, s.observation.readout.scale.raw),
        spread,
        tuple(jnp.full(1, sds[name]) for name in ("synthesis", "decay", "scale")),
    )
    prior = dataclasses.replace(prior, spread=spread)
    # Promoters without regulators are half active, so the prior expects readings of 3 x 5 / 2.
    noise = NOISE * np.random.default_rng(seed).standard_normal(len(TIMES))
    logs = np.log(7.5) + 0.7 + noise
    readings = np.exp(logs)[None, None, :, None]
    found = Dataset.build(readings, TIMES, ("g0",), ["one"], time_unit="min", scale="linear", simulated=True)
    data = cultures(found, prior.center.table, substeps=1)
    order = np.array([sds[name.partition(":")[0]] for name in NAMES])
    center = np.array([float(leaf[0]) for leaf in _raws(prior.center)])
    covariance = np.linalg.inv(np.diag(order**-2.0) + len(TIMES) / NOISE**2 * np.outer(_V, _V) + 1e-12 * np.eye(3))
    mean = center + covariance @ _V * (logs - np.log(7.5)).sum() / NOISE**2
    return Known(prior.center, prior, data, PLAN, mean, covariance)


def _raws(model: CellModel) -> tuple[jax.Array, ...]:
    return model.kinetics.synthesis.raw, model.kinetics.decay.raw, model.observation.readout.scale.raw

"""Instruments from a configuration: the tables `[model.readout]` and `[model.likelihood]`.

| measured | readout.kind | likelihood.kind |
|---|---|---|
| arrays | array | gaussian, student_t, correlated |
| RNA-seq counts (size factors with the data) | linear | negative_binomial, poisson, zero_inflated |
| qPCR threshold cycles | cycles | censored |
| protein intensities | linear | lognormal |
| the same, with readings of 0 | linear | combined |
| anything in the model's own units | identity | any |
"""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from pinnsim.errors import PinnsimError
from pinnsim.observation.censored import Censored, LogNormal
from pinnsim.observation.correlated import Correlated
from pinnsim.observation.counts import NegativeBinomial, Poisson, ZeroInflated
from pinnsim.observation.likelihood import AbstractLikelihood, Combined, Gaussian, StudentT
from pinnsim.observation.observe import Observation
from pinnsim.observation.readout import AbstractReadout, ArrayReadout, CycleReadout, IdentityReadout, LinearReadout
from pinnsim.parameter import frozen, positive

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReadoutConfig(_Section):
    """What the instrument does: `array` is log2 with saturation (floor and ceiling in log2 units; `offset` is the
    reading at abundance 1); `linear` is `background + scale * abundance`, with one `scale`, or one per gene; `cycles`
    is a threshold cycle, `offset` at abundance 1, falling by one for each factor of 1 + `efficiency`, `limit` the
    last."""

    kind: Literal["identity", "array", "linear", "cycles"] = "identity"
    offset: float = 16.5
    floor: float = 0.0
    ceiling: float = 20.0
    offset_sd: NonNegative = 0.0
    scale_sd: NonNegative = 0.0
    scale: Positive | Annotated[tuple[Positive, ...], Field(min_length=1)] = 1.0
    background: NonNegative = 0.0
    efficiency: Annotated[float, Field(gt=0, le=1)] = 1.0
    limit: Positive = 40.0


class LikelihoodConfig(_Section):
    """How far readings may lie from predictions; `correlated` adds a model error that lasts `correlation_time` and is
    largest just after a switch; `dispersion` (prior log-sd `dispersion_sd`) and `zeros` are those of counts; `sd` is
    that of the natural logarithm for `lognormal`, a share of the reading for `combined`, whose error is at least
    `least`; `censored` ends at the readout's `limit`."""

    kind: Literal[
        "gaussian",
        "student_t",
        "correlated",
        "negative_binomial",
        "poisson",
        "zero_inflated",
        "lognormal",
        "combined",
        "censored",
    ] = "gaussian"
    sd: Positive = 0.3
    least: Positive = 0.1
    df: Positive = 4.0
    early_sd: NonNegative = 0.8
    late_sd: NonNegative = 0.4
    settling_time: Positive = 30.0
    correlation_time: Positive = 30.0
    dispersion: Positive = 0.1
    dispersion_sd: NonNegative = 0.0
    zeros: Annotated[float, Field(gt=0, lt=1)] = 0.1


def observation_of(readout: ReadoutConfig, likelihood: LikelihoodConfig, genes: int) -> Observation:
    """The instrument at the centre of its prior."""
    return Observation(_readout(readout, genes), _likelihood(likelihood, readout, genes))


def observation_spreads(
    spread: Observation, readout: ReadoutConfig, likelihood: LikelihoodConfig
) -> list[tuple[jax.Array, object]]:
    """Leaves of `spread`, a tree like that of `observation_of`, and the prior standard deviations of what they stand
    for: those that are not fixed."""
    found: list[tuple[jax.Array, object]] = []
    if isinstance(spread.readout, ArrayReadout):
        found += [(spread.readout.offset, readout.offset_sd), (spread.readout.scale.raw, readout.scale_sd)]
    elif isinstance(spread.readout, CycleReadout):
        found.append((spread.readout.offset, readout.offset_sd))
    elif isinstance(spread.readout, LinearReadout):
        found.append((spread.readout.scale.raw, readout.scale_sd))
    if isinstance(spread.likelihood, NegativeBinomial | ZeroInflated):
        found.append((spread.likelihood.dispersion.raw, likelihood.dispersion_sd))
    return found


def _readout(config: ReadoutConfig, genes: int) -> AbstractReadout:
    if config.kind == "identity":
        return IdentityReadout()
    if config.kind == "linear":
        return LinearReadout(positive(_per_gene(config.scale, genes)), frozen(config.background))
    offset = jnp.full(genes, config.offset, dtype=float)
    if config.kind == "cycles":
        return CycleReadout(offset, frozen(config.efficiency), frozen(config.limit))
    return ArrayReadout(offset, positive(np.ones(genes)), frozen(config.floor), frozen(config.ceiling))


def _per_gene(scale: float | tuple[float, ...], genes: int) -> np.ndarray:
    if isinstance(scale, tuple) and len(scale) != genes:
        message = (
            f"[model.readout] scale has {len(scale)} values, but the model {genes} genes; give one, or one per gene."
        )
        raise PinnsimError.of("E_CONFIG_VALUE", message)
    return np.broadcast_to(np.asarray(scale, dtype=float), (genes,)).copy()


def _likelihood(config: LikelihoodConfig, readout: ReadoutConfig, genes: int) -> AbstractLikelihood:
    sd, df = frozen(config.sd), frozen(config.df)
    if config.kind == "poisson":
        return Poisson()
    if config.kind in ("negative_binomial", "zero_inflated"):
        dispersion = positive(np.full(genes, config.dispersion))
        inflated = config.kind == "zero_inflated"
        return ZeroInflated(dispersion, frozen(config.zeros)) if inflated else NegativeBinomial(dispersion)
    simple = {
        "gaussian": lambda: Gaussian(sd),
        "student_t": lambda: StudentT(sd, df),
        "lognormal": lambda: LogNormal(sd),
        "combined": lambda: Combined(sd, frozen(config.least)),
        "censored": lambda: Censored(sd, frozen(readout.limit)),
    }
    if config.kind in simple:
        return simple[config.kind]()
    times = (config.early_sd, config.late_sd, config.settling_time, config.correlation_time)
    return Correlated(sd, df, *(frozen(value) for value in times))

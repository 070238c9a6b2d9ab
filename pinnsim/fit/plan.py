"""How a fit is run: numbers a user may set in the `[fit]` table of a configuration file."""

from typing import Annotated, Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int
from pydantic import BaseModel, ConfigDict, Field

from pinnsim.shapes import Scalar

Count = Annotated[int, Field(ge=0, le=1_000_000)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


class Settings(eqx.Module):
    """What compiled code sees of a plan: its numbers as arrays, so that no sweep of them compiles anew, and its
    choices. `patience` is 0 for none."""

    rtol: Scalar
    atol: Scalar
    gate_penalty: Scalar
    patience: Int[Array, ""]
    initial: str = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)


class FitPlan(BaseModel):
    """Starts, stages, schedule and stopping of a fit.

    A fit has two stages: collocation (no solver; cheap, finds the region) and trajectories (through the differentiable
    solver; exact). All starts run as one program.

    Good values: 4-8 starts, 200-400 collocation steps at learning rate 0.1, 50-200 trajectory steps.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    starts: Annotated[int, Field(ge=1, le=4096)] = 4
    keep: Annotated[int, Field(ge=1, le=4096)] = 4
    start_spread: NonNegative = 0.5
    initial: Literal["sample", "rest"] = "sample"
    collocation_steps: Count = 250
    trajectory_steps: Count = 100
    substeps: Annotated[int, Field(ge=1, le=200)] = 6
    learning_rate: Positive = 0.1
    trajectory_learning_rate: Positive = 0.02
    schedule: Literal["cosine", "cyclical", "constant"] = "cosine"
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.05
    cycles: Annotated[int, Field(ge=1, le=100)] = 3
    patience: Count = 0
    gate_penalty: NonNegative = 0.0
    rtol: Positive = 1e-4
    atol: Positive = 1e-6
    max_steps: Annotated[int, Field(ge=16, le=1_000_000)] = 1024
    seed: Annotated[int, Field(ge=0)] = 0

    def settings(self) -> Settings:
        """The part of the plan that compiled code sees."""
        return Settings(
            rtol=jnp.asarray(self.rtol, dtype=float),
            atol=jnp.asarray(self.atol, dtype=float),
            gate_penalty=jnp.asarray(self.gate_penalty, dtype=float),
            patience=jnp.asarray(self.patience, dtype=int),
            initial=self.initial,
            max_steps=self.max_steps,
        )

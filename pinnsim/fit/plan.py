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
    solver; exact). All starts run as one program. Three more are off where their number of steps is 0:

    - `shooting_steps`: multiple shooting between the two, in segments of `shooting_interval` samples, with a price of
      gaps that rises from `shooting_weight` 1000-fold, or adapts to each species' gaps up to that
      (`shooting_weights = "adaptive"`; see `fit/shooting.py`): for oscillating, chaotic or stiff courses, where whole
      trajectories get stuck;
    - `curriculum_steps`: trajectories of which the horizon grows from `curriculum_from` of the span to all of it;
    - `polish_steps`: damped Gauss-Newton at the end, where the objective is a sum of squares (see `fit/polish.py`).

    Good values: 4-8 starts, 200-400 collocation steps at learning rate 0.1, 50-200 trajectory steps; 100-300 steps of
    shooting; 5-20 of polish, for up to about 1000 free parameters.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    starts: Annotated[int, Field(ge=1, le=4096)] = 4
    keep: Annotated[int, Field(ge=1, le=4096)] = 4
    start_spread: NonNegative = 0.5
    initial: Literal["sample", "rest"] = "sample"
    collocation_steps: Count = 250
    trajectory_steps: Count = 100
    shooting_steps: Count = 0
    shooting_interval: Annotated[int, Field(ge=1, le=10_000)] = 2
    shooting_weight: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    shooting_weights: Literal["rising", "adaptive"] = "rising"
    curriculum_steps: Count = 0
    curriculum_from: Annotated[float, Field(gt=0, lt=1)] = 0.2
    polish_steps: Annotated[int, Field(ge=0, le=1000)] = 0
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

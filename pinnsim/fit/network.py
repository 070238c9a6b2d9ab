"""Training of one network by the loop of fits: nothing is known before, everything is free, every chunk of steps has
data of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from pinnsim.fit.fit import run_stage_safely
from pinnsim.fit.optimise import Lanes, Measure, Progress, Stage, require_steps, with_parameters
from pinnsim.fit.plan import FitPlan
from pinnsim.fit.schedule import learning_rates
from pinnsim.tree import lane, stack


class _Free(NamedTuple):
    """What the loop asks of a prior."""

    center: Any
    spread: Any


class TrainedNetwork(NamedTuple):
    """`model`: trained; `history`: (chunk,), the loss after every ten steps; `interrupted`: whether Ctrl-C ended it."""

    model: Any
    history: np.ndarray
    interrupted: bool


def alone(model: Any, data: Any) -> Lanes:
    """One lane of the loop: this model, with everything free, and data with a leading lane axis of 1."""
    free = jax.tree.map(lambda a: jnp.ones_like(a) if eqx.is_inexact_array(a) else a, model)
    return Lanes(stack([model]), stack([_Free(model, free)]), data)


def train_network(
    model: Any,
    loss: Measure,
    chunk: Callable[[int], Any],
    schedule: FitPlan,
    steps: int,
    *,
    name: str,
    reads: str,
    told: str,
    checkpoint: str | Path | None,
    progress: bool,
) -> TrainedNetwork:
    """Minimises a loss over the network's numbers by Adam.

    **Arguments:** `loss`: of the model and a chunk's data; `chunk`: steps done -> data of the next chunk, (1, ...), the
    same whenever it is asked; `schedule`: its seed and learning rate; `name`: on the bar, in errors and in
    `<checkpoint>.<name>.safetensors`; `reads`: what the loss is told that it predicts; `told`: the plan, in which a
    checkpoint must agree.

    **Raises** `E_FIT` where no step could be taken, `E_CKPT_MODEL` and `E_CKPT_CORRUPT` for the checkpoint of another
    training or a damaged one; `KeyboardInterrupt` where there is nothing to keep yet.
    """
    rates = learning_rates(schedule, schedule.learning_rate, steps) if steps else np.zeros(0)
    lanes = alone(model, chunk(0))
    history: list[float] = []
    with tqdm(total=steps, desc=name, unit="step", disable=None if progress else True) as bar:

        def say(progress: Progress) -> str:
            history.append(float(progress.value[0]))
            return f"loss {history[-1]:.3g}"

        stage, agreed = Stage(name, reads, rates, loss), {f"{name} plan": told}
        final, interrupted = run_stage_safely(lanes, stage, schedule, checkpoint, bar, chunk, agreed, say)
    if final is None:
        if interrupted:
            raise KeyboardInterrupt
        return TrainedNetwork(model, np.zeros(0), False)
    require_steps(final, f"the {name}")
    return TrainedNetwork(lane(with_parameters(lanes, final.parameters), 0), np.asarray(history), interrupted)

"""Controls that must fail: the same fit with a wiring, or times, that were shuffled.

If a model with a shuffled network predicts as well, the network did not earn its place. Two questions are answered
apart: is the mean squared error of the controls larger beyond its bootstrap interval over genes (paired, same genes
for all), and where does the real one rank among the shuffles,

    p = (1 + number of controls that do at least as well) / (1 + number of controls)

(Phipson & Smyth 2010; it cannot fall below 1 / (1 + number), so 19 controls are needed to say 5 %).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pinnsim.errors import PinnsimError
from pinnsim.score.compare import Comparison
from pinnsim.score.metrics import DRAWS, LEVEL, Interval, interval, resample_mse, rmse


@dataclass(frozen=True)
class ControlTest:
    """A model against its controls.

    **Arguments:** `model`, its RMSE; `controls`, theirs (control,), in the order given; `mse_difference`, mean squared
    error of the controls less that of the model, with interval; `rmse_difference`, the same of root mean squared
    errors (of the controls' mean MSE); `p_rank`.
    """

    model: float
    controls: Float[np.ndarray, " control"]
    mse_difference: Interval
    rmse_difference: Interval
    p_rank: float

    @property
    def worse(self) -> bool:
        """Whether the controls are worse than the model beyond the bootstrap interval."""
        return self.mse_difference.lo > 0

    def sentence(self, name: str = "shuffled network") -> str:
        """The outcome in plain words, whichever it is."""
        n, d = len(self.controls), self.rmse_difference
        figures = f"RMSE {_spread(self.controls)} against {self.model:.3f}; {d.value:+.3f}, {d.lo:+.3f} to {d.hi:+.3f}"
        rank = f"rank p = {self.p_rank:.3f} of {n}" if n > 1 else "one control: no rank"
        if self.worse:
            return f"control '{name}' is worse than the model, beyond its bootstrap interval ({figures}; {rank})."
        if d.hi < 0:
            return (
                f"control '{name}' is BETTER than the model, beyond its bootstrap interval ({figures}; {rank}): "
                "what the control lacks harms this prediction."
            )
        return (
            f"control '{name}' is NOT worse than the model beyond its bootstrap interval ({figures}; {rank}): this "
            "prediction is no evidence for what the control lacks."
        )


def control_test(
    model: Comparison, controls: Sequence[Comparison], draws: int = DRAWS, seed: int = 0, level: float = LEVEL
) -> ControlTest:
    """Compare a model with its controls on the same readings.

    **Arguments:** `model`; `controls`, one comparison per shuffle; `draws`, `seed`, `level` of the bootstrap.

    **Raises:** `E_DATA_EMPTY` without controls, `E_DATA_SHAPE` if readings differ.
    """
    if not controls:
        raise PinnsimError.of("E_DATA_EMPTY", "a control test needs at least one control.")
    resampled = resample_mse([model, *controls], draws, seed)
    ours, theirs = resampled[0], resampled[1:].mean(axis=0)
    scores = np.array([rmse(control) for control in controls])
    model_rmse, pooled = rmse(model), float((scores**2).mean())
    return ControlTest(
        model=model_rmse,
        controls=scores,
        mse_difference=interval(pooled - model_rmse**2, theirs - ours, level),
        rmse_difference=interval(np.sqrt(pooled) - model_rmse, np.sqrt(theirs) - np.sqrt(ours), level),
        p_rank=float((1 + (scores <= model_rmse).sum()) / (1 + len(scores))),
    )


def _spread(scores: np.ndarray) -> str:
    if len(scores) == 1:
        return f"{scores[0]:.3f}"
    return f"{np.median(scores):.3f} (median of {len(scores)}, {scores.min():.3f} to {scores.max():.3f})"

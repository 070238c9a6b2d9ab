"""Whether embeddings still tell cells apart.

A prediction of embeddings is perfect where all of them are equal: training can end there, and its loss looks best. So
the spread of embeddings is measured: with lambda_k the eigenvalues of their covariance and p_k = lambda_k / sum lambda,

    participation ratio = (sum lambda)^2 / sum lambda^2,      effective rank = exp(-sum p_k log p_k),

both between 1 and the dimension.

Sources: A. Bardes, J. Ponce and Y. LeCun, ICLR (2022), for collapse; O. Roy and M. Vetterli, EUSIPCO (2007), for the
effective rank.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from pinnsim.errors import PinnsimError, warn

LEAST_VARIANCE = 0.01  # of the intended one, 1
LEAST_RANK = 0.25  # of the way from 1 to the dimension


@dataclasses.dataclass(frozen=True)
class Spread:
    """How embeddings spread.

    **Arguments:** `deviations`: standard deviations, (dimension,); `eigenvalues`: of the covariance, largest first;
    `effective_rank`, `participation`: 1 to the dimension (0 where all embeddings are equal); `collapsed`.
    """

    deviations: np.ndarray
    eigenvalues: np.ndarray
    effective_rank: float
    participation: float
    collapsed: bool

    @property
    def verdict(self) -> str:
        """One sentence, with the next move."""
        dimension = len(self.deviations)
        told = (
            f"mean variance {float(np.mean(self.deviations**2)):.3g} (intended 1), effective rank "
            f"{self.effective_rank:.2f} of {dimension}"
        )
        if not self.collapsed:
            return f"embeddings tell cells apart: {told}."
        return f"collapsed: {told}; raise the weights `reconstruct`, `spread` and `decorrelate`, or lower `dimension`."


def spread_of(embeddings: Float[np.ndarray, "cell dimension"]) -> Spread:
    """The spread of embeddings, which have collapsed where their mean variance is below 0.01 (1 is intended), or their
    effective rank below `1 + (dimension - 1) / 4`.

    **Raises** `E_DATA_EMPTY` for fewer than two cells, `E_DATA_NONFINITE`.

    >>> spread_of(np.array([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])).effective_rank
    2.0
    """
    points = np.asarray(embeddings, dtype=float)
    if len(points) < 2:
        raise PinnsimError.of("E_DATA_EMPTY", f"{len(points)} embeddings have no spread; give two or more.")
    if not np.isfinite(points).all():
        raise PinnsimError.of("E_DATA_NONFINITE", "Embeddings are not finite; lower the learning rate.")
    values = np.maximum(np.linalg.eigvalsh(np.atleast_2d(np.cov(points.T, bias=True)))[::-1], 0.0)
    total, dimension = float(values.sum()), points.shape[1]
    rank = participation = 0.0
    if total > 0:
        p = values[values > 0] / total
        rank = round(float(np.exp(-(p * np.log(p)).sum())), 12)
        participation = total**2 / float((values**2).sum())
    collapsed = total / dimension < LEAST_VARIANCE or rank < 1.0 + LEAST_RANK * (dimension - 1)
    return Spread(points.std(axis=0), values, rank, participation, collapsed)


def warn_collapse(spread: Spread) -> None:
    """Warns `W_LATENT_COLLAPSED` where embeddings have collapsed."""
    if spread.collapsed:
        warn("W_LATENT_COLLAPSED", spread.verdict, stacklevel=4)

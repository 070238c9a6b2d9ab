"""Principal components of readings: a flat map of expression space, fitted on data, on which courses are drawn.

With readings y (log2, so that a fold change has one length wherever it happens) centred on their mean m, the singular
value decomposition `Y - m = U S V'` gives axes V and explained variances `S_k^2 / sum S^2`. An axis has no direction of
its own: its largest entry is made positive, so that the same data give the same picture everywhere.

Source: I. T. Jolliffe, Principal Component Analysis, 2nd edition (2002), section 3.5.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from pinnsim.errors import PinnsimError, Problems


@dataclasses.dataclass(frozen=True)
class Projection:
    """A fitted map from readings to a few components.

    **Arguments:** `mean`: (gene,); `axes`: (component, gene), orthonormal; `explained`: (component,), the fraction of
    the data's variance along each; `genes`: names in order.
    """

    mean: np.ndarray
    axes: np.ndarray
    explained: np.ndarray
    genes: tuple[str, ...]

    def project(self, readings: Float[np.ndarray, "*lanes gene"]) -> Float[np.ndarray, "*lanes component"]:
        """Components of readings, (..., component). NaN stays NaN."""
        return (np.asarray(readings) - self.mean) @ self.axes.T

    def lift(self, components: Float[np.ndarray, "*lanes component"]) -> Float[np.ndarray, "*lanes gene"]:
        """The readings in the plane with these components: all that the map shows of a state."""
        return np.asarray(components) @ self.axes + self.mean

    def lost(self, readings: Float[np.ndarray, "*lanes gene"]) -> Float[np.ndarray, "*lanes"]:
        """Root mean square distance of readings from the plane, (...,): what the map does not show."""
        return np.sqrt(np.mean((np.asarray(readings) - self.lift(self.project(readings))) ** 2, axis=-1))

    def leading(self, component: int, count: int = 5) -> tuple[str, ...]:
        """Genes with the largest weights on a component, sign first: `("+gapB", "-ptsG", ...)`."""
        weights = self.axes[component]
        order = np.argsort(-np.abs(weights), kind="stable")[:count]
        return tuple(f"{'+' if weights[k] > 0 else '-'}{self.genes[k]}" for k in order)


def principal_components(
    readings: Float[np.ndarray, "sample gene"], genes: tuple[str, ...], components: int = 2
) -> Projection:
    """The map that shows most of the variance of these samples.

    **Arguments:** `readings`: (sample, gene), complete; stack the samples of all arms, so that one map serves all;
    `components`: at most the smaller of samples - 1 and genes.

    **Raises** `E_DATA_NONFINITE`, `E_DATA_SHAPE`, `E_DATA_EMPTY` (samples that do not differ have no axes).
    """
    data = np.asarray(readings, dtype=np.float64)
    with Problems() as problems:
        if data.ndim != 2 or data.shape[1:] != (len(genes),):
            problems.add("E_DATA_SHAPE", f"readings {data.shape} must be (sample, gene) with {len(genes)} genes.")
        elif components < 1 or min(data.shape[0] - 1, data.shape[1]) < components:
            problems.add(
                "E_DATA_SHAPE",
                f"{components} components need as many genes and one more sample, but there are {data.shape[1]} "
                f"genes and {data.shape[0]} samples; ask for fewer.",
            )
        if not np.isfinite(data).all():
            problems.add(
                "E_DATA_NONFINITE",
                f"{int((~np.isfinite(data)).sum())} of {data.size} readings are not finite; average replicates or drop "
                "these samples.",
            )
    mean = data.mean(axis=0)
    _, singular, axes = np.linalg.svd(data - mean, full_matrices=False)
    total = float((singular**2).sum())
    if total == 0:
        raise PinnsimError.of("E_DATA_EMPTY", f"all {len(data)} samples are equal; there is no direction to show.")
    axes = axes[:components]
    largest = np.take_along_axis(axes, np.argmax(np.abs(axes), axis=1)[:, None], axis=1)
    return Projection(mean, axes * np.sign(largest), (singular**2 / total)[:components], tuple(genes))

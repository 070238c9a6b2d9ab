"""How far the members of an ensemble agree on a number: mean, interval, and the share that has its sign."""

from typing import NamedTuple

import numpy as np


class Agreement(NamedTuple):
    """Over members, each (...): `mean`; `low`, `high`: quantiles; `same_sign`: share of members whose number has the
    sign of the model's own; `counted`: how many members have a number."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    same_sign: np.ndarray
    counted: np.ndarray

    def columns(self, name: str) -> dict[str, np.ndarray]:
        """As columns of a table of the quantity `name`."""
        return {
            f"{name} mean": self.mean,
            f"{name} low": self.low,
            f"{name} high": self.high,
            f"{name} same sign": self.same_sign,
            "members": self.counted,
        }


def agreement(values: np.ndarray, level: float) -> Agreement:
    """Agreement of members with the model.

        mean = sum_m v_m / n,    low, high = quantiles at (1 -+ level) / 2 (linear between members)

    **Arguments:** `values`: (model, ...), the model itself first; NaN for members that have none; `level`: in (0, 1).

    **Returns** an `Agreement`; NaN where no member has a number.
    """
    own, members = values[0], values[1:]
    known = np.isfinite(members)
    counted = known.sum(axis=0)
    some = np.maximum(counted, 1)
    ordered = np.sort(np.where(known, members, np.inf), axis=0)

    def quantile(at: float) -> np.ndarray:
        place = at * (some - 1)
        below = np.floor(place).astype(int)
        left, right = (
            np.take_along_axis(ordered, np.minimum(k, some - 1)[None], axis=0)[0] for k in (below, below + 1)
        )
        with np.errstate(invalid="ignore"):  # no member has a number: replaced below
            return left + (place - below) * (right - left)

    same = (known & (np.sign(members) == np.sign(own)[None])).sum(axis=0)
    mean = np.where(known, members, 0.0).sum(axis=0) / some
    found = (mean, quantile(0.5 * (1.0 - level)), quantile(0.5 * (1.0 + level)), same / some)
    mean, low, high, share = (np.where(counted > 0, x, np.nan) for x in found)
    return Agreement(mean, low, high, share, counted)

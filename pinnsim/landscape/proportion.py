"""How sure a share of runs is: intervals of a binomial proportion, k successes among n.

    Wilson           (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n),      p = k / n
    Clopper-Pearson  the level's quantiles of Beta(k, n - k + 1) and Beta(k + 1, n - k)

Wilson's covers about as often as it says, also near 0 and 1; Clopper and Pearson's never less often.

Sources: E. B. Wilson, J. Am. Stat. Assoc. 22:209 (1927); C. J. Clopper and E. S. Pearson, Biometrika 26:404 (1934);
L. D. Brown et al., Stat. Sci. 16:101 (2001).
"""

import numpy as np
import scipy.special
import scipy.stats

from pinnsim.errors import Problems
from pinnsim.landscape.coordinates import Numbers


def proportion_interval(
    successes: Numbers, runs: Numbers, level: float = 0.95, *, exact: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The interval of a share, by Wilson's rule or, where `exact`, Clopper and Pearson's.

    **Arguments:** `successes`, `runs`: counts of any shapes that fit; `level`: in (0, 1).

    **Returns** lowest and highest share, of the counts' shape; 0 and 1 where there is no run.

    **Raises** `E_USAGE` for counts that are negative or larger than `runs`, and for a level outside (0, 1).
    """
    k, n = np.broadcast_arrays(np.asarray(successes, dtype=float), np.asarray(runs, dtype=float))
    with Problems() as problems:
        if not 0 < level < 1:
            problems.add("E_USAGE", f"Argument `level` must lie in (0, 1), but is {level}; 0.95 is usual.")
        if not ((k >= 0) & (k <= n)).all():
            problems.add(
                "E_USAGE", "Argument `successes` must lie between 0 and `runs`; count both over the same runs."
            )
    if exact:
        tail = 0.5 * (1.0 - level)
        low = scipy.special.betaincinv(np.maximum(k, 1.0), n - k + 1.0, tail)
        high = scipy.special.betaincinv(k + 1.0, np.maximum(n - k, 1.0), 1.0 - tail)
        return np.where(k > 0, low, 0.0), np.where(k < n, high, 1.0)
    z2 = float(scipy.stats.norm.ppf(0.5 + 0.5 * level)) ** 2
    some = np.maximum(n, 1.0)
    p = k / some
    reach = np.sqrt(z2 * (p * (1.0 - p) / some + z2 / (4.0 * some**2)))
    middle, wide = p + z2 / (2.0 * some), 1.0 + z2 / some
    low, high = np.maximum((middle - reach) / wide, 0.0), np.minimum((middle + reach) / wide, 1.0)
    # At the ends the rule gives 0 and 1 but for rounding.
    return np.where((k > 0) & (n > 0), low, 0.0), np.where((k < n) & (n > 0), high, 1.0)

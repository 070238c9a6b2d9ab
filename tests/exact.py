"""Laws in closed form that sampled methods are tested against.

The telegraph promoter: rates on, off and r per time, decay 1. At rest the number of RNAs is Poisson with a mean
`r Beta(on, off)`, so that

    p(n) = r^n / n! * (on)_n / (on + off)_n * 1F1(on + n, on + off + n, -r).

Source: J. Peccoud and B. Ycart, Theor. Popul. Biol. 48:222 (1995).
"""

import numpy as np
import scipy.special
import scipy.stats


def telegraph_pmf(on: float, off: float, r: float, count: int) -> np.ndarray:
    """p(n) for n below `count`."""
    n = np.arange(count)
    log = n * np.log(r) - scipy.special.gammaln(n + 1)
    log += scipy.special.gammaln(on + n) - scipy.special.gammaln(on)
    log -= scipy.special.gammaln(on + off + n) - scipy.special.gammaln(on + off)
    # Kummer's transformation: no alternating signs.
    return np.exp(log - r) * scipy.special.hyp1f1(off, on + off + n, r)


def poisson_chisquare(numbers: np.ndarray, mean: float) -> float:
    """p of a chi-square test of whole numbers against Poisson, in bins of equal weight."""
    law = scipy.stats.poisson(mean)
    edges = np.unique(law.ppf(np.linspace(0.04, 0.96, 18)))
    expected = np.diff(np.concatenate([[0.0], law.cdf(edges), [1.0]])) * numbers.size
    observed = np.histogram(numbers, np.concatenate([[-0.5], edges + 0.5, [np.inf]]))[0]
    return float(scipy.stats.chisquare(observed, expected).pvalue)

"""What edits do together beyond what they do alone: genetic interactions, by two expectations and in standard words.

With x the level of a readout, x0 the unperturbed one, and f the floor below which nothing is told from nothing,

    multiplicative   e_a = log2((x_a + f) / (x0 + f)),       eps_ab = e_ab - e_a - e_b
    additive         e_a = (x_a - x0) / (x0 + f),            eps_ab = e_ab - e_a - e_b

so eps is 0 where folds multiply (a chain: production passes through both), or where amounts add (two sources of one
product). Which of them is "no interaction" is a choice, and pairs change sides with it (Mani et al. 2008): both are
told. Of three edits, what no pair explains is

    eps_abc = e_abc - e_ab - e_ac - e_bc + e_a + e_b + e_c.

In words, with `strong` the larger effect alone and `expected = e_a + e_b`, all within a threshold:

    none           the double does what is expected
    synthetic      neither edit alone acts, the double does
    masking        both act alone, and the double does what one of them does alone (epistasis in the strict sense)
    synergistic    the double goes further than both `expected` and `strong`
    buffering      the double lies between `strong` and `expected`: part of an effect is lost
    antagonistic   the double falls short of both `strong` and `expected`, or goes the other way (suppression)

Sources: R. Mani et al., PNAS 105:3461 (2008), definitions of no interaction; D. Segre et al., Nat. Genet. 37:77 (2005),
buffering and aggravating interactions; R. St Onge et al., Nat. Genet. 39:199 (2007) and B. Drees et al., Genome Biol.
6:R38 (2005), masking, suppression and synthetic effects; T. Norman et al., Science 365:786 (2019), expression as the
readout; E. Kuzmin et al., Science 360:eaao1729 (2018), three genes.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

Expectation = Literal["multiplicative", "additive"]
EXPECTATIONS: tuple[Expectation, ...] = ("multiplicative", "additive")
_ROUNDING = 1e-13  # effects are of order 1
NO, SYNTHETIC, MASKING, SYNERGISTIC, BUFFERING, ANTAGONISTIC = (
    "none",
    "synthetic",
    "masking",
    "synergistic",
    "buffering",
    "antagonistic",
)
TERMS = {
    NO: "the double does what is expected of the two",
    SYNTHETIC: "neither acts alone, the double does",
    MASKING: "the double does what one of them does alone, though both act",
    SYNERGISTIC: "the double goes further than expected, and than either alone",
    BUFFERING: "the double lies between the stronger one alone and what is expected",
    ANTAGONISTIC: "the double falls short of what is expected and of the stronger one alone, or goes the other way",
}


def effect(level: np.ndarray, base: np.ndarray, floor: np.ndarray, expectation: Expectation) -> np.ndarray:
    """The effect of a perturbation on levels, on the scale on which effects are expected to add.

    **Arguments:** `level`, `base`, `floor`: of any shapes that go together, abundance units.

    **Returns** log2 folds, or changes over the unperturbed level; NaN where a level is NaN or the scale has no number
    (nothing left, and no floor).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        if expectation == "multiplicative":
            found = np.log2((np.maximum(level, 0.0) + floor) / (np.maximum(base, 0.0) + floor))
        else:
            found = (level - base) / (base + floor)
    return _settled(np.where(np.isfinite(found), found, np.nan))


def _settled(found: np.ndarray) -> np.ndarray:
    """What rounding alone leaves is 0."""
    return np.where(np.abs(found) < _ROUNDING, 0.0, found)


def of_two(ab: np.ndarray, singles: Sequence[np.ndarray]) -> np.ndarray:
    """eps_ab of effects, all of one shape. **Arguments:** `singles`: those of a and b."""
    a, b = singles
    return _settled(ab - a - b)


def of_three(abc: np.ndarray, pairs: Sequence[np.ndarray], singles: Sequence[np.ndarray]) -> np.ndarray:
    """eps_abc of effects, what is left when all pairs are known. **Arguments:** `pairs`: ab, ac, bc; `singles`: a, b,
    c."""
    (ab, ac, bc), (a, b, c) = pairs, singles
    return _settled(abc - ab - ac - bc + a + b + c)


def terms(ab: np.ndarray, singles: Sequence[np.ndarray], threshold: float) -> np.ndarray:
    """The word for each pair of effects (see the first lines), "" where an effect is not a number.

    **Arguments:** `ab`, `singles`: effects, of one shape; `threshold`: what counts as no difference.
    """
    a, b = singles
    a_acts, b_acts = np.abs(a) > threshold, np.abs(b) > threshold
    a_leads = np.abs(a) >= np.abs(b)
    sign = np.where(np.where(a_leads, a, b) >= 0, 1.0, -1.0)
    # Everything in the direction of the stronger one.
    strong, weak, both = sign * np.where(a_leads, a, b), sign * np.where(a_leads, b, a), sign * ab
    expected = strong + weak
    same = (np.abs(both - strong) <= threshold) | (np.abs(both - weak) <= threshold)
    words = np.select(
        [
            np.isnan(ab) | np.isnan(a) | np.isnan(b),
            (np.abs(both - expected) <= threshold) | ~(a_acts | b_acts | (np.abs(ab) > threshold)),
            ~a_acts & ~b_acts,
            a_acts & b_acts & same,
            both > np.maximum(strong, expected),
            both < np.minimum(strong, expected),
        ],
        ["", NO, SYNTHETIC, MASKING, SYNERGISTIC, ANTAGONISTIC],
        BUFFERING,
    )
    return words.astype(object)

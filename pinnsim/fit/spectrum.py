"""The Fisher spectrum: which combinations of rates the data determine, and which they leave to the prior.

With the data's curvature B = V diag(l) V' in units of the prior's widths (`fit.laplace`), the posterior along direction
k is 1 / sqrt(1 + l_k) times as wide as the prior. Spectra of cell models fall over many decades ("sloppy models"): a
few stiff combinations are known well, most single rates are not.

Source: R. Gutenkunst et al., PLoS Comput. Biol. 3:e189 (2007).
"""

import numpy as np
import pandas as pd

from pinnsim.fit.laplace import Laplace

_WEIGHT = 0.2  # share of a direction's largest weight from which a rate is named


def fisher_spectrum(posterior: Laplace, leading: int = 3) -> pd.DataFrame:
    """A row per direction, stiffest first.

    **Arguments:** `leading`: how many rates a direction is named by, at the most.

    **Returns** `eigenvalue` (curvature of the data over that of the prior), `width` (posterior over prior width),
    `leading` (its heaviest rates with their weights, as `+0.91 decay:a -0.40 synthesis:a`). Where all directions were
    computed, those of which the data say nothing follow with eigenvalue 0.
    """
    values, basis = posterior.eigenvalues, posterior.basis
    missing = len(posterior.estimate) - len(values)
    if posterior.complete and missing:
        # An orthonormal complement: the left singular vectors beyond the rank.
        rest = np.linalg.svd(basis, full_matrices=True)[0][:, len(values) :]
        values, basis = np.concatenate([values, np.zeros(missing)]), np.concatenate([basis, rest], axis=1)
        order = np.argsort(-values, kind="stable")
        values, basis = values[order], basis[:, order]
    named = [_named(direction, posterior.free.names, leading) for direction in basis.T]
    return pd.DataFrame({"eigenvalue": values, "width": 1.0 / np.sqrt(1.0 + values), "leading": named})


def _named(direction: np.ndarray, names: tuple[str, ...], leading: int) -> str:
    heavy = np.argsort(-np.abs(direction), kind="stable")[:leading]
    sign = np.sign(direction[heavy[0]])
    kept = [k for k in heavy if abs(direction[k]) >= _WEIGHT * abs(direction[heavy[0]])]
    return " ".join(f"{sign * direction[k]:+.2f} {names[k]}" for k in kept)

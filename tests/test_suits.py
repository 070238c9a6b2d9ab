"""Whether data suit the instrument that a model says they come from."""

import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from problems import TIMES, dataset_of, prior_model

from pinnsim.errors import PinnsimError, PinnsimWarning
from pinnsim.fit import fit
from pinnsim.fit.suits import check_levels


def test_readings_far_below_the_offset_are_told_by_gene() -> None:
    observation = prior_model("abundance", layers=("mrna",)).center.observation
    genes = ("g0", "g1", "g2")
    offset = float(jnp.max(observation.readout.offset))
    values = np.full((2, 1, 4, 3), offset - 3.0)
    mask = np.ones(values.shape, bool)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_levels(observation, values, mask, genes)
    values[..., 1] -= 10.0
    mask[..., 2] = False
    values[..., 2] = np.nan
    with pytest.warns(PinnsimWarning, match="W_LEVEL_LOW: 1 of 3 genes.*g1 by 13.0"):
        check_levels(observation, values, mask, genes)


def test_other_genes_than_the_models_are_told_before_their_levels() -> None:
    prior = prior_model("abundance", layers=("mrna",))
    with pytest.raises(PinnsimError, match="E_GENE_UNMATCHED"):
        fit(prior, dataset_of(np.random.default_rng(0).random((2, len(TIMES), 2)) - 40.0, TIMES), progress=False)

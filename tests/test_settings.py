"""The settings that make sloppiness raise are in force: without them other tests would pass for the wrong reason."""

import warnings

import jax
import jax.numpy as jnp
import jaxtyping
import pytest

from pinnsim.observation.readout import IdentityReadout


def test_arrays_are_double_precision():
    assert jnp.ones(1).dtype == jnp.float64


def test_dtypes_are_not_promoted_silently():
    with pytest.raises(jax.dtypes.TypePromotionError):
        jnp.ones(2) + jnp.ones(2, dtype=jnp.int32)


def test_ranks_are_not_promoted_silently():
    with pytest.raises(ValueError, match="rank_promotion"):
        jnp.ones((2, 2)) + jnp.ones(2)


def test_warnings_are_errors():
    with pytest.raises(UserWarning, match="look"):
        warnings.warn("look", stacklevel=1)


def test_annotated_shapes_of_pinnsim_are_checked():
    readout = IdentityReadout()
    assert readout(jnp.ones(3)).shape == (3,)
    with pytest.raises(jaxtyping.TypeCheckError):
        readout(jnp.ones((3, 3)))

"""A relief of the model's own law: the toggle, which is the same with its two genes exchanged."""

import numpy as np
import pytest
from annotated_cells import SIZE, TOGGLE, toggle_cells, toggle_force, toggle_parts

from pinnsim import tl
from pinnsim.errors import PinnsimError
from pinnsim.formats.bundle import save_model


def test_heights_of_the_model_are_those_of_its_stationary_law(tmp_path):
    save_model(tmp_path / "model", *toggle_parts())
    adata, _ = toggle_cells(60)
    adata.X[30:] = adata.X[:30, ::-1]  # so that the box is the same for both genes
    tl.use_model(adata, tmp_path / "model", layers={"mrna": "X"}, size=SIZE)
    tl.landscape(adata, starts=8, axes=("src", "dst"), heights="model", grid=40)
    kept = adata.uns["pinnsim_landscape"]
    relief = kept["relief"]
    values, x, y = (np.asarray(relief[name]) for name in ("heights", "x", "y"))
    assert values.shape == (len(x), len(y))
    # Exchanging the genes changes nothing.
    np.testing.assert_allclose(x, y)
    seen = np.isfinite(values) & np.isfinite(values.T)
    np.testing.assert_allclose(values[seen], values.T[seen], rtol=1e-6, atol=1e-3)
    # Its lowest cell is at a root of the equations, to within two cells of the grid.
    lowest = np.unravel_index(np.nanargmin(np.where(np.isfinite(values), values, np.nan)), values.shape)
    place = np.array([x[lowest[0]], y[lowest[1]]])
    states = np.asarray(kept["states"])[:, :2]
    assert np.abs(states - place).max(axis=1).min() < 2 * (x[1] - x[0])
    assert np.abs(toggle_force(place)).max() < 0.2 * TOGGLE["synthesis"] * TOGGLE["decay"]
    # Between the valleys it is high: over the saddle, not through it.
    saddle = np.asarray(kept["states"])[list(kept["stability"]).index("saddle"), :2]
    at = values[np.abs(x - saddle[0]).argmin(), np.abs(y - saddle[1]).argmin()]
    assert at > np.nanmin(values) + 2.0


def test_other_heights_are_refused(tmp_path):
    save_model(tmp_path / "model", *toggle_parts())
    adata, _ = toggle_cells(20)
    tl.use_model(adata, tmp_path / "model", layers={"mrna": "X"}, size=SIZE)
    with pytest.raises(PinnsimError, match="E_USAGE.*heights"):
        tl.landscape(adata, axes=("src", "dst"), heights="modl")

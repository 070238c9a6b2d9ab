"""A model's chain on measured cells: rows, pattern, and the exact generator of a double well on a grid."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import scipy.special

from pinnsim.dynamics.textbook import double_well
from pinnsim.errors import PinnsimError
from pinnsim.landscape import Grid, Transitions, additive, fokker_planck, nearest_cells, transitions

NOISE, NEAR = 0.15, 60
# Cells at the quantiles of a normal law, far from even: without luck in where they lie, what is left is the method's.
CELLS = 0.2 + 0.9 * np.sqrt(2.0) * scipy.special.erfinv(2.0 * (np.arange(400) + 0.5) / 400 - 1.0)
CELLS = CELLS[np.abs(CELLS) < 1.9][:, None]
INNER = np.abs(CELLS[:, 0]) < 1.3
GRAPH = nearest_cells(CELLS, NEAR)


@pytest.fixture(scope="module")
def grid() -> Grid:
    return fokker_planck(double_well(), additive(NOISE, 1), ([-2.2], [2.2]), 440)


def chain(step: float, density: bool = True) -> Transitions:
    return transitions(double_well(), CELLS, GRAPH, step, additive(NOISE, 1), density=density)


def error(found: Transitions, grid: Grid) -> float:
    """Largest difference from the exact semigroup, over three functions and the cells that lie inside."""
    places, worst = grid.points[:, 0], 0.0
    for f in (lambda x: x, lambda x: x**2, lambda x: np.tanh(4 * x)):
        exact = scipy.sparse.linalg.expm_multiply(found.step * grid.generator.T.tocsc(), f(places))
        wanted = np.interp(CELLS[:, 0], places, exact)
        worst = max(worst, float(np.abs(found.matrix @ f(CELLS[:, 0]) - wanted)[INNER].max()))
    return worst


def committor(found: Transitions) -> np.ndarray:
    a, b = CELLS[:, 0] < -1, CELLS[:, 0] > 1
    rest, left = ~(a | b), found.matrix.toarray() - np.eye(len(CELLS))
    q = b.astype(float)
    q[rest] = np.linalg.solve(left[np.ix_(rest, rest)], -left[np.ix_(rest, b)].sum(axis=1))
    return q


def test_rows_add_up_to_one_on_the_pattern_of_the_graph() -> None:
    found = chain(0.02)
    rows = np.asarray(found.matrix.sum(axis=1)).ravel()
    np.testing.assert_allclose(rows, 1.0, atol=1e-14)
    assert found.matrix.data.min() >= 0
    outside = found.matrix.astype(bool).astype(int) - (GRAPH.astype(bool) + scipy.sparse.identity(len(CELLS))).astype(
        int
    )
    assert outside.max() <= 0
    assert found.matrix.nnz <= GRAPH.nnz + len(CELLS) < 0.3 * len(CELLS) ** 2
    entropy = -(found.matrix.toarray() * np.log(np.maximum(found.matrix.toarray(), 1e-300))).sum(axis=1)
    np.testing.assert_allclose(found.neighbours, np.exp(entropy))
    drift = CELLS[:, 0] - CELLS[:, 0] ** 3
    made = (found.matrix @ CELLS)[:, 0] - CELLS[:, 0]
    np.testing.assert_allclose(found.lag[INNER], (made / (0.02 * drift))[INNER], rtol=1e-8)


def test_the_chain_is_the_exact_semigroup_as_steps_become_short(grid: Grid) -> None:
    """First order in rates: the error of a step falls with its square."""
    wide, narrow = error(chain(0.02), grid), error(chain(0.01), grid)
    assert wide < 6e-3
    assert narrow < wide / 3
    # Cells lie far from evenly: a chain that forgets it drifts to where they are dense.
    assert error(chain(0.02, density=False), grid) > 3 * wide


def test_committors_are_those_of_the_generator(grid: Grid) -> None:
    exact = grid.committor(lambda x: x[:, 0] < -1, lambda x: x[:, 0] > 1)
    wanted = np.interp(CELLS[:, 0], grid.points[:, 0], exact)
    assert np.abs(committor(chain(0.01)) - wanted).max() < 0.02
    assert np.abs(committor(chain(0.02, density=False)) - wanted).max() > 0.1


def test_neighbours_that_others_found_and_problems() -> None:
    full = scipy.sparse.csr_matrix(np.ones((len(CELLS), len(CELLS))))
    given = transitions(double_well(), CELLS, full, 0.01, additive(NOISE, 1)).matrix
    # Beyond 60 neighbours a step of 0.01 hardly leads.
    assert np.abs((given - chain(0.01).matrix).toarray()).max() < 2e-3
    with pytest.raises(PinnsimError) as caught:
        transitions(double_well(), CELLS, full[:3, :3], -1.0, additive(NOISE, 1))
    assert set(caught.value.codes) == {"E_DATA_SHAPE", "E_USAGE"}
    with pytest.raises(PinnsimError, match="E_INIT"):
        transitions(double_well(), jnp.full((4, 1), jnp.nan), full[:4, :4], 0.1, additive(NOISE, 1))
    with pytest.raises(PinnsimError, match="fewer than there are"):
        nearest_cells(CELLS, len(CELLS))
    near = nearest_cells(np.array([[0.0], [1.0], [1.5], [9.0]]), 1).toarray()
    np.testing.assert_array_equal(near, near.T)
    assert near[3].tolist() == [False, False, True, True]

"""Every fixed point is found: against a dense grid search of random networks, and denser searches of larger ones.

A hundred networks are compared in `experiments/landscape_truths.py`.
"""

from itertools import pairwise

import numpy as np

from pinnsim import shelf
from pinnsim.dynamics.motifs import toggle
from pinnsim.dynamics.textbook import binary_choice, gata1_pu1, muller_brown, ring
from pinnsim.experiment import companion
from pinnsim.landscape.roots import _newton, fixed_points

_oracle = companion(str(shelf.experiment_path("landscape_truths")), "_networks")
network, oracle = _oracle.network, _oracle.oracle


def test_random_networks_of_two_genes_against_the_grid():
    counts = []
    before = _newton._cached._cache_size()
    for seed in (*range(10), 44, 50, 60):
        model = network(seed, 2, 2)
        found = fixed_points(model, starts=64)
        wanted = oracle(model.law)
        states = np.array(sorted(found.states, key=tuple))
        assert states.shape == wanted.shape, f"network {seed}"
        np.testing.assert_allclose(states, wanted, atol=1e-7)
        # Production is bounded and loss is not, so the flow points into a box: the indices sum to 1.
        assert sum((-1) ** k for k in found.index) == 1
        counts.append(len(states))
    assert max(counts) >= 3
    assert len(set(counts)) >= 2
    assert _newton._cached._cache_size() == before + 1, "one program for all networks"


def test_a_denser_search_of_twenty_genes_finds_nothing_more():
    model = network(4, 20, 3)
    few, many = fixed_points(model, starts=64, seed=1), fixed_points(model, starts=640, seed=2)
    assert sum((-1) ** k for k in few.index) == 1
    assert len(few.states) == len(many.states) > 1
    for state in many.states:
        assert min(np.abs(state - other).max() for other in few.states) < 1e-6


def test_textbook_systems_have_all_their_points():
    gata = fixed_points(gata1_pu1(), starts=32)
    assert sorted(gata.index) == [0, 0, 0, 1, 1]
    order = np.argsort([s[0] for s in gata.states])
    exact = [[0.0039216026, 1.9960783974], [0.4884248450, 1.5115751550], [1, 1]]
    exact += [row[::-1] for row in exact[1::-1]]
    np.testing.assert_allclose(np.array(gata.states)[order], exact, atol=2e-10)
    values = {k: np.sort(gata.eigenvalues[k].real) for k in range(5)}
    np.testing.assert_allclose(values[order[2]], [-1, -0.55709343], atol=1e-8)
    np.testing.assert_allclose(values[order[1]], [-1, 1.07384685], atol=1e-8)
    surface = fixed_points(muller_brown(), starts=64, bounds=([-1.5, -0.5], [1.2, 2.0]))
    assert sorted(surface.index) == [0, 0, 0, 1, 1]
    wanted = [[-0.82200156, 0.62431280], [-0.55822363, 1.44172584], [-0.05001082, 0.46669410]]
    wanted += [[0.21248658, 0.29298833], [0.62349940, 0.02803776]]
    np.testing.assert_allclose(sorted(map(tuple, surface.states)), wanted, atol=1e-8)
    for tilt, wells in ((-0.5, 2), (1.0, 3), (2.0, 1)):
        choice = fixed_points(binary_choice((0.0, tilt)), starts=64, bounds=([-2.0, -2.0], [2.0, 2.0]))
        assert choice.index.count(0) == wells
        assert sum((-1) ** k for k in choice.index) == 1


def test_scales_that_span_six_decades():
    # u lives at 1e-3 .. 1e-1 of the toggle's unit, v at a million times that: same landscape.
    points = fixed_points(ring(10.0, 2.0, ("u", "v")), starts=32)
    sums = sorted(s.sum() for s in points.states)
    np.testing.assert_allclose(sums, [4, 10, 10], atol=1e-9)
    scaled = toggle([1e-2, 1e4], [1e3, 1e-3])
    found = sorted(map(tuple, fixed_points(scaled, starts=64, bounds=([1e-5, 1.0], [1e-1, 1e5])).states))
    exact = sorted((s[0] * 1e-3, s[1] * 1e3) for s in points.states)
    np.testing.assert_allclose(found, exact, rtol=1e-8)
    assert all(a[0] <= b[0] for a, b in pairwise(found))

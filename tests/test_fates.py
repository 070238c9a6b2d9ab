"""Fate probabilities of noisy pushes: exact laws by matrix exponentials, intervals, and what is undecided."""

import jax
import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg
import scipy.stats

from pinnsim.dynamics.motifs import schlogl
from pinnsim.dynamics.textbook import double_well
from pinnsim.errors import PinnsimError
from pinnsim.landscape import additive, birth_death_law, fate_probabilities, fokker_planck, proportion_interval
from pinnsim.simulate import SSA, Diffusion

KEY = jax.random.key(5)
ENDS = [[-1.0], [1.0]]


@pytest.mark.parametrize(("exact", "name"), [(False, "wilson"), (True, "exact")])
def test_intervals_of_a_share(exact, name):
    cases = [(0, 7), (3, 7), (7, 7), (1, 1000), (500, 1000)]
    for level in (0.8, 0.99):
        low, high = proportion_interval(*np.array(cases).T, level, exact=exact)
        for k, (successes, runs) in enumerate(cases):
            wanted = scipy.stats.binomtest(successes, runs).proportion_ci(level, name)
            np.testing.assert_allclose([low[k], high[k]], wanted, atol=1e-12)
    assert [float(end) for end in proportion_interval(0, 0, exact=exact)] == [0.0, 1.0]
    with pytest.raises(PinnsimError, match=r"level(.|\n)*successes"):
        proportion_interval(3, 2, 1.0)


@pytest.fixture(scope="module")
def jumps():
    model, runs = schlogl(), 128
    low, saddle, high = np.sort(np.roots([-1e-4 / 6, 0.015, -3.5, 200.0]).real)
    found = fate_probabilities(
        model, [82.0], "drive(x)=1", [350.0, 500.0], 0.5, [[low], [high]], noise=SSA(1.0), key=KEY, settle=0.5,
        quench=30.0, runs=runs,
    )  # fmt: skip
    return model, saddle, found


def test_exact_jumps_have_the_law_of_the_chain(jumps):
    model, saddle, found = jumps
    most = 750
    law = np.zeros(most + 1)
    law[82] = 1.0

    def evolved(p, drive, time):
        chain = birth_death_law(model, most, f"drive(x)={drive}")
        births = np.append(chain.births[:-1], 0.0)
        matrix = scipy.sparse.diags([births[:-1], -births - chain.deaths, chain.deaths[1:]], [-1, 0, 1])
        return scipy.sparse.linalg.expm_multiply(time * matrix.tocsc(), p)

    for lane, drive in enumerate(found.doses):
        p = evolved(evolved(law, drive, 0.5), 0.0, 0.5)[int(np.ceil(saddle)) :].sum()
        assert abs(found.probability[lane, 1] - p) < 3 * np.sqrt(p * (1 - p) / found.total)
    assert 0.05 < found.probability[0, 1] < found.probability[1, 1] < 1
    assert found.undecided.sum() == found.failed.sum() == 0
    assert (found.counts.sum(axis=-1) == 128).all()


def test_additive_noise_has_the_law_of_the_grid():
    well, strength, runs = double_well(), 0.1, 1500
    found = fate_probabilities(
        well, [-1.0], "drive(x)=1", [0.6, 1.0], 1.0, ENDS, noise=Diffusion(strength, 0.01), key=KEY, settle=1.0,
        quench=20.0, runs=runs,
    )  # fmt: skip
    start = None
    for lane, dose in enumerate(found.doses):
        pushed = fokker_planck(well, additive(strength, 1), ([-3.0], [3.0]), 301, f"drive(x)={dose}")
        free = fokker_planck(well, additive(strength, 1), ([-3.0], [3.0]), 301)
        start = np.zeros(301)
        start[np.argmin(np.abs(free.centres[0] + 1.0))] = 1.0
        p = scipy.linalg.expm(free.generator.toarray()) @ (scipy.linalg.expm(pushed.generator.toarray()) @ start)
        p = p[free.centres[0] > 0].sum() + 0.5 * p[np.abs(free.centres[0]) < 1e-9].sum()
        assert abs(found.probability[lane, 1] - p) < 3 * np.sqrt(p * (1 - p) / runs)


def _small(**changed):
    """Two equal starts under two equal pushes."""
    given = dict(noise=Diffusion(0.1, 0.05), key=KEY, settle=1.0, quench=20.0, runs=16)
    starts = [[-1.0], [-1.0]]
    return fate_probabilities(double_well(), starts, "drive(x)=1", [0.8, 0.8], 1.0, ENDS, **{**given, **changed})


def test_runs_share_their_numbers_between_pushes_and_not_between_starts():
    twice = _small()
    assert (twice.counts[:, 0] == twice.counts[:, 1]).all()
    assert (twice.counts[0] != twice.counts[1]).any()
    np.testing.assert_allclose(twice.probability, twice.of_starts.mean(axis=0))
    assert twice.total == 32
    assert (twice.counts == _small().counts).all()
    assert (twice.counts != _small(key=jax.random.key(6)).counts).any()


def test_what_is_undecided_or_failed_widens_the_interval():
    sure, hurried = _small(), _small(quench=1e-3)
    assert hurried.undecided.sum() > 0
    assert ((hurried.counts.sum(axis=-1) + hurried.undecided) == 16).all()
    wide, narrow = (np.ptp(fates.interval(), axis=-1) for fates in (hurried, sure))
    assert wide.max() > narrow.max()
    reach, found = hurried.interval(), sure.probability
    assert ((reach[..., 0] <= found) & (found <= reach[..., 1])).all()
    assert "undecided" in hurried.describe()
    assert len(sure.table()) == 4


def test_cells_that_fail_are_told(jumps):
    model, _, found = jumps
    ended = fate_probabilities(
        model, [82.0], "drive(x)=1", [350.0, 500.0], 0.5, [[85.0], [563.0]],
        noise=SSA(1.0, max_events=300), key=KEY, settle=0.5, quench=30.0, runs=128,
    )  # fmt: skip
    assert ended.failed.tolist() == [[128, 128]]
    np.testing.assert_array_equal(ended.interval()[..., 0], 0.0)
    np.testing.assert_array_equal(ended.interval()[..., 1], 1.0)

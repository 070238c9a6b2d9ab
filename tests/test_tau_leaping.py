"""Tau leaping: exact laws within its tolerance, exact steps where numbers are small, never a negative number."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from exact import poisson_chisquare, telegraph_pmf

from pinnsim.dynamics.equation import Reaction
from pinnsim.dynamics.motifs import birth_death, telegraph, toggle
from pinnsim.dynamics.reactions import reaction_system
from pinnsim.errors import PinnsimError
from pinnsim.perturbation import Perturbation
from pinnsim.random import key_of
from pinnsim.simulate.ensemble import Ensemble, sample_cells
from pinnsim.simulate.result import Outcome
from pinnsim.simulate.tau_leaping import TauLeaping
from pinnsim.treatment import Treatment

KEY = jax.random.key(2006)


def cells(kinetics, times, text="none", state=None, count=2000, method=None) -> Ensemble:
    p = Perturbation.stack([Treatment.parse(text).resolve(kinetics.table, 2)])
    state = kinetics.default_state() if state is None else jnp.asarray(state, dtype=float)
    method = TauLeaping() if method is None else method
    return sample_cells(method, kinetics, jnp.asarray(times, dtype=float), p, state[None], KEY, count)


def test_deaths_are_binomial_and_take_few_leaps() -> None:
    """5,000 molecules that each survive with probability exp(-t); far fewer leaps than deaths."""
    found = cells(
        birth_death(0.0, 1.0),
        [0.0, 1.0, 2.0],
        state=[5000.0],
        count=500,
        method=TauLeaping(epsilon=0.02, max_leaps=200),
    )
    assert (np.asarray(found.outcome) == Outcome.DONE).all()
    for k, t in ((1, 1.0), (2, 2.0)):
        p = np.exp(-t)
        numbers = np.asarray(found.states[0, :, k, 0])
        sd = np.sqrt(5000 * p * (1 - p))
        # Leaps of length epsilon: (1 - epsilon)^(t / epsilon) survive in the mean, not exp(-t).
        bias = 5000 * (p - 0.98 ** (50 * t))
        assert abs(numbers.mean() + bias - 5000 * p) < 4 * sd / np.sqrt(500) + 0.2 * bias
        # Four deviates of the variance of 500; deaths that did not use themselves up would have 1 / (1 - p) of it.
        assert abs(numbers.var() / sd**2 - 1.0) < 4 * np.sqrt(2 / 500) + 0.02
        assert (numbers == np.round(numbers)).all()


def test_births_and_deaths_are_poisson_where_numbers_are_small() -> None:
    """Below the critical number every step is exact, so the law is."""
    found = cells(birth_death(3.0, 1.0), [0.0, 1.0, 6.0]).raise_failures()
    for k, mean in ((1, 3.0 * (1 - np.exp(-1.0))), (2, 3.0 * (1 - np.exp(-6.0)))):
        assert poisson_chisquare(np.asarray(found.states[0, :, k, 0]), mean) > 1e-4


def test_telegraph_law_with_large_numbers() -> None:
    """Promoter states are single molecules beside hundreds of RNAs."""
    system = telegraph(1, on=2.0, off=3.0, transcription=300.0, decay=1.0, translation=None)
    found = cells(system, [0.0, 5.0], count=400, method=TauLeaping(epsilon=0.02)).raise_failures()
    numbers = np.asarray(found.state_of("g0.mrna")[0, :, -1])
    cdf = np.cumsum(telegraph_pmf(2.0, 3.0, 300.0, 500))
    # Two per cent of bias in the mean is what epsilon allows; 1.63 / sqrt(n) is the one per cent point of KS.
    spread = np.abs(np.searchsorted(np.sort(numbers), np.arange(500), side="right") / numbers.size - cdf).max()
    assert spread < 1.63 / np.sqrt(numbers.size) + 0.02
    on = np.asarray(found.state_of("g0.on")[0]) + np.asarray(found.state_of("g0.off")[0])
    assert (on == 1.0).all()


def test_never_negative_and_totals_conserved() -> None:
    system = reaction_system(
        [Reaction("bind", "A + B -> AB", 0.05), Reaction("unbind", "AB -> A + B", 1.0),
         Reaction("pair", "2 A -> D", 0.02), Reaction("part", "D -> 2 A", 1.0), Reaction("grow", "F -> 2 F", 0.5),
         Reaction("eat", "F -> 0", 3.0)],
        time_unit="s", start={"A": 400.0, "B": 60.0, "F": 500.0},
    )  # fmt: skip
    found = cells(system, np.linspace(0, 6, 13), "hold(F)=20.5@2:4", count=150).raise_failures()
    a, b, ab, d, f = np.moveaxis(np.asarray(found.states[0]), -1, 0)
    assert (a + ab + 2 * d == 400.0).all()
    assert (b + ab == 60.0).all()
    assert min(part.min() for part in (a, b, ab, d, f)) >= 0
    assert (f[:, 5:9] == 20.5).all()


def test_the_toggle_has_the_moments_of_the_rate_equations_at_a_large_size() -> None:
    found = cells(toggle(10.0), [0.0, 15.0], state=[9.0, 0.5], count=150, method=TauLeaping(size=1000.0))
    np.testing.assert_allclose(found.mean()[0, -1], [5 + 2 * np.sqrt(6), 5 - 2 * np.sqrt(6)], rtol=0.03)


def test_drives_and_switches() -> None:
    """Mean of births that are switched, plus added production, at rate 1: solved piece by piece."""
    found = cells(birth_death(50.0, 1.0), [0.0, 1.0, 3.0], "reaction(birth)*4@1:2, drive(x)=100@2:").raise_failures()
    at_one = 50 * (1 - np.exp(-1.0))
    at_two = 200 + (at_one - 200) * np.exp(-1.0)
    at_three = 150 + (at_two - 150) * np.exp(-1.0)
    np.testing.assert_allclose(found.mean()[0, 1:, 0], [at_one, at_three], rtol=0.02)


def test_failures_are_outcomes() -> None:
    short = cells(birth_death(100.0, 1.0), [0.0, 5.0, 10.0], method=TauLeaping(max_leaps=5))
    assert (np.asarray(short.outcome) == Outcome.MAX_STEPS).all()
    broken = eqx.tree_at(lambda s: s.law.constant, birth_death(), jnp.asarray([jnp.nan, 1.0]))
    assert (np.asarray(cells(broken, [0.0, 1.0, 2.0]).outcome) == Outcome.NOT_FINITE).all()
    for bad in ({"size": 0.0}, {"epsilon": 0.0}, {"epsilon": -0.1}):
        with pytest.raises(PinnsimError, match="E_USAGE"):
            TauLeaping(**bad)


def test_settings_never_recompile() -> None:
    system, p = birth_death(), Perturbation.none(birth_death().table)
    run = eqx.filter_jit(eqx.debug.assert_max_traces(max_traces=1)(TauLeaping.sample))
    for size, epsilon in ((1.0, 0.1), (2.0, 0.01), (7.5, 0.03)):
        run(TauLeaping(size, epsilon), system, jnp.asarray([0.0, size]), p, jnp.zeros(1), key_of(KEY))


def test_the_same_law_as_exact_jumps() -> None:
    """Two samples of a nonlinear system, compared by Kolmogorov and Smirnov."""
    from pinnsim.simulate.ssa import SSA

    system = toggle(60.0, 25.0)
    leaps = cells(system, [0.0, 8.0], state=[50.0, 5.0], count=400, method=TauLeaping(epsilon=0.02))
    jumps = cells(system, [0.0, 8.0], state=[50.0, 5.0], count=400, method=SSA())
    for i in range(2):
        samples = (np.asarray(part.states[0, :, -1, i]) for part in (leaps, jumps))
        assert scipy.stats.ks_2samp(*samples).pvalue > 1e-4

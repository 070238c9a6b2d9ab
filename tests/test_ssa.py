"""Exact sampling: laws in closed form, switches at their time, shared streams, and no dependence on the batch."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from exact import poisson_chisquare, telegraph_pmf
from systems import model_of, randomised

from pinnsim.dynamics.equation import Reaction
from pinnsim.dynamics.motifs import birth_death, schlogl, telegraph, toggle
from pinnsim.dynamics.reactions import ReactionSystem, reaction_system
from pinnsim.errors import PinnsimError
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.random import key_of, lane_key
from pinnsim.simulate.ensemble import Ensemble, sample_cells
from pinnsim.simulate.result import Outcome
from pinnsim.simulate.ssa import SSA
from pinnsim.treatment import Treatment

KEY = jax.random.key(2007)


def cells(kinetics, times, text="none", state=None, count=2000, method=None, key=KEY) -> Ensemble:
    texts = [text] if isinstance(text, str) else list(text)
    p = Perturbation.stack([Treatment.parse(t).resolve(kinetics.table, 2) for t in texts])
    state = kinetics.default_state() if state is None else jnp.asarray(state, dtype=float)
    states = jnp.broadcast_to(state, (len(texts), *state.shape))
    method = SSA() if method is None else method
    return sample_cells(method, kinetics, jnp.asarray(times, dtype=float), p, states, key, count).raise_failures()


def births(times, text="none", birth=1.0, death=1.0, state=0.0, method=None) -> np.ndarray:
    """Numbers of 2,000 cells at `times`; always the same shapes, so that all tests of it share one compiled program."""
    times = np.asarray(times, dtype=float)
    padded = np.concatenate([times, times[-1] + 1e-9 * np.arange(1, 73 - times.size)])
    found = cells(birth_death(birth, death), padded, text, [state], 2000, method)
    return np.asarray(found.states[0, :, : times.size, 0])


def test_births_and_deaths_are_poisson() -> None:
    """From 0 the number at time t is Poisson with mean `(birth / death) (1 - exp(-death t))`."""
    found = births([0.0, 0.7, 6.0], birth=12.0, death=0.5)
    for k, t in ((1, 0.7), (2, 6.0)):
        assert poisson_chisquare(found[:, k], 24.0 * (1 - np.exp(-0.5 * t))) > 1e-4


def test_telegraph_law() -> None:
    system = telegraph(1, on=2.0, off=3.0, transcription=30.0, decay=1.0, translation=None)
    found = cells(system, [0.0, 12.0], count=4000)
    numbers = np.asarray(found.state_of("g0.mrna")[0, :, -1]).astype(int)
    pmf = telegraph_pmf(2.0, 3.0, 30.0, 80)
    cdf = np.cumsum(pmf)
    assert abs((pmf * np.arange(80)).sum() - 12.0) < 1e-6
    edges = np.unique(np.searchsorted(cdf, np.linspace(0.03, 0.97, 20)))
    expected = np.diff(np.concatenate([[0.0], cdf[edges], [1.0]])) * numbers.size
    observed = np.histogram(numbers, np.concatenate([[-0.5], edges + 0.5, [np.inf]]))[0]
    assert scipy.stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-4
    assert abs(float(found.fano()[0, -1, 2]) - 4.0) < 5 * 4.0 * np.sqrt(3.0 / numbers.size)


def two_stage() -> ReactionSystem:
    return reaction_system(
        [
            Reaction("transcription:g", "0 -> g.mrna", 10.0),
            Reaction("decay:g", "g.mrna -> 0", 2.0),
            Reaction("translation:g", "g.mrna -> g.mrna + g.protein", 5.0),
            Reaction("protein_decay:g", "g.protein -> 0", 0.5),
        ],
        time_unit="h",
        genes=("g",),
    )


def test_two_stage_moments() -> None:
    found = cells(two_stage(), [0.0, 1.0, 25.0], count=4000)
    mrna, protein = np.asarray(found.states[0, :, :, 0]), np.asarray(found.states[0, :, :, 1])
    root = np.sqrt(4000)
    assert abs(protein[:, 1].mean() - 11.8202107398) < 4 * protein[:, 1].std() / root
    assert abs(protein[:, 2].mean() - 50.0) < 4 * np.sqrt(150.0) / root
    assert abs(protein[:, 2].var() - 150.0) < 5 * 150.0 * np.sqrt(2.0) / root
    assert abs(np.cov(mrna[:, 2], protein[:, 2])[0, 1] - 10.0) < 5 * np.sqrt(5.0 * 150.0 + 100.0) / root


def test_schlogl_first_passage_time_from_above() -> None:
    """Mean time from n = 25 up to n = 40 in the lower valley, exactly, from the birth and death rates."""
    system, low, high = schlogl(), 25, 40
    n = np.arange(high)
    birth = 3e-2 * n * (n - 1) / 2 + 200.0
    death = 1e-4 * n * (n - 1) * (n - 2) / 6 + 3.5 * n
    step = np.zeros(high)
    for i in n:
        step[i] = 1.0 / birth[i] + (death[i] / birth[i] * step[i - 1] if i else 0.0)
    exact = step[low:high].sum()
    found = cells(system, np.linspace(0.0, 8 * exact, 400), state=[float(low)], count=1500)
    crossed = np.asarray(found.states[0, :, :, 0]) >= high
    # Saved at a fine grid, a passage is seen late by half a step at most, and some quick returns are missed.
    assert crossed.any(axis=1).mean() > 0.97
    first = np.asarray(found.times)[np.argmax(crossed, axis=1)]
    assert abs(first.mean() - exact) < 0.2 * exact


def test_a_switch_takes_effect_at_its_time() -> None:
    """A slow birth (mean waiting 50) switched to a fast one (0.1) at t = 3: the first birth after it is exponential
    from the switch on, as the law of a Poisson process with a rate that jumps."""
    times = np.concatenate([[0.0], np.linspace(2.9, 3.6, 71)])
    born = births(times, "reaction(birth)*500@3:", birth=0.02, death=0.0) > 0
    rate = np.where(times < 3.0, 0.02 * times, 0.06 + 10.0 * (times - 3.0))
    share = born.mean(axis=0)
    error = np.sqrt(np.maximum(1e-4, (1 - np.exp(-rate)) * np.exp(-rate)) / 2000)
    assert (np.abs(share - (1 - np.exp(-rate))) < 4.5 * error).all()
    assert share[-1] > 0.99


def test_a_rate_that_is_off_for_a_while_fires_when_it_is_on() -> None:
    """What remains of a waiting time is kept while the rate is 0: the total is still exponential."""
    times = np.concatenate([[0.0], np.linspace(0.2, 8.0, 40)])
    born = births(times, "reaction(birth)*0@1:3, reaction(birth)*2@4:5", birth=0.5, death=0.0)
    open_time = np.minimum(times, 1.0) + np.clip(times - 3.0, 0, None) + np.clip(times - 4.0, 0.0, 1.0)
    assert np.abs(born.mean(axis=0) - 0.5 * open_time).max() < 4.5 * np.sqrt(0.5 * 7.0 / 2000)
    assert poisson_chisquare(born[:, -1], 0.5 * open_time[-1]) > 1e-4


def test_upstream_of_a_knock_down_nothing_moves() -> None:
    """A cascade a -> b -> c: knocking b down at t = 2 leaves every number of a, and of b before, bitwise as it was."""
    stages = [("a", "0 -> a.mrna", 20.0), ("b", "a.mrna -> a.mrna + b.mrna", 3.0)]
    stages += [("c", "b.mrna -> b.mrna + c.mrna", 1.0)]
    system = reaction_system(
        [Reaction(f"transcription:{g}", equation, rate) for g, equation, rate in stages]
        + [Reaction(f"decay:{g}", f"{g}.mrna -> 0", 1.0) for g in "abc"],
        time_unit="h",
        genes=tuple("abc"),
    )
    times = np.linspace(0.0, 6.0, 61)
    found = cells(system, times, ["none", "b*0.2@2.013:", "drive(c)=4@1:"], count=50)
    control, knocked, driven = np.asarray(found.states)
    fed = cells(system, times, ["drive(a)=7@0.5:4"] * 2 + ["drive(a)=7@0.5:4, b*0.2@2.013:5"], count=50)
    fed = np.asarray(fed.states[1:, ..., 0])
    np.testing.assert_array_equal(fed[0], fed[1])
    np.testing.assert_array_equal(control[..., 0], knocked[..., 0])
    np.testing.assert_array_equal(control[:, :21, 1:], knocked[:, :21, 1:])
    np.testing.assert_array_equal(control[..., :2], driven[..., :2])
    assert knocked[:, -1, 1].mean() < 0.5 * control[:, -1, 1].mean()
    assert driven[:, -1, 2].mean() > control[:, -1, 2].mean() + 2.0


def test_upstream_of_a_knock_down_in_gene_kinetics_too() -> None:
    """The ring of `model_of` with the edge that closes it cut: g3 is upstream of nothing that feeds g0."""
    kinetics = resolve(randomised(model_of(("mrna", "protein"), genes=4, unmeasured=1, own_inputs=True), 3).kinetics)
    table = kinetics.table
    cut = ", ".join(f"edge({edge})*0" for edge in table.edges if edge.startswith("g3->"))
    state = jnp.where(kinetics.material(), 3.0, 0.4)
    found = cells(kinetics, np.linspace(0, 20.0, 5), [cut, f"{cut}, g3=0@4.2:"], state, 20, SSA(size=20.0))
    control, knocked = np.asarray(found.states)
    others = [i for i, name in enumerate(table.species) if not name.startswith("g3.")]
    np.testing.assert_array_equal(control[..., others], knocked[..., others])
    assert (knocked[:, -1, table.species.index("g3.mrna")] < control[:, -1, table.species.index("g3.mrna")]).any()


def test_one_cell_alone_is_the_same_cell_in_any_batch() -> None:
    system, times = toggle(20.0), jnp.asarray([0.0, 3.0, 7.0])
    p = Treatment.parse("u*3@1:2").resolve(system.table)
    states = jnp.zeros((1, 2))
    few = sample_cells(SSA(), system, times, Perturbation.stack([p]), states, KEY, 5)
    many = sample_cells(SSA(), system, times, Perturbation.stack([p, p]), jnp.zeros((2, 2)), KEY, 40)
    np.testing.assert_array_equal(few.states[0], many.states[0, :5])
    np.testing.assert_array_equal(many.states[0], many.states[1])
    alone = eqx.filter_jit(SSA().sample)(system, times, p, states[0], lane_key(key_of(KEY), 3))
    np.testing.assert_array_equal(alone.states, few.states[0, 3])


def test_held_species_stay_and_conserved_totals_are_exact() -> None:
    system = reaction_system(
        [Reaction("bind", "A + B -> AB", 0.01), Reaction("unbind", "AB -> A + B", 0.3), Reaction("eat", "F -> 0", 1.0),
         Reaction("pair", "2 A -> D", 0.01), Reaction("part", "D -> 2 A", 0.5)],
        time_unit="s", start={"A": 60.0, "B": 30.0, "F": 5.0},
    )  # fmt: skip
    found = np.asarray(cells(system, np.linspace(0, 20, 21), "hold(F)=2.5@4:10", count=200).states[0])
    a, b, ab, f, d = np.moveaxis(found, -1, 0)
    assert (a + ab + 2 * d == 60.0).all()
    assert (b + ab == 30.0).all()
    assert (found >= 0).all()
    assert (f[:, 5:11] == 2.5).all()
    assert np.isin(f[:, 11:], np.arange(6)).all()


def test_size_scales_the_noise() -> None:
    """Mean 2 whatever the size; variance 2 / size."""
    for size in (1.0, 8.0):
        numbers = births([0.0, 8.0], birth=2.0, state=2.0, method=SSA(size=size))[:, -1]
        assert abs(numbers.mean() - 2.0) < 4 * np.sqrt(2.0 / size / 2000)
        assert abs(numbers.var() * size / 2.0 - 1.0) < 0.15


def test_drives_and_doses() -> None:
    """With a dose eliminated at rate 1, far below its threshold, the mean is `30 t exp(-t)`."""
    saturating = "drive(x)=30{dose=1;ke=1;ic50=1e-9;hill=1}@0:"
    times = np.array([0.0, 0.5, 1.0, 3.0])
    means = births(times, saturating, birth=0.0).mean(axis=0)
    np.testing.assert_allclose(means, 30 * (1 - np.exp(-times)), atol=4 * np.sqrt(30 / 2000))
    means = births(times, "drive(x)=3e9{dose=1;ke=1;ic50=1e8;hill=1}@0:", birth=0.0).mean(axis=0)
    np.testing.assert_allclose(means, 30 * times * np.exp(-times), atol=4 * np.sqrt(12 / 2000))


def test_hidden_activities_relax_exactly_and_drive_the_promoters() -> None:
    """At a large size the cells follow the rate equations, hidden activities and their signal included."""
    from pinnsim.simulate import ODE, solve

    kinetics = resolve(randomised(model_of(("mrna",), genes=3, unmeasured=2), 5).kinetics)
    p = Treatment.parse("signal(food)=1.5@3:12").resolve(kinetics.table)
    times, state = jnp.asarray([0.0, 2.0, 6.0, 15.0]), jnp.where(kinetics.material(), 1.0, -0.6)
    exact = eqx.filter_jit(solve)(kinetics, times, p, state, ODE(1e-9, 1e-11)).states
    found = sample_cells(SSA(size=2000.0), kinetics, times, Perturbation.stack([p]), state[None], KEY, 8)
    hidden = ~np.asarray(kinetics.material())
    np.testing.assert_allclose(found.states[0, 0][:, hidden], exact[:, hidden], rtol=1e-8)
    np.testing.assert_allclose(found.mean()[0], exact, atol=0.03)


def test_too_many_events_is_an_outcome() -> None:
    system, times = birth_death(100.0, 1.0), jnp.linspace(0.0, 10.0, 72)
    p = Perturbation.stack([Perturbation.none(system.table, 2)])
    found = sample_cells(SSA(max_events=300), system, times, p, jnp.zeros((1, 1)), KEY, 2000)
    assert (np.asarray(found.outcome) == Outcome.MAX_STEPS).all()
    assert np.isnan(np.asarray(found.states)).all()
    with pytest.raises(PinnsimError, match="2000 of 2000 cells of lane '0' ended early"):
        found.raise_failures()


def test_rates_that_are_not_numbers_are_an_outcome() -> None:
    system, times = birth_death(1.0, 1.0), jnp.linspace(0.0, 10.0, 72)
    p = Perturbation.stack([Perturbation.none(system.table, 2)])
    for bad in (jnp.nan, jnp.inf):
        broken = eqx.tree_at(lambda s: s.law.constant, system, jnp.asarray([bad, 1.0]))
        found = sample_cells(SSA(), broken, times, p, jnp.ones((1, 1)), KEY, 2000)
        assert (np.asarray(found.outcome) == Outcome.NOT_FINITE).all()


def test_settings_are_checked_and_never_recompile() -> None:
    for bad in ({"size": 0.0}, {"size": -1.0}, {"refresh": 0.0}, {"size": jnp.nan}):
        with pytest.raises(PinnsimError, match="E_USAGE"):
            SSA(**bad)
    system, p = birth_death(), Perturbation.none(birth_death().table)
    run = eqx.filter_jit(eqx.debug.assert_max_traces(max_traces=1)(SSA.sample))
    for size, limit in ((1.0, 10), (2.0, 1000), (7.5, 20)):
        run(SSA(size, limit), system, jnp.asarray([0.0, size]), p, jnp.zeros(1), key_of(KEY))


def test_single_precision_sessions() -> None:
    """In float32 throughout, as where double precision is not switched on."""
    system = jax.tree.map(lambda a: a.astype(jnp.float32), telegraph(1))
    with jax.enable_x64(False):
        p = jax.tree.map(lambda a: a.astype(jnp.float32), Perturbation.none(system.table))
        keys = jax.vmap(lambda c: lane_key(key_of(KEY), c))(jnp.arange(500))
        times = jnp.asarray([0.0, 20.0])
        found = jax.jit(jax.vmap(lambda key: SSA().sample(system, times, p, system.start, key)))(keys)
        assert found.states.dtype == jnp.float32
        mean = np.asarray(found.states[:, -1]).mean(axis=0)
    assert abs(mean[2] - 10.0 / 3) < 0.8

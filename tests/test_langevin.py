"""Continuous noise: moments that linear kinetics have exactly, orders of convergence, switches, shared noise."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from systems import model_of, randomised

from pinnsim.dynamics.equation import Reaction
from pinnsim.dynamics.motifs import birth_death, telegraph
from pinnsim.dynamics.reactions import reaction_system
from pinnsim.dynamics.structure import net_change
from pinnsim.errors import PinnsimError
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.random import key_of, lane_key, normals
from pinnsim.simulate import ODE, solve
from pinnsim.simulate.ensemble import Ensemble, sample_cells
from pinnsim.simulate.langevin import Diffusion, Langevin, chemical_noise
from pinnsim.specimens import Flow
from pinnsim.treatment import Treatment

KEY = jax.random.key(2000)


def cells(method, kinetics, times, text="none", state=None, count=2000) -> Ensemble:
    texts = [text] if isinstance(text, str) else list(text)
    p = Perturbation.stack([Treatment.parse(t).resolve(kinetics.table) for t in texts])
    state = kinetics.default_state() if state is None else jnp.asarray(state, dtype=float)
    states = jnp.broadcast_to(state, (len(texts), *state.shape))
    return sample_cells(method, kinetics, jnp.asarray(times, dtype=float), p, states, KEY, count).raise_failures()


def test_diffusion_of_an_ornstein_uhlenbeck_process() -> None:
    """Mean and covariance at t = 0.7 and at rest, from the matrix exponential (computed independently)."""
    flow = Flow(jnp.asarray([[-1.0, -2.0], [1.0, -1.5]]))
    count = 8000
    found = cells(Diffusion([0.5, 0.25], dt=0.005), flow, [0.0, 0.7, 8.0], count=count)
    early = [[0.3668099237, 0.013980973], [0.013980973, 0.150580704]]
    rest = [[0.4428571429, 0.0285714286], [0.0285714286, 0.1857142857]]
    for k, mean, cov in ((1, [0.7916433106, 0.0755671826], early), (2, [0.0, 0.0], rest)):
        sample = np.asarray(found.states[0, :, k])
        assert (np.abs(sample.mean(0) - mean) < 4 * np.sqrt(np.diag(cov) / count) + 0.006).all()
        spread = np.sqrt((np.outer(np.diag(cov), np.diag(cov)) + np.square(cov)) / count)
        assert (np.abs(np.cov(sample.T) - cov) < 4 * spread + 0.004).all()


def test_two_stage_moments_are_those_of_molecules() -> None:
    """Propensities are linear, so means and covariances of the chemical Langevin equation are exact."""
    system = reaction_system(
        [
            Reaction("transcription:g", "0 -> m", 10.0),
            Reaction("decay:g", "m -> 0", 2.0),
            Reaction("translation:g", "m -> m + p", 5.0),
            Reaction("protein_decay:g", "p -> 0", 0.5),
        ],
        time_unit="h",
    )
    count, size = 6000, 40.0
    found = cells(Langevin(size, dt=0.01), system, [0.0, 1.0, 15.0], count=count)
    mean, covariance = np.asarray(found.mean()[0]), np.cov(np.asarray(found.states[0, :, -1]).T) * size
    assert abs(mean[1, 1] - 11.8202107398) < 0.1
    np.testing.assert_allclose(mean[2], [5.0, 50.0], rtol=0.01)
    np.testing.assert_allclose(covariance, [[5.0, 10.0], [10.0, 150.0]], rtol=0.1)


def _slope(steps: np.ndarray, errors: np.ndarray) -> float:
    return float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


def test_strong_order_one_half() -> None:
    """`2 x -> 3 x` and `2 x -> x` at one rate: `dx = s x dW` with `s = sqrt(2 k / Omega)`, solved by
    `x exp(s W - s^2 t / 2)` for the very noise that the method drew."""
    rate, size, count, span = 0.25, 2.0, 3000, 1.0
    system = reaction_system(
        [Reaction("up", "2 x -> 3 x", rate), Reaction("down", "2 x -> x", rate)], time_unit="s", start={"x": 1.0}
    )
    steps = 2.0 ** -np.arange(3, 8)
    counters = jnp.arange(round(span / steps.min()), dtype=jnp.uint32)
    keys = jax.vmap(lambda c: lane_key(key_of(KEY), c))(jnp.arange(count))
    draws = np.asarray(jax.vmap(lambda key: jax.vmap(lambda j: normals(key, j, 1)[0])(counters))(keys))
    errors = []
    for dt in steps:
        found = np.asarray(cells(Langevin(size, dt), system, [0.0, span], count=count).states[0, :, -1, 0])
        path = draws[:, : round(span / dt)].sum(axis=1) * np.sqrt(dt)
        strength = np.sqrt(2 * rate / size)
        exact = np.exp(strength * path - 0.5 * strength**2 * span)
        errors.append(np.sqrt(np.mean((found - exact) ** 2)))
    assert abs(_slope(steps, np.array(errors)) - 0.5) < 0.2


def test_weak_order_one() -> None:
    """Second moment of births and deaths at t = 1 from 1: `m^2 + v` with `v' = b + m - 2 v` (over the size)."""
    birth, size, count = 4.0, 30.0, 60_000
    exact_mean = birth + (1.0 - birth) * np.exp(-1.0)
    # v solves v' = (birth + m) / size - 2 v from 0.
    exact_variance = (birth * (1 - np.exp(-2.0)) - (birth - 1.0) * (np.exp(-1.0) - np.exp(-2.0))) / size
    steps = np.array([0.5, 0.25, 0.125])
    errors = []
    for dt in steps:
        found = np.asarray(cells(Langevin(size, dt), birth_death(birth), [0.0, 1.0], state=[1.0], count=count).states)
        errors.append(abs(np.mean(found[0, :, -1, 0] ** 2) - exact_mean**2 - exact_variance))
    assert abs(_slope(steps, np.array(errors)) - 1.0) < 0.2


def test_shared_normals_have_the_covariance_of_separate_ones() -> None:
    """`S diag(v) S'` of a system in which some reactions change one species and some change two."""
    system = telegraph(2)
    structure = system.structure
    variances = jnp.arange(1.0, 13.0)
    own = int((np.abs(structure.matrix) > 0).sum(axis=0).__gt__(1).sum())
    assert own == 4  # switching on and off, for two genes
    basis = jnp.eye(structure.species + own)
    root = np.asarray(jax.vmap(lambda draws: chemical_noise(structure, variances, draws))(basis))
    matrix = structure.matrix
    np.testing.assert_allclose(
        root.T @ root, matrix @ np.diag(np.asarray(variances)) @ matrix.T, rtol=1e-12, atol=1e-12
    )
    assert net_change(structure, variances).shape == (8,)


def test_without_noise_it_is_euler_and_switches_are_met() -> None:
    """Infinite size; a switch between two points of the grid cuts a step: error of order dt, none at the switch."""
    system = birth_death(2.0, 0.5)
    texts = ["none", "reaction(birth)*4@1.0003:2.4, drive(x)=1@3.14:", "hold(x)=7@1.5:2.5"]
    times = [0.0, 1.2, 2.0, 4.0, 4.0001]
    found = cells(Langevin(jnp.inf, dt=0.002), system, times, texts, [1.0], 2)
    for k, text in enumerate(texts):
        p = Treatment.parse(text).resolve(system.table)
        exact = eqx.filter_jit(solve)(system, jnp.asarray(times), p, jnp.ones(1), ODE(1e-10, 1e-12)).states
        np.testing.assert_allclose(found.states[k, 0], exact, atol=4e-3)
    assert float(found.states[2, 0, 2, 0]) == 7.0


def test_hidden_activities_are_deterministic_and_exact() -> None:
    kinetics = resolve(randomised(model_of(("mrna", "protein"), genes=3, unmeasured=2), 5).kinetics)
    text, times = "signal(food)=1.5@3:12", [0.0, 2.0, 6.0, 15.0]
    state = jnp.where(kinetics.material(), 1.0, -0.6)
    p = Treatment.parse(text).resolve(kinetics.table)
    exact = eqx.filter_jit(solve)(kinetics, jnp.asarray(times), p, state, ODE(1e-9, 1e-11)).states
    found = cells(Langevin(1e6, dt=0.01), kinetics, times, text, state, 2)
    hidden = ~np.asarray(kinetics.material())
    np.testing.assert_allclose(found.states[0, 1][:, hidden], exact[:, hidden], rtol=1e-7)
    np.testing.assert_allclose(found.states[0, 1], exact, atol=0.02)


def test_cells_share_noise_across_treatments_and_never_depend_on_the_batch() -> None:
    """A switch on the grid leaves what is upstream of it bitwise as it was; one off the grid nearly so."""
    system = telegraph(2, on=50.0, off=50.0, transcription=100.0)
    times = jnp.asarray([0.0, 1.0, 2.0, 4.0])
    texts = ["none", "g1=0@1:", "g1=0@1.003:"]
    found = np.asarray(cells(Langevin(10.0, dt=0.01), system, times, texts, count=70).states)
    np.testing.assert_array_equal(found[0][:, :2], found[1][:, :2])
    first = [i for i, name in enumerate(system.table.species) if name.startswith("g0")]
    np.testing.assert_array_equal(found[0][..., first], found[1][..., first])
    protein = system.table.species.index("g0.protein")
    assert np.corrcoef(found[0][:, -1, protein], found[2][:, -1, protein])[0, 1] > 0.98
    p = Treatment.parse(texts[1]).resolve(system.table)
    alone = eqx.filter_jit(Langevin(10.0, dt=0.01).sample)(system, times, p, system.start, lane_key(key_of(KEY), 3))
    np.testing.assert_allclose(alone.states, found[1, 3], rtol=1e-10)


def test_settings_are_checked_and_never_recompile() -> None:
    for bad in ({"size": 0.0}, {"dt": -1.0}, {"dt": jnp.nan}, {"refresh": 0.0}):
        with pytest.raises(PinnsimError, match="E_USAGE"):
            Langevin(**bad)
    system, p = birth_death(), Perturbation.none(birth_death().table)
    run = eqx.filter_jit(eqx.debug.assert_max_traces(max_traces=1)(Langevin.sample))
    for size, dt in ((1.0, 0.1), (2.0, 0.01), (7.5, 1.0)):
        run(Langevin(size, dt), system, jnp.asarray([0.0, size]), p, jnp.zeros(1), key_of(KEY))
    with pytest.raises(PinnsimError, match=r"use ODE\(\) or Diffusion"):
        Langevin().sample(Flow(jnp.eye(2)), jnp.asarray([0.0, 1.0]), p, jnp.zeros(2), key_of(KEY))


def test_single_precision_sessions() -> None:
    system = jax.tree.map(lambda a: a.astype(jnp.float32), birth_death(50.0))
    with jax.enable_x64(False):
        p = jax.tree.map(lambda a: a.astype(jnp.float32), Perturbation.none(system.table))
        states = jnp.full((1, 1), 50.0)
        found = sample_cells(Langevin(), system, jnp.asarray([0.0, 5.0]), Perturbation.stack([p]), states, KEY, 2000)
        assert found.states.dtype == jnp.float32
        assert abs(float(found.mean()[0, -1, 0]) - 50.0) < 1.0
        assert abs(float(found.fano()[0, -1, 0]) - 1.0) < 0.15

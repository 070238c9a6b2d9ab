"""Proposed edges: a missing edge comes out on top, a complete network gets none, and the test is the one it says."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.stats

from pinnsim.data import Dataset
from pinnsim.errors import PinnsimError
from pinnsim.fit import FitPlan, aupr, cultures, fit_groups, listed_edges, propose_edges, rank_edges
from pinnsim.fit.collocation import smooth
from pinnsim.fit.fit import draw_start
from pinnsim.fit.free import free_vector
from pinnsim.fit.objective import collocation_readings
from pinnsim.fit.propose import false_discovery
from pinnsim.model import ModelConfig, build
from pinnsim.network import Network
from pinnsim.parameter import resolve
from pinnsim.prior import KineticPrior, LogNormal
from pinnsim.simulate import FromState, simulate

GENES = tuple(f"g{i}" for i in range(12))
TIMES = np.concatenate([np.linspace(0, 4, 9), np.linspace(5, 12, 6)])
NOISE = 0.05
SHIFTS = ("g0*4@0:", "g1*4@0:", "g2*5@0:", "g3*0.1@0:", "g0*0.1@0:, g1*0.2@0:", "g2*0.1@0:, g3*4@0:")
PLAN = FitPlan(starts=1, keep=1, collocation_steps=250, trajectory_steps=0, substeps=3, learning_rate=0.05)
MISSING = ("g1", "g7")


CONFIG = ModelConfig.model_validate(
    {
        "time_unit": "h",
        "regulation": {"hidden": "none", "affinity": 0.5, "strength_sd": 0.3, "affinity_sd": 0.5, "basal_sd": 1.0},
        "readout": {"kind": "array", "offset": 10.0},
        "likelihood": {"kind": "gaussian", "sd": NOISE},
    }
)


def kinetic() -> KineticPrior:
    rate = LogNormal(jnp.full(12, 0.7), jnp.full(12, 0.2))
    return KineticPrior(rate, GENES, ("given: simulated",) * 12, "mrna", "h")


def network_of(edges: list[tuple[int, int, float]]) -> Network:
    source, target, sign = (np.array(column) for column in zip(*edges, strict=True))
    count = len(edges)
    names = ("",) * count
    return Network(source, target, sign.astype(float), np.ones(count), GENES, GENES[:4], names, names)


def complete() -> list[tuple[int, int, float]]:
    """Two regulators for each of the last eight genes."""
    found = []
    for target in range(4, 12):
        found += [(target % 4, target, 1.0), ((target + 2) % 4, target, -1.0)]
    found[found.index((3, 7, 1.0)) + 1] = (1, 7, -1.0)
    return found


def without() -> list[tuple[int, int, float]]:
    """The same number of edges, of which one starts at a wrong regulator."""
    return [
        (0, 7, sign) if (source, target) == (1, 7) else (source, target, sign) for source, target, sign in complete()
    ]


@pytest.fixture(scope="module")
def fits():
    """The complete network and the one that lacks an edge, fitted to one data set as lanes of one program."""
    priors = [build(CONFIG, network_of(edges), kinetic()) for edges in (complete(), without())]
    truth = draw_start(priors[0], jax.random.key(1), 0.7)
    begin = FromState(resolve(truth).kinetics.default_state())
    span = np.concatenate([[-40.0], TIMES])
    readings = np.array(simulate(truth, span, list(SHIFTS), initial=begin).raise_failures().readings)[:, 1:]
    readings[:, 1:] += NOISE * np.random.default_rng(0).standard_normal(readings[:, 1:].shape)
    names = [f"shift {k}" for k in range(len(SHIFTS))]
    dataset = Dataset.build(
        readings[:, None], TIMES, GENES, names, treatments=dict(zip(names, SHIFTS, strict=True)),
        time_unit="h", scale="log2", simulated=True,
    )  # fmt: skip
    data = cultures(dataset, priors[0].center.table, substeps=PLAN.substeps)
    arrays, rest = eqx.partition(priors[0], eqx.is_array)
    leaves = jax.tree.leaves(eqx.filter(priors[1], eqx.is_array))
    same = eqx.combine(jax.tree.unflatten(jax.tree.structure(arrays), leaves), rest)
    result = fit_groups([priors[0], same], [data, data], PLAN, progress=False)
    return [(result.best(k), (priors[0], same)[k], data) for k in (0, 1)], dataset


def test_the_missing_edge_comes_out_on_top(fits) -> None:
    found = propose_edges(*fits[0][1], PLAN)
    assert tuple(found.loc[0, ["source", "target"]]) == MISSING
    assert found["sign"][0] == -1
    assert found["proposed"].tolist() == [True] + [False] * (len(found) - 1)
    assert found["strength"][0] < -2 * found["se"][0]
    assert (np.diff(found["q"]) >= 0).all()
    assert (found["q"] >= found["p"]).all()


def test_a_complete_network_gets_no_proposals(fits) -> None:
    found = propose_edges(*fits[0][0], PLAN)
    assert not found["proposed"].any()
    # All pairs but the listed ones and self-regulation; a network's regulators are the candidates.
    assert len(found) == 4 * 12 - 16 - 4
    listed = {(f"g{source}", f"g{target}") for source, target, _ in complete()}
    assert not listed & set(zip(found["source"], found["target"], strict=True))
    # Genes that are no regulators may be asked about.
    other = propose_edges(*fits[0][0], PLAN, candidates=["g9", "g0", "g1", "g2"])
    assert set(other["source"]) == {"g9", "g0", "g1", "g2"}
    with pytest.raises(PinnsimError, match="E_GENE_UNKNOWN.*did you mean 'g1'"):
        propose_edges(*fits[0][0], PLAN, candidates=["g1x"])
    with pytest.raises(PinnsimError, match="E_NETWORK_EMPTY"):
        propose_edges(*fits[0][0], PLAN, candidates=[])


def test_standard_errors_are_those_of_the_model_with_the_edge(fits) -> None:
    """A listed edge of unknown sign and no prior, at strength 0 and half occupancy where the test has it: its standard
    deviation by least squares is the proposal's standard error."""
    (model, prior, data), dataset = fits[0][1], fits[1]
    kinetics = model.kinetics
    grid, at = np.asarray(data.grid), jax.vmap(smooth)(data.times, data.per_exposure, data.mask, data.grid)
    rna = np.asarray(jax.vmap(jax.vmap(resolve(model).observation.readout.invert))(at))
    half = np.exp(np.log(0.5 * (rna[:, :-1] + rna[:, 1:])[..., 1]).mean())
    assert grid.shape == rna.shape[:2]
    wider = build(CONFIG, network_of([*without(), (1, 7, 0.0)]), kinetic())

    def extended(model, wide, strength, affinity):
        """The model with the edge, at these unconstrained numbers."""
        promoter = model.kinetics.promoter
        more = (jnp.append(promoter.strength, strength), jnp.append(promoter.affinity.raw, affinity))
        new = dataclasses.replace(
            wide.kinetics.promoter,
            basal=promoter.basal,
            strength=more[0],
            affinity=dataclasses.replace(promoter.affinity, raw=more[1]),
        )
        kept = dataclasses.replace(model.kinetics, table=wide.kinetics.table, promoter=new)
        return dataclasses.replace(model, kinetics=kept)

    with_edge = extended(model, wider.center, 0.0, np.log(half))
    assert (with_edge.kinetics.decay.raw == kinetics.decay.raw).all()
    around = dataclasses.replace(
        wider,
        center=extended(prior.center, wider.center, 0.0, np.log(half)),
        spread=extended(prior.spread, wider.spread, np.inf, 0.0),
    )
    again = cultures(dataset, wider.center.table, substeps=PLAN.substeps)
    free, settings = free_vector(with_edge, around), PLAN.settings()

    @jax.jit
    def readings(vector):
        return collocation_readings(resolve(free.with_values(vector)), again, settings)[0][:, 1:].ravel() / NOISE

    jacobian = np.asarray(jax.jit(jax.jacfwd(readings))(free.start))
    covariance = np.linalg.inv(jacobian.T @ jacobian + np.diag(1.0 / np.asarray(free.spread) ** 2))
    found = propose_edges(model, prior, data, PLAN).set_index(["source", "target"])
    at = free.names.index("strength:g1->g7")
    assert found.loc[MISSING, "se"] == pytest.approx(np.sqrt(covariance[at, at]), rel=1e-6)
    # The same for every listed edge, which genes' own curvature gives at any size.
    listed = listed_edges(with_edge, around, again, PLAN)
    place = [free.names.index(f"strength:{edge}") for edge in wider.center.table.edges]
    reach = scipy.stats.norm.ppf(0.95) * np.sqrt(np.diag(covariance)[place])
    raw, sign = np.asarray(free.start)[place], np.array([*(s for *_, s in without()), 0.0])
    ends = [np.where(sign == 0, r, sign * np.logaddexp(0.0, r)) for r in (raw - reach, raw + reach)]
    np.testing.assert_allclose(listed["lo"], np.min(ends, axis=0), rtol=1e-6)
    np.testing.assert_allclose(listed["hi"], np.max(ends, axis=0), rtol=1e-6)
    assert (listed["source"] + "->" + listed["target"]).tolist() == list(wider.center.table.edges)


def test_false_discoveries_are_bounded_as_by_the_book() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(200)
    p[:20] *= 1e-4
    np.testing.assert_allclose(false_discovery(p), scipy.stats.false_discovery_control(p))


def test_recovery_is_the_average_precision_less_the_priors() -> None:
    truth, prior = network_of(complete()), network_of(without())
    edges = [edge.split("->") for edge in prior.edges]
    ranked = pd.DataFrame(edges, columns=["source", "target"]).assign(
        evidence=[float(e != ["g0", "g7"]) for e in edges]
    )
    found = aupr(ranked, truth, prior)
    pairs, right = 4 * 12 - 4, 15
    # By hand: the prior is one group of 16 with 15 hits; the ranking puts the wrong edge behind the 15.
    assert found.prior == pytest.approx(right / 16 * right / 16 + 1 / 16 * 16 / pairs)
    assert found.value == pytest.approx(right / 16 * 1.0 + 1 / 16 * 16 / pairs)
    assert found.gain == pytest.approx(found.value - found.prior)
    assert found.chance == pytest.approx(16 / pairs)
    with pytest.raises(PinnsimError, match="E_NETWORK_EMPTY"):
        aupr(ranked, Network.empty(GENES), prior)
    with pytest.raises(PinnsimError, match="E_GENE_UNMATCHED"):
        aupr(ranked, Network.empty(GENES[:3]), prior)


def test_listed_and_unlisted_edges_share_one_list() -> None:
    edges = pd.DataFrame({"source": ["a", "b"], "target": ["c", "c"], "strength": [2.0, 0.1]})
    half = scipy.stats.norm.ppf(0.95) * 0.5  # standard errors of a half, 90 % intervals
    edges = edges.assign(lo=edges["strength"] - half, hi=edges["strength"] + half)
    proposed = pd.DataFrame({"source": ["d", "e"], "target": ["c", "c"], "strength": [-3.0, 0.1], "z": [-6.0, 0.2]})
    ranked = rank_edges(edges, proposed)
    assert ranked["source"].tolist() == ["d", "a", "b", "e"]
    assert ranked["listed"].tolist() == [False, True, True, False]
    assert ranked["evidence"][1] == pytest.approx(0.5 * 4.0**2 + np.log(9.0))

"""Screens against closed forms: a chain, two sources, redundant activators, a toggle, and members one by one."""

import dataclasses
from itertools import combinations

import jax.numpy as jnp
import numpy as np
import pytest
from systems import roots

from pinnsim import plot, shelf
from pinnsim.errors import PinnsimError
from pinnsim.formats.reaction_system import load_system
from pinnsim.landscape import resting
from pinnsim.landscape.fixed_points import polish_lanes
from pinnsim.screen import screen
from pinnsim.screen.agreement import agreement
from pinnsim.screen.combinations import knockouts
from pinnsim.screen.interaction import of_three, terms
from pinnsim.simulate import many
from pinnsim.tree import named_leaves, replaced, stack

# A makes B; C has two sources; P and Q, one is enough for D; u and v repress one another.
REACTIONS = {
    "transcription:A": ("0 -> A.mrna", 2.0),
    "decay:A": ("A.mrna -> 0", 1.0),
    "transcription:B": ("0 -> B.mrna", "1.5 * A.mrna"),
    "decay:B": ("B.mrna -> 0", 1.0),
    "first": ("0 -> C.mrna", 2.0),
    "second": ("0 -> C.mrna", 3.0),
    "decay:C": ("C.mrna -> 0", 1.0),
    "transcription:P": ("0 -> P.mrna", 1.0),
    "decay:P": ("P.mrna -> 0", 1.0),
    "transcription:Q": ("0 -> Q.mrna", 1.0),
    "decay:Q": ("Q.mrna -> 0", 1.0),
    "transcription:D": ("0 -> D.mrna", "1 - repress(P.mrna, 0.25, 2) * repress(Q.mrna, 0.25, 2)"),
    "decay:D": ("D.mrna -> 0", 1.0),
    "transcription:u": ("0 -> u.mrna", "10 * repress(v.mrna, 1, 2)"),
    "decay:u": ("u.mrna -> 0", 1.0),
    "transcription:v": ("0 -> v.mrna", "10 * repress(u.mrna, 1, 2)"),
    "decay:v": ("v.mrna -> 0", 1.0),
}
GENES = ["A", "B", "C", "P", "Q", "D", "u", "v"]
EDITS = ["A*0.5", "B*0.3", "reaction(first)*0", "reaction(second)*0", "P=0", "Q=0", "u*0.6", "v*1.6"]
TEXT = "\n".join(
    [
        "schema_version = 1",
        'kind = "reaction_system"',
        'time_unit = "h"',
        f"species = {[g + '.mrna' for g in GENES]}",
        f"genes = {GENES}",
        "[start]",
        *(f'"{g}.mrna" = 1.0' for g in GENES),
        *(
            f'[[reactions]]\nname = "{name}"\nequation = "{equation}"\nrate = {rate!r}'
            for name, (equation, rate) in REACTIONS.items()
        ),
    ]
)
HALF, LESS = 1 / (1 + 16.0), 1.0  # repress(1, 0.25, 2), repress(0, 0.25, 2)
U, V = 5 + 2 * np.sqrt(6), 5 - 2 * np.sqrt(6)
VALLEYS = [[2, 3, 5, 1, 1, 1 - HALF**2, u, v] for u, v in ((U, V), (V, U))]
HOW = {"reference": VALLEYS, "settle": 60.0, "starts": 2, "batch_size": 64, "progress": False}
PROGRAMS = [many._solved, many._fastest, polish_lanes, resting._lasting]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "modules.toml"
    path.write_text(TEXT)
    return load_system(path).system


@pytest.fixture(scope="module")
def members(model):
    """Five that differ in all rates, a sixth with so little u that it has one valley."""
    rng, factor = np.random.default_rng(5), named_leaves(model)["law/factor"]
    other = [factor * np.exp(0.05 * rng.standard_normal(len(factor))) for _ in range(5)]
    other.append(factor * np.where(np.arange(len(factor)) == list(REACTIONS).index("transcription:u"), 0.2, 1.0))
    return [replaced(model, {"law/factor": jnp.asarray(f)}) for f in other]


@pytest.fixture(scope="module")
def found(model, members):
    return screen(model, EDITS, order=3, triples=3, members=members, **HOW)


def row(table, perturbation, valley="A1"):
    return table.set_index(["perturbation", "valley"]).loc[(perturbation, valley)]


def test_folds_multiply_along_a_chain_and_not_between_sources(found):
    both = row(found.synergies("B"), "A*0.5, B*0.3")
    assert abs(both["multiplicative"]) < 1e-3  # that of the floor, a ten-thousandth
    assert both["multiplicative term"] == "none"
    assert both["additive"] == pytest.approx(0.15 - 0.5 - 0.3 + 1.0, rel=1e-3)
    assert both["additive term"] == "buffering"
    sources = row(found.synergies("C"), "reaction(first)*0, reaction(second)*0")
    assert abs(sources["additive"]) < 1e-9
    assert sources["additive term"] == "none"
    assert sources["effect a"] == pytest.approx(np.log2(3 / 5), abs=1e-3)
    assert sources["multiplicative"] < -10
    assert sources["multiplicative term"] == "synergistic"


def test_without_a_floor_expectations_are_exact(found):
    bare = dataclasses.replace(found, readouts=dataclasses.replace(found.readouts, floor=np.zeros(8)))
    both = row(bare.synergies("B"), "A*0.5, B*0.3")
    assert abs(both["multiplicative"]) < 1e-12
    assert both["additive"] == pytest.approx(0.35, abs=1e-12)
    sources = row(bare.synergies("C"), "reaction(first)*0, reaction(second)*0")
    assert sources["effect b"] == pytest.approx(np.log2(2 / 5), abs=1e-12)
    assert np.isnan(sources["multiplicative"])
    assert sources["multiplicative term"] == ""


def test_redundant_activators_are_synthetic_and_rank_first(found):
    exact = {"P=0": 1 - HALF, "Q=0": 1 - HALF, "P=0, Q=0": 0.0}
    effects = found.effects("D.mrna")
    for label, level in exact.items():
        assert row(effects, label)["level"] == pytest.approx(level, abs=1e-10)
    both = row(found.synergies(), "P=0, Q=0")
    assert both["readout"] == "D.mrna"
    floor, base = 1e-4, 1 - HALF**2
    single = np.log2((1 - HALF + floor) / (base + floor))
    assert both["effect a"] == pytest.approx(single, abs=1e-9)
    assert both["multiplicative"] == pytest.approx(np.log2(floor / (base + floor)) - 2 * single, abs=1e-8)
    assert both["additive"] == pytest.approx((2 * HALF - 1 - HALF**2) / (base + floor), abs=1e-9)
    assert both["multiplicative term"] == both["additive term"] == "synthetic"
    assert set(found.synergies("D", count=2)["perturbation"]) == {"P=0, Q=0"}


def test_a_fate_that_only_the_double_changes(found):
    for label, fu, fv, count in (("u*0.6", 0.6, 1.0, 2), ("v*1.6", 1.0, 1.6, 2), ("u*0.6, v*1.6", 0.6, 1.6, 1)):
        states = roots(fu, fv, 0, 1)
        assert len(states) == count
        level = row(found.effects("u"), label)["level"]
        assert level == pytest.approx(states[-1, 0], rel=1e-8)
    changes = found.fates()
    assert changes["perturbation"].iloc[0] == "u*0.6, v*1.6"
    first = changes.iloc[0]
    assert (first["valley"], first["fate"], first["rests in"], first["emergent"]) == ("A1", "vanishes", "A2", True)
    assert first["when lifted"] == "A2"
    # What contains the double changes the fate as well, but is not news.
    assert not changes[changes["order"] == 3]["emergent"].any()
    assert all("u*0.6" in label and "v*1.6" in label for label in changes["perturbation"])
    assert not row(found.synergies("u"), "u*0.6, v*1.6")["same valley"]
    assert "1 changes of fate that no part brings about alone" in repr(found)


def test_every_double_is_there_once_and_triples_are_those_of_the_best_doubles(found):
    assert [int((found.order == k).sum()) for k in (1, 2, 3)] == [8, 28, 3]
    assert len(set(found.labels)) == 39
    strong = {"P=0, Q=0", "reaction(first)*0, reaction(second)*0", "u*0.6, v*1.6"}
    for label in found.labels[-3:]:
        assert any(set(pair.split(", ")) <= set(label.split(", ")) for pair in strong)


def test_three_are_compared_with_their_pairs(found):
    e = dict(zip(found.labels, found.effects_on("additive")[0, :, 0], strict=True))
    for k, label in enumerate(found.labels[-3:]):
        a, b, c = parts = label.split(", ")
        pairs = [e[", ".join(p)] for p in combinations(parts, 2)]
        exact = e[label] - sum(pairs) + e[a] + e[b] + e[c]
        assert np.allclose(found.interactions("additive", 3)[0, k, 0], exact, atol=1e-12)
    assert {"effect c", "effect abc", "multiplicative", "additive"} <= set(found.triples())
    rng = np.random.default_rng(0)
    single, pair = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    whole = single.sum(axis=0) + sum(
        pair[i] - single[a] - single[b] for i, (a, b) in enumerate([(0, 1), (0, 2), (1, 2)])
    )
    assert np.allclose(of_three(whole, list(pair), list(single)), 0.0)


def test_members_are_what_each_is_alone(model, members, found):
    """Intervals against a screen of each member, from its own valleys."""
    alone = [screen(m, EDITS, **HOW | {"reference": found.members[k].base}) for k, m in enumerate(members[:2])]
    for k, one in enumerate(alone):
        np.testing.assert_allclose(one.levels[0], found.levels[k + 1, :36], atol=1e-8)
    values = found.interactions()[:, :, 0, GENES.index("D")]
    table = found.synergies("D").query("valley == 'A1'").set_index("perturbation")
    for number, label in enumerate(found.labels[8:36]):
        each = values[1:, number]
        each = each[np.isfinite(each)]
        assert table.loc[label, "members"] == len(each) == 5
        assert table.loc[label, "multiplicative mean"] == pytest.approx(each.mean(), abs=1e-12)
        low, high = np.quantile(each, [0.05, 0.95])
        assert table.loc[label, "multiplicative low"] == pytest.approx(low, abs=1e-12)
        assert table.loc[label, "multiplicative high"] == pytest.approx(high, abs=1e-12)
        same = np.mean(np.sign(each) == np.sign(values[0, number]))
        assert table.loc[label, "multiplicative same sign"] == pytest.approx(same)


def test_members_without_a_valley_are_counted_as_such(found):
    assert found.kept.kind[6].tolist().count(0) == 1
    assert (found.members[5].fate[:, 0] == "no valley").all()
    assert "5 of 6 members have all 2 valleys" in found.describe()
    share = found.fates().set_index(["perturbation", "valley"])["same fate"]
    double = share[("u*0.6, v*1.6", "A1")]
    which = found.labels.index("u*0.6, v*1.6")
    assert double == np.mean([member.fate[which, 0] == "vanishes" for member in found.members])
    assert 0.5 < double < 1


def test_one_program_for_all_edits_and_members(model, members, found):
    before = [p._cached._cache_size() for p in PROGRAMS]
    other = screen(model, ["A*0.7", "D=0", "v=0"], members=stack(members[::-1]), **HOW)
    assert [p._cached._cache_size() for p in PROGRAMS] == before
    assert np.array_equal(other.members[1].base, found.members[4].base)
    assert row(other.effects("D"), "A*0.7, D=0")["members"] == 5


def test_effects_at_a_time(model):
    """Half of A's production: A and B relax as exponentials, from 2 and 3."""
    edits = ["A*0.5", "B*0.3@1:", "u=0"]
    later = screen(model, edits, time=1.5, readouts=["A", "B", "u"], floor=0.0, **HOW | {"starts": 0})
    t, table = 1.5, later.effects("B")
    a = 1 + np.exp(-t)
    b = 1.5 * (1 + t * np.exp(-t)) + 1.5 * np.exp(-t)
    assert row(later.effects("A"), "A*0.5")["level"] == pytest.approx(a, rel=1e-5)
    assert row(table, "A*0.5")["level"] == pytest.approx(b, rel=1e-5)
    assert row(table, "B*0.3@1:")["level"] == pytest.approx(0.9 + 2.1 * np.exp(-0.5), rel=1e-5)
    assert row(later.effects("u"), "u=0")["level"] == pytest.approx(U * np.exp(-t), rel=1e-5)
    assert row(table, "u=0")["fate"] == "near"
    assert "1.5 h after the switch" in repr(later)


def test_words_follow_their_definitions():
    cases = {
        "none": (-2.0, -1.0, -1.0),
        "synthetic": (-2.0, 0.05, -0.05),
        "masking": (-2.0, -2.0, -1.0),
        "synergistic": (-3.0, -1.0, -1.0),
        "buffering": (-2.5, -2.0, -1.0),
        "antagonistic": (-1.5, -2.0, -1.0),
    }
    for word, (ab, a, b) in cases.items():
        for sign in (1.0, -1.0):
            numbers = [np.array([sign * x]) for x in (ab, a, b)]
            assert terms(numbers[0], numbers[1:], 0.1).tolist() == [word]
            assert terms(numbers[0], numbers[:0:-1], 0.1).tolist() == [word]
    # Opposite effects: masked by the stronger, by the weaker, in between, beyond, and neither acting.
    opposite = {2.0: "masking", -1.0: "masking", 1.5: "buffering", 1.0: "none", 3.0: "synergistic", 0.2: "antagonistic"}
    for ab, word in opposite.items():
        assert terms(np.array([ab]), [np.array([2.0]), np.array([-1.0])], 0.1).tolist() == [word]
    assert terms(np.array([0.05]), [np.array([0.09]), np.array([0.09])], 0.1).tolist() == ["none"]
    assert terms(np.array([np.nan]), [np.zeros(1), np.zeros(1)], 0.1).tolist() == [""]


def test_agreement_is_numpys():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(9, 3, 4))
    values[1:5, 0, 0], values[1:, 1, 1] = np.nan, np.nan
    told = agreement(values, 0.8)
    assert np.isnan([told.mean[1, 1], told.low[1, 1], told.same_sign[1, 1]]).all()
    members = np.delete(values[1:].reshape(8, -1), 5, axis=1)
    for name, exact in (("mean", np.nanmean(members, 0)), ("low", np.nanquantile(members, 0.1, axis=0))):
        assert np.allclose(np.delete(getattr(told, name).ravel(), 5), exact)
    assert told.counted[0, 0] == 4


def test_what_cannot_be_screened_is_refused(model):
    cases = [
        ({"edits": []}, "no edit"),
        ({"edits": "A=0"}, "give a list"),
        ({"edits": ["A=0", "A=0", "A*1"]}, r"(?s)changes nothing.*named 2 times"),
        ({"edits": ["A=0@2:"]}, "rest has none"),
        ({"edits": ["X=0"]}, "E_PERTURB_GENE"),
        ({"order": 4, "level": 1.0, "time": -1.0}, r"(?s)order.*time.*level"),
        ({"triples": 2}, "needs `order=3`"),
        ({"order": 3, "triples": [["A=0", "B=0"]], "doubles": [["A=0", "Z=0"]]}, r"(?s)not among.*not 3 edits"),
        ({"readouts": ["A", "nobody"], "floor": -1.0}, r"(?s)E_GENE_UNKNOWN.*E_USAGE.*floor"),
        ({"settle": None}, "settle"),
        ({"memory_limit": 10.0}, "E_SIZE"),
        ({"reference": [[9.0] * 7 + [1.0]], "starts": 0, "settle": 60.0}, "E_INIT.*no place of rest"),
    ]
    for options, message in cases:
        with pytest.raises(PinnsimError, match=message):
            screen(model, **{"edits": ["A=0", "B=0"], **HOW, **options})


def test_models_without_genes_and_with_totals():
    assert knockouts(shelf.load_system("schlogl").system) == tuple(
        f"reaction({name})*0" for name in shelf.load_system("schlogl").system.table.reactions
    )
    with pytest.raises(PinnsimError, match=r"E_USAGE.*conserves totals.*`time`"):
        screen(shelf.load_system("telegraph").system, progress=False)


def test_pictures(found):
    ax = plot.synergy_map(found, top=6)
    assert len(ax.images) == 2
    assert len(ax.get_xticks()) == 6
    assert "P=0" in [text.get_text() for text in ax.get_xticklabels()]
    ranked = plot.ranked_intervals(found.synergies(count=8))
    assert len(ranked.get_yticks()) == 8
    assert "synthetic" in [text.get_text() for text in ranked.get_legend().get_texts()]
    plot.ranked_intervals(found.effects(count=4), value="log2 fold", title="Effects")
    with pytest.raises(PinnsimError, match="E_DATA_EMPTY"):
        plot.ranked_intervals(found.effects().iloc[:0])
    with pytest.raises(PinnsimError, match="no valley"):
        plot.synergy_map(found, valley="A9")

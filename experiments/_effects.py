"""Perturbations as trials, and what predicts their effects without a mechanism.

The effect of a trial is the change of mean log expression, log(1 + counts per size factor), gene by gene. Baselines
see the measured trials only:

- no change;
- mean: the mean of the measured effects;
- additive: effects of the same genes, in proportion to the dose, summed over genes. A factor f < 1 counts as 1 - f of a
  knock-out, over-expression in proportion to log f, or as a knock-out's opposite where none was measured;
- ridge: one linear model of all pairs (trial, gene), from what the listed network hands down in one, two and three
  steps, co-expression in the control, and the gene's mean measured effect; the penalty by leave-one-trial-out.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pinnsim.network import Network
from pinnsim.treatment import Treatment

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1e3)


class Trial(NamedTuple):
    """One perturbation: its kind, its treatment, factors of genes' expression, and a weakened edge with its factor."""

    kind: str
    treatment: Treatment
    factors: tuple[tuple[str, float], ...] = ()
    edge: tuple[str, str] | None = None
    weakened: float = 1.0

    @property
    def targets(self) -> tuple[str, ...]:
        """Genes whose own change is known without a model."""
        return tuple(gene for gene, _ in self.factors)


def trial(kind: str, *factors: tuple[str, float]) -> Trial:
    """Genes multiplied by factors from time 0 on."""
    edits = [f"{gene}=0@0:" if f == 0 else f"{gene}*{f:.6g}@0:" for gene, f in factors]
    return Trial(kind, Treatment.parse(", ".join(edits)), factors)


def trials(
    plan: dict[str, Any], regulators: Sequence[str], network: Network, listed: Network, rng: np.random.Generator
) -> tuple[list[Trial], list[Trial]]:
    """Measured and held-out trials; which genes are measured, and which binding sites among those that are there and
    listed are weakened, is drawn."""
    drawn = rng.permutation(regulators).tolist()
    out, rest = drawn[: plan["knocked_out"]], drawn[plan["knocked_out"] :]
    down = rng.permutation(rest)[: plan["knocked_down"]].tolist()
    over = rng.permutation(regulators)[: plan["over_expressed"]].tolist()
    training = [trial("measured", (g, 0.0)) for g in out] + [trial("measured", (g, 0.3)) for g in down]
    training += [trial("measured", (g, 4.0)) for g in over]
    training.append(Trial("measured", Treatment.parse("signal(ligand)=1@0:")))
    held = [trial("knock-outs of other genes", (g, 0.0)) for g in rest]
    held += [trial("knock-downs", (g, 1 - d)) for g in regulators for d in plan["doses"]]
    held += [trial("over-expression", (g, f)) for g in regulators for f in plan["folds"]]
    pairs = list(itertools.combinations(regulators, 2))
    for k in sorted(rng.permutation(len(pairs))[: plan["doubles"]].tolist()):
        both = set(pairs[k]) <= set(out)
        held.append(trial(f"double knock-outs, {'both measured' if both else 'others'}", *((g, 0.0) for g in pairs[k])))
    sites = [edge for edge in network.edges if edge in listed.edges]
    for k in sorted(rng.permutation(len(sites))[: plan["variants"]].tolist()):
        source, target = sites[k].split("->")
        weaker = Treatment.parse(f"edge({sites[k]})*0.1@0:")
        held.append(Trial("weaker binding sites", weaker, (), (source, target), 0.1))
    for g in regulators:
        held.append(Trial("slower translation", Treatment.parse(f"translation({g})*0.3@0:"), ((g, 0.3),)))
    return training, held


class Measured(NamedTuple):
    """What baselines see: trials with their effects, (trial, gene); the control's co-expression; the network prior."""

    trials: tuple[Trial, ...]
    effects: np.ndarray
    correlation: np.ndarray
    network: Network


def mean_effect(seen: Measured, held: Sequence[Trial]) -> np.ndarray:
    """The mean measured effect for every trial."""
    return np.broadcast_to(seen.effects.mean(axis=0), (len(held), seen.effects.shape[1]))


def additive(seen: Measured, held: Sequence[Trial]) -> np.ndarray:
    """Scaled and summed effects of the same genes; 0 for genes that were not measured."""
    known = {
        (t.factors[0][0], t.factors[0][1] < 1): (t.factors[0][1], effect)
        for t, effect in zip(seen.trials, seen.effects, strict=True)
        if len(t.factors) == 1
    }

    def one(gene: str, f: float) -> np.ndarray:
        if (gene, f < 1) in known:
            at, effect = known[gene, f < 1]
            return effect * ((1 - f) / (1 - at) if f < 1 else math.log(f) / math.log(at))
        if (gene, f >= 1) in known:
            at, effect = known[gene, f >= 1]
            return -effect * (min(f - 1, 1.0) / (1 - at) if f > 1 else 1 - f)
        return np.zeros(seen.effects.shape[1])

    found = np.zeros((len(held), seen.effects.shape[1]))
    genes = seen.network.genes
    for row, t in zip(found, held, strict=True):
        for gene, f in t.factors:
            row += one(gene, f)
        if t.edge is not None:
            column = genes.index(t.edge[1])
            row[column] += one(t.edge[0], t.weakened)[column]
    return found


def ridge(seen: Measured, held: Sequence[Trial]) -> np.ndarray:
    """Linear in what the network hands down."""
    training = [i for i, t in enumerate(seen.trials) if t.factors]
    trials, effects = [seen.trials[i] for i in training], seen.effects[training]
    x = np.stack([_features(seen, t, seen.effects) for t in trials])
    scale = x.reshape(-1, x.shape[2]).std(axis=0) + 1e-12
    kept = np.stack([_others(seen, t) for t in trials])

    def solved(rows: np.ndarray, penalty: float) -> np.ndarray:
        a, b = (x[rows] / scale)[kept[rows]], effects[rows][kept[rows]]
        return np.linalg.solve(a.T @ a + penalty * np.eye(a.shape[1]), a.T @ b)

    def left_out(penalty: float) -> float:
        errors = []
        for i in range(len(trials)):
            rest = np.flatnonzero(np.arange(len(trials)) != i)
            errors.append(np.mean(((x[i] / scale) @ solved(rest, penalty) - effects[i])[kept[i]] ** 2))
        return float(np.mean(errors))

    weights = solved(np.arange(len(trials)), min(PENALTIES, key=left_out))
    return np.stack([(_features(seen, t, seen.effects) / scale) @ weights for t in held])


def _features(seen: Measured, t: Trial, effects: np.ndarray) -> np.ndarray:
    """(gene, feature)."""
    network, genes = seen.network, list(seen.network.genes)
    step = np.zeros((len(genes), len(genes)))
    for s, target, sign, sure in zip(network.source, network.target, network.sign, network.confidence, strict=True):
        step[genes.index(network.regulators[s]), target] = sign * sure
    dose = np.zeros(len(genes))
    for gene, f in t.factors:
        dose[genes.index(gene)] = f - 1 if f < 1 else 0.5 * math.log2(f)
    first = dose @ step
    if t.edge is not None:
        source, target = map(genes.index, t.edge)
        first[target] += (t.weakened - 1) * step[source, target]
    columns = [first, first @ step, first @ step @ step, dose @ seen.correlation, effects.mean(axis=0)]
    return np.stack([*columns, np.ones(len(genes))], axis=1)


def _others(seen: Measured, t: Trial) -> np.ndarray:
    return np.array([gene not in t.targets for gene in seen.network.genes])


def compared(plan: dict[str, Any], table: pd.DataFrame, score: str, fitted: str) -> pd.DataFrame:
    """The fitted model against every method, kind by kind: means, and the paired difference with its bootstrap
    interval over trials."""
    rng = np.random.default_rng(plan["seeds"][0])
    rows = []
    for kind, part in table.groupby("kind", sort=False):
        wide = part.pivot_table(index="treatment", columns="method", values=score)
        drawn = rng.integers(0, len(wide), (plan["bootstrap"], len(wide)))
        for method in wide.columns:
            apart = (wide[fitted] - wide[method]).to_numpy()
            low, high = np.quantile(apart[drawn].mean(axis=1), [0.025, 0.975])
            rows.append((kind, method, len(wide), wide[fitted].mean(), wide[method].mean(), apart.mean(), low, high))
    names = ["kind", "method", "trials", "model", "other", "difference", "low", "high"]
    return pd.DataFrame(rows, columns=names)

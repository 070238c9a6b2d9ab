"""Studies of model choices: which configuration predicts held-out conditions best, searched by Optuna.

A trial is a configuration: `build`, `cross_condition` (each condition fitted alone, every other one predicted from its
own first sample) and `judge`; its value is the model's skill,

    skill = 1 - RMSE / RMSE of the best baseline, mean over directions (roll-out),

so that 0 is what the best trivial prediction reaches. Optuna's own storage keeps every trial, and a study goes on where
it stopped.

The best of many trials flatters itself: report a score on conditions that the study has not seen.

Source: T. Akiba et al., KDD 2019, Optuna; J. Bergstra et al., NeurIPS 2011, its default sampler.
"""

import dataclasses
import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
import pandas as pd
from pydantic import ValidationError
from tqdm import tqdm

from pinnsim.data import Dataset
from pinnsim.errors import PinnsimError, Problems, first
from pinnsim.experiment import merged
from pinnsim.fit import FitPlan, cross_condition
from pinnsim.judge import judge
from pinnsim.model import ModelConfig
from pinnsim.network import Network
from pinnsim.prior import KineticPrior
from pinnsim.score import ROLL_OUT, ScoreTable
from pinnsim.tree import digest

Choice: TypeAlias = "list[Any] | tuple[Any, ...]"
_FIT = "fit"


@dataclasses.dataclass(frozen=True)
class Study:
    """What a study found.

    **Arguments:** `table`: a row per trial, best first: `trial`, a column per choice, `skill`, `outcome` (`done`, or
    why it failed); `best`: the choices of the best trial; `config`, `plan`: with these; `skill`: its held-out skill.
    """

    table: pd.DataFrame
    best: dict[str, Any]
    config: ModelConfig
    plan: FitPlan
    skill: float

    def __repr__(self) -> str:
        done = int((self.table["outcome"] == "done").sum())
        chosen = ", ".join(f"{name} = {value}" for name, value in self.best.items())
        return f"Study: {done} of {len(self.table)} trials done; best skill {self.skill:+.3f} with {chosen}"


def study(
    config: ModelConfig,
    choices: Mapping[str, Choice],
    network: Network,
    prior: KineticPrior,
    dataset: Dataset,
    plan: FitPlan,
    *,
    trials: int = 20,
    storage: str | Path | None = None,
    name: str = "study",
    seed: int = 0,
    progress: bool = True,
) -> Study:
    """Searches configurations for held-out skill.

    **Arguments:** `config`, `plan`: what is not chosen; `choices`: dotted name (`regulation.kind`, `likelihood.sd`,
    `fit.learning_rate`) -> a list of values, or a range `(low, high)`, of whole numbers where both are, or
    `(low, high, "log")`; `network`, `prior`, `dataset`: as for `cross_condition`; `trials`: how many there are in the
    end, earlier ones of the same storage included; `storage`: an SQLite file of Optuna's (in memory where not given);
    `name`: of the study in it; `seed`: of the sampler.

    **Raises** `E_EXTRA_MISSING` without Optuna, `E_CONFIG_VALUE` for choices that the configuration does not have,
    `E_USAGE`, `E_CKPT_MODEL` for a storage of another study of this name, `E_FIT` where every trial failed.
    """
    _check(config, choices, plan, trials)
    import optuna

    identity = _identity(config, choices, network, prior, dataset, plan)
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        found = optuna.create_study(
            study_name=name,
            storage=None if storage is None else f"sqlite:///{Path(storage)}",
            # Resumed trials must not repeat what was drawn before.
            sampler=optuna.samplers.TPESampler(seed=seed),
            direction="maximize",
            load_if_exists=True,
        )
        if found.user_attrs.setdefault("problem", identity) != identity:
            raise PinnsimError.of(
                "E_CKPT_MODEL",
                f"The storage holds another study called '{name}' (its data, choices or plan differ); give another "
                "name or file.",
            )
        found.set_user_attr("problem", identity)
        done = len([t for t in found.trials if t.state.is_finished()])
        found.sampler = optuna.samplers.TPESampler(seed=seed + done)

        def value(trial: Any) -> float:
            chosen = {key: _suggest(trial, key, choice) for key, choice in choices.items()}
            try:
                table = _judged(*_with(config, plan, chosen), network, prior, dataset)
            except PinnsimError as error:
                trial.set_user_attr("failure", str(error))
                raise optuna.TrialPruned(str(error)) from error
            skills = [row.skill for row in table.rows if row.kind == "model" and row.mode == ROLL_OUT]
            return float(np.mean(skills))

        with tqdm(total=max(trials - done, 0), desc="trials", disable=None if progress else True) as bar:

            def count(*_: Any) -> None:
                bar.update()

            found.optimize(value, n_trials=max(trials - done, 0), callbacks=[count])
    finally:
        optuna.logging.set_verbosity(before)
    return _collected(found.trials, list(choices), config, plan)


def _collected(trials: Sequence[Any], names: list[str], config: ModelConfig, plan: FitPlan) -> Study:
    rows = []
    for trial in trials:
        failure = trial.user_attrs.get("failure", trial.state.name.lower())
        good = trial.value is not None and np.isfinite(trial.value)
        skill = float(trial.value) if good else float("nan")
        rows.append((trial.number, *(trial.params.get(n) for n in names), skill, "done" if good else failure))
    table = pd.DataFrame(rows, columns=["trial", *names, "skill", "outcome"])
    table = table.sort_values("skill", ascending=False, kind="stable", na_position="last").reset_index(drop=True)
    if not (table["outcome"] == "done").any():
        why = first(dict.fromkeys(table["outcome"].astype(str)), 1)
        raise PinnsimError.of("E_FIT", f"None of {len(table)} trials has a skill ({why}); narrow the choices.")
    kept = next(t for t in trials if t.number == int(table["trial"].iloc[0]))
    best = {name: kept.params[name] for name in names}
    return Study(table, best, *_with(config, plan, best), float(table["skill"].iloc[0]))


def _judged(config: ModelConfig, plan: FitPlan, network: Network, prior: KineticPrior, dataset: Dataset) -> ScoreTable:
    return judge(cross_condition(config, network, prior, dataset, plan, progress=False), dataset)


def _suggest(trial: Any, name: str, choice: Choice) -> Any:
    if isinstance(choice, list):
        return trial.suggest_categorical(name, choice)
    low, high, *scale = choice
    draw = trial.suggest_int if isinstance(low, int) and isinstance(high, int) else trial.suggest_float
    return draw(name, low, high, log=bool(scale))


def _with(config: ModelConfig, plan: FitPlan, chosen: Mapping[str, Any]) -> tuple[ModelConfig, FitPlan]:
    """Configuration and plan with these choices. **Raises** pydantic's `ValidationError`."""
    model: dict[str, Any] = config.model_dump()
    fitting: dict[str, Any] = {}
    for name, value in chosen.items():
        *sections, key = name.split(".")
        if sections == [_FIT]:
            fitting[key] = value
            continue
        change: dict[str, Any] = {key: value}
        for section in reversed(sections):
            change = {section: change}
        model = merged(model, change)
    return ModelConfig.model_validate(model), FitPlan.model_validate({**plan.model_dump(), **fitting})


def _check(config: ModelConfig, choices: Mapping[str, Choice], plan: FitPlan, trials: int) -> None:
    with Problems() as problems:
        if importlib.util.find_spec("optuna") is None:
            problems.add(
                "E_EXTRA_MISSING", "study needs the package optuna; install it with pip install 'pinnsim[tune]'."
            )
        if trials < 1 or not choices:
            problems.add("E_USAGE", "A study needs a choice and a trial; give one or more of each.")
        for name, choice in choices.items():
            if not choice or (isinstance(choice, tuple) and not _is_range(choice)):
                problems.add(
                    "E_USAGE", f"Choice '{name}' is no list of values and no range (low, high) or (low, high, 'log')."
                )
                continue
            for value in choice if isinstance(choice, list) else choice[:2]:
                try:
                    _with(config, plan, {name: value})
                except ValidationError as error:
                    why = error.errors()[0]["msg"]
                    problems.add("E_CONFIG_VALUE", f"Choice '{name}' = {value!r} is not possible: {why}.")


def _is_range(choice: tuple[Any, ...]) -> bool:
    numbers = len(choice) in (2, 3) and all(isinstance(end, int | float) for end in choice[:2])
    scale = len(choice) == 2 or (choice[2:] == ("log",) and numbers and choice[0] > 0)
    return bool(numbers and scale and choice[0] < choice[1])


def _identity(
    config: ModelConfig,
    choices: Mapping[str, Choice],
    network: Network,
    prior: KineticPrior,
    dataset: Dataset,
    plan: FitPlan,
) -> str:
    """What a study is about: equal exactly when its trials may be compared."""
    arrays = {
        "values": jnp.asarray(np.nan_to_num(np.asarray(dataset.values))),
        "times": jnp.asarray(np.nan_to_num(np.asarray(dataset.times))),
        "edges": jnp.asarray(np.stack([np.asarray(network.source), np.asarray(network.target)])),
        "rates": jnp.asarray(prior.rate.median),
    }
    words = [config.model_dump_json(), plan.model_dump_json(), json.dumps(dict(choices), sort_keys=True, default=str)]
    return hashlib.sha256("\n".join([*words, *network.genes, digest(arrays)]).encode()).hexdigest()

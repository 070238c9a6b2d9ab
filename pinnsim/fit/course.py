"""The course of a fit: the objective of every lane after every chunk of steps, split into what the data and what the
prior cost there. Kept in checkpoints, so that a fit that goes on tells all of its course."""

import json
from typing import Any

import equinox as eqx
import numpy as np
import pandas as pd
from jaxtyping import PyTree

from pinnsim.fit.objective import prior_terms
from pinnsim.fit.optimise import Lanes, Progress, Stage, with_parameters
from pinnsim.model import CellModel

PARTS = ("kinetics", "network", "hidden", "observation", "residual")


class Course:
    """Notes of a fit: `note` after every chunk, `frame` in the end.

    `objective` is the lowest that a lane has seen in its stage, in nats; `data` what is left of it without the prior's
    parts, so that in collocation it is the misfit to smoothed courses, and the price of gates is in it. A stage of
    which the data change has objectives that do not compare, and is told by its last values, without parts.
    """

    def __init__(self) -> None:
        self._rows: dict[str, list[dict[str, Any]]] = {}

    def note(self, stage: Stage, lanes: Lanes, steps: int, progress: Progress) -> None:
        """After `steps` steps of a stage on these lanes."""
        whole = stage.part is None
        row = {"step": steps, "objective": np.asarray(progress.best_value if whole else progress.value).tolist()}
        if whole and isinstance(lanes.models, CellModel):
            costs = _prior_costs(with_parameters(lanes, progress.best), lanes.priors)
            row |= {name: np.asarray(costs[name]).tolist() for name in PARTS}
        self._rows.setdefault(stage.name, []).append(row)

    def text(self, stage: str) -> str:
        """The notes of a stage, for its checkpoint."""
        return json.dumps(self._rows.get(stage, []))

    def recall(self, stage: str, text: str) -> None:
        """Notes of a stage from its checkpoint."""
        self._rows[stage] = json.loads(text)

    def frame(self, group: np.ndarray, start: np.ndarray) -> pd.DataFrame:
        """A row per chunk and lane: `stage`, `step` (of the whole fit), `group`, `start`, `objective`, and, where they
        are known, `data` and the prior's parts."""
        tables, before = [], 0
        for stage, rows in self._rows.items():
            for row in rows:
                values = {name: value for name, value in row.items() if name != "step"}
                if set(PARTS) <= set(values):
                    values["data"] = np.subtract(values["objective"], np.sum([values[name] for name in PARTS], axis=0))
                head = {"stage": stage, "step": before + row["step"], "group": group, "start": start}
                tables.append(pd.DataFrame({**head, **values}))
            before += rows[-1]["step"] if rows else 0
        columns = ["stage", "step", "group", "start", "objective", "data", *PARTS]
        return (
            pd.concat(tables, ignore_index=True).reindex(columns=columns) if tables else pd.DataFrame(columns=columns)
        )


@eqx.filter_jit
def _prior_costs(models: PyTree, priors: PyTree) -> dict[str, Any]:
    return eqx.filter_vmap(prior_terms)(models, priors)

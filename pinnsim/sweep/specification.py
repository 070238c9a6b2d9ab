"""What a campaign is, as a file or in Python: a model, what is fixed, what is varied, and what is kept of every point.

Axes with values of their own (`values`, `linear`, `log`) form a grid, the last one fastest. Axes that are sampled
(`latin`, `sobol`) are sampled together, `samples` points in all their dimensions; every sample meets every point of the
grid. A name is `dose`, `duration`, `treatment`, `member` (of an ensemble), or that of a number of the resolved model
(`regulation/strength`, `regulation/strength[0]`; see `pinnsim.landscape.parameter`).

Sources: M. D. McKay, R. J. Beckman, W. J. Conover, Technometrics 21:239 (1979), for Latin hypercubes; A. B. Owen,
J. Complexity 14:466 (1998), for scrambled Sobol points.
"""

import hashlib
import json
import math
import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Range = tuple[float, float, Annotated[int, Field(ge=1, le=100_000_000)]]
Span = tuple[float, float]
Record = Literal["end", "trajectory", "readings", "summary", "fate", "verdict", "landscape"]

QUANTITIES = ("dose", "duration", "treatment", "member")
_LEAF = re.compile(r"(?P<leaf>[^\[\]]+)(?:\[(?P<entry>\d+)\])?")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Axis(_Section):
    """One thing that varies.

    **Arguments:** `name`: see above; exactly one of `values` (numbers; texts for `treatment`; may be left out for
    `member`, meaning all), `linear` and `log` (lowest, highest, points), `latin` and `sobol` (lowest, highest);
    `scale`: of sampled axes, linear or log.
    """

    name: str
    values: tuple[float | str, ...] | None = None
    linear: Range | None = None
    log: Range | None = None
    latin: Span | None = None
    sobol: Span | None = None
    scale: Literal["linear", "log"] = "linear"

    @property
    def kind(self) -> str:
        """Which of the forms it has."""
        forms = ("linear", "log", "latin", "sobol")
        return next((form for form in forms if getattr(self, form) is not None), "values")

    @property
    def sampled(self) -> bool:
        """Whether it is one dimension of the common sample."""
        return self.kind in ("latin", "sobol")

    @property
    def knob(self) -> tuple[str, int | None]:
        """Leaf and entry of a model's number."""
        match = _LEAF.fullmatch(self.name)
        leaf, entry = (self.name, None) if match is None else match.group("leaf", "entry")
        return str(leaf), None if entry is None else int(entry)

    @model_validator(mode="after")
    def _sound(self) -> "Axis":
        given = [f for f in ("values", "linear", "log", "latin", "sobol") if getattr(self, f) is not None]
        if len(given) != 1 and not (self.name == "member" and not given):
            told = " and ".join(given) or "none"
            raise ValueError(f"axis '{self.name}' needs one of values, linear, log, latin and sobol, but has {told}")
        if self.values == ():
            raise ValueError(f"axis '{self.name}' has no values")
        texts = [isinstance(value, str) for value in self.values or ()]
        if self.name == "treatment" and (given != ["values"] or not all(texts)):
            raise ValueError('axis \'treatment\' needs values = ["none", "GATA1=0", ...]')
        if self.name != "treatment" and any(texts):
            raise ValueError(f"axis '{self.name}' needs numbers, but has texts")
        if self.name == "member" and given and given != ["values"]:
            raise ValueError("axis 'member' needs values = [0, 1, ...], or none for all members")
        for form in given:
            span = getattr(self, form)
            if form == "values":
                continue
            if not (math.isfinite(span[0]) and math.isfinite(span[1]) and span[0] <= span[1]):
                raise ValueError(f"axis '{self.name}': {form} needs lowest <= highest, both finite")
            if (form == "log" or (self.sampled and self.scale == "log")) and span[0] <= 0:
                raise ValueError(f"axis '{self.name}' is logarithmic: its lowest value must be > 0")
        if self.name in ("dose", "duration") and any(
            not isinstance(value, str) and not value >= 0 for value in (self.values or self._span()[:1])
        ):
            raise ValueError(f"axis '{self.name}' needs values >= 0")
        return self

    def _span(self) -> tuple[float | int, ...]:
        return tuple(getattr(self, self.kind) or ())


class Specification(_Section):
    """A campaign.

    **Arguments:**

    - `model`: a name on the shelf, a bundle's folder, or the file of a reaction system.
    - `times`: when states are reported, in the model's unit; the last is the end.
    - `axes`: what varies; `samples`: points of the sampled axes; `seed`: of samples and of every point's random key.
    - `treatment`: what acts all the time; `push`: a treatment at dose 1 without a stop, multiplied by `dose` and taken
      away after `duration`.
    - `initial`: `"rest"` (the steady state under what acts since ever), `"start"` (the model's default amounts), or
      amounts by species, the others at their default.
    - `record`: `end` states, `trajectory` at all `times`, `readings` of the instrument, `summary` (extremes and means
      over `times`, and how far the cell went from where it began), `fate` (which attractor of the unvaried model the
      end is near, and whether that is another than at the start), `landscape` (the attractors of the point's own model
      under its treatment, at most `valleys` of them), `verdict` (whether the end, let go, returns to the valley that
      the cell came from or goes to another one of its own landscape).
    - `threshold`: largest distance (log abundance) from an attractor that counts as settled; `starts`: of the search
      for attractors, of the whole campaign and of every point; `settle`: how long lanes of a point's search are
      followed (default: 4 times 12 relaxation times of the unvaried model's slowest attractor).
    - `method`: rate equations (`ode`), or `cells` cells drawn at every point by `ssa`, `langevin` (in steps of `dt`) or
      `tau-leaping`, with `size` molecules per unit of abundance; then `end` and `trajectory` are means, with standard
      deviations beside them, and `fate` is the share of cells near each attractor.
    - `rtol`, `atol`, `max_steps`: of the solver of rate equations; `stiff`: whether it is the implicit one, default by
      a look at points.
    - `block`: points that one compiled call works on; `chunk`: points written at a time. Numbers depend on neither.
    """

    model: str
    times: Annotated[tuple[float, ...], Field(min_length=2)]
    axes: Annotated[tuple[Axis, ...], Field(min_length=1)]
    samples: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    treatment: str = "none"
    push: str = ""
    dose: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    duration: Annotated[float, Field(ge=0)] = math.inf
    initial: Literal["rest", "start"] | dict[str, float] = "rest"
    record: Annotated[tuple[Record, ...], Field(min_length=1)] = ("end",)
    method: Literal["ode", "ssa", "langevin", "tau-leaping"] = "ode"
    size: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 100.0
    cells: Annotated[int, Field(ge=2, le=1_000_000)] = 100
    dt: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.01
    threshold: Annotated[float, Field(gt=0)] = 0.1
    starts: Annotated[int, Field(ge=1, le=100_000)] = 32
    valleys: Annotated[int, Field(ge=1, le=64)] = 8
    settle: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    rtol: Annotated[float, Field(gt=0, lt=1)] = 1e-6
    atol: Annotated[float, Field(gt=0)] = 1e-9
    max_steps: Annotated[int, Field(ge=1)] = 4096
    stiff: bool | None = None
    block: Annotated[int, Field(ge=1, le=1_000_000)] = 256
    chunk: Annotated[int, Field(ge=1, le=100_000_000)] = 4096

    @model_validator(mode="after")
    def _sound(self) -> "Specification":
        names = [axis.name for axis in self.axes]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"axes are named twice: {', '.join(twice)}")
        kinds = {axis.kind for axis in self.axes if axis.sampled}
        if len(kinds) > 1:
            raise ValueError("sampled axes are sampled together: use latin for all of them, or sobol")
        if bool(kinds) != bool(self.samples):
            raise ValueError("'samples' goes with latin or sobol axes: give both, or neither")
        if any(b <= a for a, b in zip(self.times, self.times[1:], strict=False)):
            raise ValueError("'times' must be strictly increasing")
        if not self.push and ({"dose", "duration"} & set(names) or "dose" in self.model_fields_set):
            raise ValueError("dose and duration are those of 'push', which is not given: push = \"drive(GENE)=1\"")
        flows = [name for name in ("readings", "summary", "verdict", "landscape") if name in self.record]
        if self.method != "ode" and flows:
            told = f"{flows[0]} is" if flows[0] != "readings" else "readings are"
            raise ValueError(f"{told} of rate equations: record 'end', 'trajectory' or 'fate', or use method = \"ode\"")
        idle = {"size", "cells", "dt"} & self.model_fields_set
        if idle - ({"size", "cells", "dt"} if self.method == "langevin" else {"size", "cells"}) or (
            self.method == "ode" and idle
        ):
            raise ValueError(f'method "{self.method}" has no use for {", ".join(sorted(idle))}')
        if "treatment" in names and self.treatment != "none":
            raise ValueError("'treatment' is both fixed and an axis; write what always acts into each of its values")
        return self

    def digest(self) -> str:
        """sha256 of what it says about numbers: all but how they are cut for writing, and where the model lies."""
        # Without defaults: settings that are new in a later version change nothing that was begun before it.
        given = self.model_dump(mode="json", exclude={"chunk", "model"}, exclude_defaults=True)
        text = json.dumps(given, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

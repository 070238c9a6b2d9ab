"""Coded, collected errors: the one way this library says that an input is wrong.

A user who feeds a bad table wants to hear everything that is wrong with it at once, where it is, and what to do next.
So a check never raises by itself: it adds a `Problem` (a stable code and a message) to a `Problems` collector, and
the collector raises ONE `PinnsimError` that carries them all. Codes are the stable part (tests, the command line's
exit status and users' scripts rely on them); messages may improve.

House form of a message: the object, the place, the count, the first three offenders, the remedy, for example
`E_DATA_NEGATIVE: 17 negative values in layer 'counts' (first: cell AAAC, gene GATA1 = -2). Counts must be >= 0; ...`.

Exit status: 2 usage or configuration, 3 data or disk, 4 no convergence; warnings (codes `W_...`) do not end a run and
have status 0.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

USAGE, DATA, SOLVER = 2, 3, 4

CODES: dict[str, tuple[int, str]] = {
    # data
    "E_DATA_NEGATIVE": (DATA, "negative values where abundances or counts are expected"),
    "E_DATA_NONFINITE": (DATA, "NaN or infinite values that were not declared missing"),
    "E_DATA_EMPTY": (DATA, "nothing is left to work on"),
    "E_DATA_FILE": (DATA, "a data file is absent or cannot be read as a table"),
    "E_DATA_TYPE": (DATA, "values that should be numbers are not"),
    "E_DATA_SHAPE": (DATA, "arrays that belong together have different shapes"),
    "E_DATASET_UNKNOWN": (USAGE, "no embedded data set has this name"),
    "E_COLUMN_MISSING": (DATA, "a table lacks a column that was asked for"),
    "E_CONDITION_UNKNOWN": (USAGE, "no condition has this name"),
    "E_CONDITION_DUPLICATE": (DATA, "a condition or replicate is named twice"),
    "E_SAMPLE_UNMATCHED": (DATA, "sample table and expression matrix name different samples"),
    "E_SAMPLE_DUPLICATE": (DATA, "a sample is named twice"),
    "E_LAYER_MISSING": (DATA, "a named layer is absent from the data"),
    "E_SCALE_MISMATCH": (DATA, "the declared scale does not fit the values"),
    "E_SIZE": (DATA, "the declared size exceeds the memory limit"),
    "W_DATA_EMPTY": (0, "a condition without anything to match"),
    "W_LEVEL_LOW": (0, "readings far below the readout's offset make a fit poorly scaled"),
    "W_SCALE_RAW": (0, "values declared logarithmic look like raw counts"),
    "W_CELLS_FEW": (0, "a population of so few cells that its spread is hardly seen"),
    "W_GENE_CONSTANT": (0, "a gene never changes: its rates cannot be identified"),
    # genes and networks
    "E_GENE_DUPLICATE": (DATA, "a gene occurs more than once"),
    "E_GENE_UNMATCHED": (DATA, "genes of one object are absent from another"),
    "E_GENE_UNKNOWN": (USAGE, "no gene has this name"),
    "E_GENE_CONSTANT": (DATA, "a gene that is a target of the fit never changes"),
    "E_NETWORK_EMPTY": (DATA, "a network without edges or a model without species"),
    "E_NETWORK_SIGN": (DATA, "the sign of an edge cannot be read"),
    "E_NETWORK_EDGE": (DATA, "an edge is duplicated, contradictory or has a bad confidence"),
    # time
    "E_TIME_ORDER": (DATA, "times are not strictly increasing or entries are repeated"),
    "E_TIME_FEW": (DATA, "too few time points to identify dynamics"),
    "E_TIME_UNIT": (DATA, "times are not plain numbers in one known unit"),
    "E_TIME_RANGE": (USAGE, "a time interval is empty or lies outside the data"),
    "E_SPLIT_LEAK": (USAGE, "training and test data share moments of a condition"),
    # prior knowledge
    "E_PRIOR_MISSING": (USAGE, "no half-life was given and none may be assumed"),
    "E_PRIOR_VALUE": (DATA, "a half-life or its spread is not a positive number"),
    # perturbations
    "E_PERTURB_TEXT": (USAGE, "the text of a perturbation cannot be read"),
    "E_PERTURB_GENE": (USAGE, "a perturbation names something the model does not have"),
    "E_PERTURB_CONFLICT": (USAGE, "perturbations contradict each other"),
    "E_PERTURB_TIME": (USAGE, "a perturbation lies outside the simulated time span"),
    "E_PERTURB_VALUE": (USAGE, "a perturbation has an impossible value"),
    "E_PERTURB_LAYER": (USAGE, "a perturbation changes a rate that the model does not have for this gene"),
    "E_PERTURB_INPUT": (USAGE, "a perturbation names an input that the model does not have"),
    "E_PERTURB_EDGE": (USAGE, "a perturbation names an edge that the model does not have"),
    "E_PERTURB_REACTION": (USAGE, "a perturbation names a reaction that the model does not have"),
    "E_DOSE_NEGATIVE": (USAGE, "a dose is negative or not a number"),
    # configuration
    "E_USAGE": (USAGE, "an argument has an impossible value or combination"),
    "E_CONFIG_KEY": (USAGE, "unknown configuration key"),
    "E_CONFIG_VALUE": (USAGE, "a configuration value has the wrong type or range"),
    "E_CONFIG_FILE": (USAGE, "a configuration file is absent or is not valid TOML"),
    "E_CONFIG_CYCLE": (USAGE, "configuration references form a cycle"),
    "E_RULE_CYCLE": (USAGE, "assignment rules form a cycle"),
    "E_BOUNDS": (USAGE, "bounds are inverted, not positive on a log scale, or exclude the nominal value"),
    "E_INIT": (USAGE, "infeasible initial state"),
    "E_MODEL_UNKNOWN": (USAGE, "no model on the shelf has this name"),
    "E_EXPERIMENT_UNKNOWN": (USAGE, "no experiment has this name"),
    "E_EXTRA_MISSING": (USAGE, "an optional dependency is not installed"),
    # stored things
    "E_CKPT_VERSION": (DATA, "stored by another schema version"),
    "E_CKPT_MODEL": (DATA, "stored parameters belong to another model"),
    "E_CKPT_CORRUPT": (DATA, "a stored file is damaged or incomplete"),
    "E_CKPT_MISSING": (DATA, "a stored file is absent"),
    "E_PRECISION": (DATA, "stored and session precision differ"),
    "E_DISK": (DATA, "the disk is full or the folder cannot be written"),
    "E_LOCKED": (DATA, "another runner holds this folder"),
    "E_SBML_UNSUPPORTED": (DATA, "an SBML feature that is not supported"),
    "E_SBML_INVALID": (DATA, "an invalid SBML document"),
    "E_PETAB_UNSUPPORTED": (DATA, "a PEtab feature that is not supported"),
    "E_PETAB_INVALID": (DATA, "an invalid PEtab problem"),
    "E_FORMULA": (DATA, "a formula uses something outside the allowed grammar"),
    # solving
    "W_BASIN_EMPTY": (0, "a known attractor to which no state of the sample flows"),
    "W_LATENT_COLLAPSED": (0, "embeddings of a latent model that no longer tell cells apart"),
    "W_READINGS_MISSING": (0, "cells judged by less than half of a model's readings"),
    "W_JACOBIAN_SINGULAR": (0, "a fixed point whose Jacobian has an eigenvalue of zero: its stability is open"),
    "W_SETTLES_NOWHERE": (0, "states that flow to no known attractor in the time they are followed"),
    "E_SOLVER": (SOLVER, "the solver stopped before the end"),
    "E_FIT": (SOLVER, "no start of the fit converged"),
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: a code of `CODES` and a message in the house form (without the code)."""

    code: str
    message: str

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise ValueError(f"'{self.code}' is not a registered code{did_you_mean(self.code, CODES)}")

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class PinnsimError(Exception):
    """An input, file or run was refused; `problems` lists every reason found, `str()` gives one line per reason."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        if not self.problems:
            raise ValueError("a PinnsimError needs at least one problem")
        super().__init__(self.problems)

    @classmethod
    def of(cls, code: str, message: str) -> PinnsimError:
        """The error made of one problem."""
        return cls((Problem(code, message),))

    @property
    def codes(self) -> tuple[str, ...]:
        """The code of every problem, in the order found."""
        return tuple(problem.code for problem in self.problems)

    @property
    def exit_status(self) -> int:
        """Exit status of the command line: that of the earliest stage at fault (usage before data before solver)."""
        return min(CODES[code][0] for code in self.codes) or USAGE

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class PinnsimWarning(UserWarning):
    """Something the user should know that does not stop the work; its text starts with a `W_` code."""


def warn(code: str, message: str, stacklevel: int = 3) -> None:
    """Issue a `PinnsimWarning` reading `CODE: message`, attributed to the caller of the function that calls this."""
    warnings.warn(PinnsimWarning(str(Problem(code, message))), stacklevel=stacklevel)


@dataclass
class Problems:
    """Collects problems so that all of one read are raised together; as a context manager it raises on leaving.

    An exception already on its way out of the block is not replaced, except a `PinnsimError`, whose problems join
    those collected.
    """

    found: list[Problem] = field(default_factory=list)

    def add(self, code: str, message: str) -> None:
        """Note one problem; a repeated identical one is kept once."""
        problem = Problem(code, message)
        if problem not in self.found:
            self.found.append(problem)

    def absorb(self, error: PinnsimError) -> None:
        """Note every problem of an error that was caught."""
        for problem in error.problems:
            self.add(problem.code, problem.message)

    def attempt(self, work: Callable[[], Any]) -> Any:
        """What `work()` gives, or `None` with its problems noted beside the others."""
        try:
            return work()
        except PinnsimError as error:
            self.absorb(error)
            return None

    def raise_any(self) -> None:
        """Raise one `PinnsimError` with everything noted so far, if there is anything."""
        if self.found:
            raise PinnsimError(self.found)

    @property
    def codes(self) -> frozenset[str]:
        """The codes noted so far."""
        return frozenset(problem.code for problem in self.found)

    def __bool__(self) -> bool:
        return bool(self.found)

    def __enter__(self) -> Problems:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, PinnsimError):
            self.absorb(error)
            raise PinnsimError(self.found) from error
        if error is None:
            self.raise_any()


def closest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like `name` (differences of case count least), or None if nothing is near."""
    by_lower: dict[str, str] = {}
    for candidate in candidates:
        by_lower.setdefault(str(candidate).lower(), str(candidate))
    near = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[near[0]] if near else None


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """` (did you mean 'x'?)` when a candidate is near `name`, else the empty text."""
    near = closest(name, candidates)
    return f" (did you mean '{near}'?)" if near is not None else ""


def first(items: Iterable[object], n: int = 3) -> str:
    """The first `n` items joined by commas and, when there are more, how many were left out: `a, b, c … (+4)`."""
    every = [str(item) for item in items]
    shown = ", ".join(every[:n])
    return shown if len(every) <= n else f"{shown} … (+{len(every) - n})"

"""Honest scores: baselines, splits without leaks, RMSE and skill with intervals, coverage, controls, one table."""

from pinnsim.score.arm import Arm, arms
from pinnsim.score.baselines import (
    AR1,
    AbstractBaseline,
    Copy,
    GeneRelaxation,
    MeanOfArms,
    Persistence,
    Predict,
    Relaxation,
)
from pinnsim.score.compare import ONE_STEP, ROLL_OUT, Comparison, compare, evaluate, one_step, roll_out, stacked
from pinnsim.score.controls import ControlTest, control_test
from pinnsim.score.coverage import Coverage, coverage_of_draws, coverage_of_normal
from pinnsim.score.leave_out import (
    SnapshotSplit,
    by_drug,
    by_perturbation,
    by_time_point,
    check_leave_out,
    check_no_neighbours,
    check_no_shared_cells,
    check_no_shared_population,
    touched,
)
from pinnsim.score.linear import LinearODE
from pinnsim.score.metrics import (
    Interval,
    difference_interval,
    r_change,
    rmse,
    rmse_by_time,
    rmse_interval,
    skill,
    skill_interval,
)
from pinnsim.score.splits import Split, by_arm, by_condition, by_time_blocks, check_no_leak
from pinnsim.score.standard import baseline_entries, standard_baselines
from pinnsim.score.table import Entry, ScoreRow, ScoreTable, score_table

__all__ = [
    "AR1",
    "ONE_STEP",
    "ROLL_OUT",
    "AbstractBaseline",
    "Arm",
    "Comparison",
    "ControlTest",
    "Copy",
    "Coverage",
    "Entry",
    "GeneRelaxation",
    "Interval",
    "LinearODE",
    "MeanOfArms",
    "Persistence",
    "Predict",
    "Relaxation",
    "ScoreRow",
    "ScoreTable",
    "SnapshotSplit",
    "Split",
    "arms",
    "baseline_entries",
    "by_arm",
    "by_condition",
    "by_drug",
    "by_perturbation",
    "by_time_blocks",
    "by_time_point",
    "check_leave_out",
    "check_no_leak",
    "check_no_neighbours",
    "check_no_shared_cells",
    "check_no_shared_population",
    "compare",
    "control_test",
    "coverage_of_draws",
    "coverage_of_normal",
    "difference_interval",
    "evaluate",
    "one_step",
    "r_change",
    "rmse",
    "rmse_by_time",
    "rmse_interval",
    "roll_out",
    "score_table",
    "skill",
    "skill_interval",
    "stacked",
    "standard_baselines",
    "touched",
]

"""Campaigns: many points of one model, on one machine or many, in one store that survives anything.

`specification` says what, `points` and `program` are the arithmetic, `store` keeps it, engines work it out, `drive`
brings them together.
"""

from pinnsim.sweep.build import Campaign, campaign
from pinnsim.sweep.drive import Report, drive, failures_by_reason
from pinnsim.sweep.engine import AbstractEngine, AbstractWork, Done, InProcess, Job, Lost
from pinnsim.sweep.merge import merge
from pinnsim.sweep.plan import Plan, plan, size_text
from pinnsim.sweep.points import Points
from pinnsim.sweep.processes import Processes
from pinnsim.sweep.specification import Axis, Specification
from pinnsim.sweep.store import QUARANTINED, Layout, Store, Variable
from pinnsim.sweep.worker import serve

__all__ = [
    "QUARANTINED",
    "AbstractEngine",
    "AbstractWork",
    "Axis",
    "Campaign",
    "Done",
    "InProcess",
    "Job",
    "Layout",
    "Lost",
    "Plan",
    "Points",
    "Processes",
    "Report",
    "Specification",
    "Store",
    "Variable",
    "campaign",
    "drive",
    "failures_by_reason",
    "merge",
    "plan",
    "serve",
    "size_text",
]

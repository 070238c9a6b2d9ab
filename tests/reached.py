"""Which lines of the package the tests reach, counted by instructions put into its code; `make test` asks for it.

A tracer (coverage.py) is told of every call of every package: under Python 3.11 JAX then traces at half its speed.
"""

import io
import json
from typing import Any

import pytest

_ANSWERS = ".pytest_cache/reached"
_NOT_COUNTED = ["if TYPE_CHECKING:", r"@(abc\.)?abstractmethod", r"^\s*\.\.\.$"]


class Reached:
    """Counts in every test process; the first process adds them up and shows them."""

    def __init__(self, config: pytest.Config):
        self.folder = config.rootpath / _ANSWERS
        self.worker = getattr(config, "workerinput", {}).get("workerid", "")
        self.counting: Any = None
        if not self.worker:
            self.folder.mkdir(parents=True, exist_ok=True)
            for old in self.folder.glob("*.json"):
                old.unlink()

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Watches imports, after whoever else changes them."""
        import slipcover

        root = session.config.rootpath
        source = str(root / "pinnsim")
        self.counting = slipcover.Slipcover(source=[source], exclude_also=_NOT_COUNTED)
        matcher = slipcover.FileMatcher(sources=[source])
        slipcover.ImportManager(self.counting, matcher).__enter__()

    def pytest_sessionfinish(self) -> None:
        """Leaves what was counted for the first process."""
        answer = self.folder / f"{self.worker or 'main'}.json"
        answer.write_text(json.dumps(self.counting.get_coverage()))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Files that are not wholly reached, and the sum."""
        import slipcover

        first, *others = [json.loads(path.read_text()) for path in sorted(self.folder.glob("*.json"))]
        for other in others:
            slipcover.merge_coverage(first, other)
        terminalreporter.section("lines of the package that tests reach")
        table = io.StringIO()
        slipcover.print_coverage(first, outfile=table, skip_covered=True)
        terminalreporter.write_line(table.getvalue())

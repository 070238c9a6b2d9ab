"""The command line: `pinnsim VERB ...`. One file per verb; `app` puts them together and says what goes wrong.

Nothing heavy is imported until a verb runs, so that `pinnsim --help` answers at once.
"""

from pinnsim.cli.app import main, run

__all__ = ["main", "run"]

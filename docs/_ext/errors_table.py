"""A table of all stable codes, from `pinnsim.errors.CODES`."""

from pinnsim.errors import CODES


def page() -> str:
    """Markdown: code, exit status of the command line, meaning."""
    rows = [f"| `{code}` | {status or 'warning'} | {told} |" for code, (status, told) in sorted(CODES.items())]
    return "\n".join(["| code | exit status | means |", "|---|---|---|", *rows])

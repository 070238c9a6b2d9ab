"""The parsing of a stranger's model in a process of its own: limited memory and time, plain data out.

    python -m pinnsim.formats.sbml.child KIND NODES MEMORY SECONDS < model > data.json

KIND is `sbml` or `antimony`. What libSBML or Antimony may do wrong with a hostile file ends this process and no other.
"""

import json
import os
import sys

from pinnsim.formats.apart import bounded


def main(arguments: list[str]) -> None:
    """Reads a model on standard input and writes its plain data on standard output."""
    kind, nodes, memory, seconds = arguments[0], *(int(value) for value in arguments[1:4])
    bounded(memory, seconds)
    from pinnsim.formats.sbml.parse import parse_sbml

    text = sys.stdin.buffer.read().decode("utf-8-sig")
    # Libraries that print would spoil the answer.
    answer = os.dup(1)
    os.dup2(2, 1)
    if kind == "antimony":
        from pinnsim.formats.antimony_parse import antimony_to_sbml

        found, problems = antimony_to_sbml(text)
        data = {"problems": problems, "model": None} if found is None else parse_sbml(found, nodes) | {"sbml": found}
    else:
        data = parse_sbml(text, nodes)
    with os.fdopen(answer, "w", encoding="utf-8") as out:
        json.dump(data, out)


if __name__ == "__main__":
    main(sys.argv[1:])

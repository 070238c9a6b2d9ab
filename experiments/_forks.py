"""A process that has imported pinnsim and started nothing: it forks a driver of a campaign in no time, on request.

It reads lines `ENGINE WORKERS FOLDER`, forks a child that resumes the campaign there, and prints the child's number;
`wait PID` prints how it ended. A process in which JAX runs cannot be forked, so this is one of its own.
"""

import os
import sys
import traceback

from pinnsim import campaign, session


def serve() -> None:
    """Works until its input ends."""
    for line in sys.stdin:
        word, rest = line.strip().split(" ", 1)
        if word == "wait":
            print(os.waitpid(int(rest), 0)[1], flush=True)
            continue
        child = os.fork()
        if child == 0:
            os._exit(_drive(word, *rest.split(" ", 1)))
        print(child, flush=True)


def _drive(engine: str, workers: str, folder: str) -> int:
    try:
        # Its input is its parent's, which is not for it to read.
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        session.start()
        campaign.resume(folder, engine=engine, workers=int(workers))
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    serve()

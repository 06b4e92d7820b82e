"""`python -m tests.fuzz --minutes 10`: changed files, in turn to all readers; findings are kept."""

import argparse
import collections
import itertools
import secrets
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.cases import fuzzers, kept
from tests.fuzz.readers import READERS
from tests.fuzz.worker import Worker

_SECONDS = 2.0  # of a reader's turn: some are a hundred times faster than others


def main() -> int:
    """The number of findings, as the status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of the changes")
    parser.add_argument("--only", choices=READERS, action="append", help="one reader")
    parser.add_argument("--case", type=int, help="read this case alone, and keep it")
    parser.add_argument("--output", type=Path, default=Path("output/fuzz"), help="for findings")
    arguments = parser.parse_args()
    counts: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder, Worker() as worker:
        names = arguments.only or list(READERS)
        waiting = list(fuzzers(names, arguments.seed, Path(folder), worker))
        end = time.monotonic() + 60 * arguments.minutes
        print(f"seed {arguments.seed}, {arguments.minutes:g} minutes", flush=True)
        cases = {fuzzer.name: itertools.count(arguments.case or 0) for fuzzer in waiting}
        for fuzzer in itertools.cycle(waiting):
            turn = time.monotonic() + _SECONDS
            while time.monotonic() < min(turn, end):
                case = next(cases[fuzzer.name])
                outcome, finding = fuzzer.run(case)
                counts[f"{fuzzer.name}: {'read' if outcome.error is None else 'refused'}"] += 1
                if finding is not None:
                    counts["findings"] += 1
                    place = kept(finding, arguments.output, arguments.seed)
                    print(ascii(f"{place}: {finding.fault}"), flush=True)
                if arguments.case is not None:
                    print(outcome)
                    return int(finding is not None)
            if time.monotonic() > end:
                break
    for name, count in sorted(counts.items()):
        print(f"{count:7} {name}")
    return min(counts["findings"], 100)


if __name__ == "__main__":
    sys.exit(main())

"""What clients cost: `python -m benchmarks`. It measures mrlclient and its peers in one run, and writes the page.

A whole run makes an environment for each client first, under `benchmarks/.envs`, from the package index; then it takes
about ten minutes, and writes `docs/explanation/performance.md` and the plot beside it. With `--quick`, `--only` or
`--skip` the tables are printed, and the page stays as it is.
"""

from __future__ import annotations

import argparse
import sys
import time

from benchmarks import page
from benchmarks.bench import Bench
from benchmarks.clients import CONTENDERS
from benchmarks.parts import Part, bulk, cut, many, single, start, stream, where

PARTS: dict[str, Part] = {
    "bulk": bulk.PART,
    "one": single.PART,
    "many": many.PART,
    "stream": stream.PART,
    "cut": cut.PART,
    "start": start.PART,
    "where": where.PART,
}


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small calls, and only what is installed here")
    parser.add_argument("--rounds", type=int, help="rounds that count (default: 5, quick: 1)")
    parser.add_argument("--only", help=f"these parts, of {','.join(PARTS)}")
    parser.add_argument("--skip", default="", help=f"leave out these clients, of {','.join(CONTENDERS)}")
    options = parser.parse_args()
    parts = options.only.split(",") if options.only else list(PARTS)
    skip = options.skip.split(",") if options.skip else []
    for unknown in ({*parts} - {*PARTS}) | ({*skip} - {*CONTENDERS}):
        parser.error(f"there is no {unknown!r}")
    rounds = options.rounds or (1 if options.quick else 5)
    line = page.machine(" ".join(["python -m benchmarks", *sys.argv[1:]]))
    tables: dict[str, str] = {"machine": line}
    panels: dict[str, dict[str, float]] = {}
    print(line)
    with Bench(rounds, quick=options.quick, skip=skip) as bench:
        for name in parts:
            begun = time.monotonic()
            section = PARTS[name].run(bench)
            tables |= section.tables
            panels |= section.bars
            for place, text in section.tables.items():
                print(f"\n{place}\n\n{text}")
            print(f"# {name}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
        if bench.failed:
            sys.exit("A client failed; its error is above. The page stays as it was.")
        if not (options.quick or options.only or options.skip):
            page.write(tables, panels, bench.plotter())


if __name__ == "__main__":
    main()

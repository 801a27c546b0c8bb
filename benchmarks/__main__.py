"""``python -m benchmarks [NAME …]``: run all, or the named ones, and print their tables.

Exit code 1 where a number is beyond the bar that the project promises.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys

import benchmarks
from benchmarks.table import Table

#: Modules that the benchmarks share.
_NO_BENCHMARKS = ("__main__", "light_plane", "rollouts", "table")


def main(argv: list[str]) -> int:
    names = sorted(m.name for m in pkgutil.iter_modules(benchmarks.__path__) if m.name not in _NO_BENCHMARKS)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=benchmarks.__doc__)
    parser.add_argument("name", nargs="*", choices=[*names, []], help=", ".join(names))
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, to see that it runs")
    chosen = parser.parse_args(argv)
    beyond: list[str] = []
    for name in chosen.name or names:
        module = importlib.import_module(f"benchmarks.{name}")
        table: Table = module.run(quick=chosen.quick)
        print(f"\n{name}: {(module.__doc__ or '').splitlines()[0]}\n\n{table.render()}", flush=True)
        beyond += [f"{name}: {bar.what}" for bar in table.beyond]
    for sentence in beyond:
        print(f"BEYOND its bar: {sentence}", file=sys.stderr)
    return 1 if beyond else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

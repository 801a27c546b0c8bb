"""``python -m benchmarks [NAME …]``: run all, or the named ones, and print their tables."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys

import benchmarks
from benchmarks.table import Table


def main(argv: list[str]) -> int:
    names = sorted(m.name for m in pkgutil.iter_modules(benchmarks.__path__) if m.name not in ("__main__", "table"))
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=benchmarks.__doc__)
    parser.add_argument("name", nargs="*", choices=[*names, []], help=", ".join(names))
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, to see that it runs")
    chosen = parser.parse_args(argv)
    for name in chosen.name or names:
        module = importlib.import_module(f"benchmarks.{name}")
        table: Table = module.run(quick=chosen.quick)
        print(f"\n{name}: {(module.__doc__ or '').splitlines()[0]}\n\n{table.render()}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

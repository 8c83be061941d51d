# Copyright (c) sdd_mm contributors. All rights reserved.
"""Write what was measured into the metafiles, and the tables of the pages.

benchmarks/*.json have the accuracies of every suite. Those of configs that
were trained as they are become the Results of the metafiles. A table stands
between `<!-- table: KIND [DATA SET] -->` and `<!-- end of table -->`; nothing
else on a page is changed.
"""
import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--check', action='store_true', help='write nothing, only compare')
    parser.add_argument(
        '--root', type=Path, default=ROOT, help='another checkout')
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from benchmarks.pages import PageError, update
    try:
        stale = update(args.root, args.check)
    except PageError as error:
        sys.exit(f'ERROR: {error}')
    for name in stale:
        print(f'{name}: {"differs from results" if args.check else "written"}')
    return int(args.check and bool(stale))


if __name__ == '__main__':
    sys.exit(main())

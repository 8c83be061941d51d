# Copyright (c) sdd_mm contributors. All rights reserved.
"""The speed claims: one module per row, each runs the code that it measures.

A row's module has ``run(options) -> Result``.
"""
import importlib
import json
import time
from pathlib import Path

ROWS = ('step', 'loss', 'saved', 'sync', 'cache', 'overhead', 'methods',
        'checkpoint', 'growth')


def run_row(row: str, options, out: Path) -> dict:
    """Run a row, and write what it found as JSON and as a figure."""
    module = importlib.import_module(f'{__name__}.{row}')
    from .figures import draw
    start = time.time()
    found = module.run(options).as_dict(options)
    found['seconds'] = round(time.time() - start)
    out.mkdir(parents=True, exist_ok=True)
    path = out / f'{row}.json'
    path.write_text(json.dumps(found, indent=1) + '\n')
    draw(found, path.with_suffix('.png'))
    return found

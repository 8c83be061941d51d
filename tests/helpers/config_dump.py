# Copyright (c) sdd_mm contributors. All rights reserved.
"""What every shipped config means, to compare before and after a change.

    python tests/helpers/config_dump.py before.json
    (change the configs)
    python tests/helpers/config_dump.py after.json
    python tests/helpers/config_dump.py before.json after.json

Only the keys that the runner reads are written: a variable that merely joins
config files is not part of what a config means.
"""
import argparse
import inspect
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Dict, Iterator, Tuple

from mmengine.config import Config
from mmengine.runner import Runner

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
# top-level keys that are read beside the arguments of Runner
OTHER_KEYS = ('compile', 'custom_imports', 'find_unused_parameters',
              'model_wrapper_cfg', 'runner_type', 'sync_bn', 'tta_model',
              'tta_pipeline')
READ = {*inspect.signature(Runner).parameters, *OTHER_KEYS} - {'cfg'}


def run_files() -> Iterator[Path]:
    """Every config file that is a run, in order."""
    for path in sorted(CONFIGS.rglob('*.py')):
        if '_base_' not in path.parts:
            yield path


def flatten(value, key: str = '') -> Iterator[Tuple[str, str]]:
    """Dotted keys and the ``repr`` of every leaf."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (list, tuple)) and any(
            isinstance(inner, (dict, list, tuple)) for inner in value):
        items = enumerate(value)
    else:
        yield key, repr(value)
        return
    if not value:
        yield key, '{}'
    for name, inner in items:
        yield from flatten(inner, f'{key}.{name}' if key else str(name))


def dump(path: Path) -> Dict[str, str]:
    """What one config file means: every leaf that the runner reads."""
    cfg = Config.fromfile(path, import_custom_modules=False).to_dict()
    return dict(
        flatten({
            key: value
            for key, value in cfg.items() if key in READ
        }))


def compare(before: dict, after: dict) -> Dict[str, list]:
    """The files of every difference, by what differs."""
    found = defaultdict(list)
    for name in sorted(before.keys() | after.keys()):
        if name not in after or name not in before:
            found['only before' if name in before else 'only after'].append(
                name)
            continue
        for key in sorted(before[name].keys() | after[name].keys()):
            values = [
                dumped[name].get(key, 'absent') for dumped in (before, after)
            ]
            if values[0] != values[1]:
                found[f'{key}: {values[0]} -> {values[1]}'].append(name)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('files', nargs='+', help='OUT, or BEFORE and AFTER')
    files = [Path(name) for name in parser.parse_args().files]
    if len(files) == 1:
        found = {
            str(path.relative_to(CONFIGS)): dump(path)
            for path in run_files()
        }
        files[0].write_text(json.dumps(found, indent=1))
        print(f'{len(found)} configs in {files[0]}')
        return 0
    found = compare(*(json.loads(path.read_text()) for path in files))
    for difference, names in found.items():
        print(f'{difference}\n    {len(names)}: {", ".join(names)}')
    return bool(found)


if __name__ == '__main__':
    sys.exit(main())

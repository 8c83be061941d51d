# Copyright (c) sdd_mm contributors. All rights reserved.
"""A run whose disk fills up, for test_full_disk.py.

    unshare --user --map-root-user --mount \\
        python tests/helpers/full_disk.py ROOT

ROOT/disk is a disk of 1 MiB that only this process sees. Prints a JSON of what
the run left on it, and of how it went on when there was room.
"""
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [
    sys.executable, ROOT / 'tools' / 'train.py',
    ROOT / 'configs' / 'demo' / 'student.py', '--no-validate'
]
OPTIONS = [
    '--cfg-options', 'train_dataloader.dataset.num_scenes=128',
    'train_cfg.max_epochs=6', 'param_scheduler.total_steps=11',
    'default_hooks.checkpoint.max_keep_ckpts=-1'
]


def train(work_dir, *args):
    result = subprocess.run(
        [*COMMAND, '--work-dir', work_dir, *args, *OPTIONS],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True)
    files = sorted(path.name for path in work_dir.iterdir())
    return dict(code=result.returncode, said=result.stdout, files=files)


def main():
    disk = Path(sys.argv[1], 'disk')
    disk.mkdir()

    def mount(*options):
        subprocess.run(['mount', *options, 'tmpfs', disk], check=True)

    mount('-t', 'tmpfs', '-o', 'size=1m')
    work_dir = disk / 'run'
    found = dict(full=train(work_dir))
    mount('-o', 'remount,size=64m')
    found['room'] = train(work_dir, '--resume')
    print(json.dumps(found))


if __name__ == '__main__':
    main()

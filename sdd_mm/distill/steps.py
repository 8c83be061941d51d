# Copyright (c) sdd_mm contributors. All rights reserved.
"""The commands of a run over pictures, each of which can be called again."""
import shlex
import subprocess
import sys
from pathlib import Path
from typing import List, Optional

from ..config_file import project_root
from ..errors import SDDError
from .recipe import epochs_of


class StepError(SDDError, RuntimeError):
    """A command that failed."""


def call(title: str, command: List[str]) -> None:
    """Say what is called, and call it.

    Raises:
        StepError: If it fails.
        KeyboardInterrupt: If it was interrupted; a training has saved then.
    """
    print(f'\n== {title}\n$ {shlex.join(["python", *command])}', flush=True)
    process = subprocess.Popen([sys.executable, *command])
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.wait()  # it got the signal, too
        raise
    if code in (130, -2):
        raise KeyboardInterrupt
    if code:
        raise StepError(f'{title}: the command ended with {code}, see above. '
                        'Correct the config that it names, and call '
                        '`python -m sdd_mm.distill` again')


def tool(name: str) -> str:
    """The path of a command of the project."""
    return str((project_root() / 'tools' / name).resolve())


def checkpoint_of(config: Path, work_dir: Path) -> Path:
    """The last checkpoint of a finished run."""
    return work_dir / f'epoch_{epochs_of(config)}.pth'


def train(config: Path, work_dir: Path) -> Path:
    """Train a config unless it is done; resume it if it was interrupted."""
    checkpoint = checkpoint_of(config, work_dir)
    if checkpoint.is_file():
        print(f'\n== {config.stem} is trained: {checkpoint}', flush=True)
    else:
        call(f'train {config.stem}', [
            tool('train.py'),
            str(config), '--work-dir',
            str(work_dir), '--resume'
        ])
    return checkpoint


def check(config: Path) -> None:
    """Let the doctor look at a config."""
    call('check', ['-m', 'sdd_mm.doctor', str(config), '--steps', '2'])


def report(checkpoint: Path, against: Optional[Path], alone: Optional[Path],
           out: Path) -> None:
    """Draw what a student learned."""
    other = [
        word for name, path in (('against', against), ('alone', alone))
        if path is not None for word in (f'--{name}', str(path))
    ]
    call('report', [
        tool('analysis/report.py'),
        str(checkpoint), *other, '--out',
        str(out)
    ])


def export(checkpoint: Path, target: Path) -> None:
    """Write the student for MMPretrain and ONNX."""
    call('export', [
        tool('model_converters/export_student.py'),
        str(checkpoint),
        str(target), '--int8', '--force'
    ])

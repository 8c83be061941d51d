# Copyright (c) sdd_mm contributors. All rights reserved.
"""The table at the end: what each network costs and how often it is right."""
import itertools
from pathlib import Path
from typing import Dict, List

from mmengine.config import Config
from mmengine.device import get_device

from ..analysis.classifier import load_classifier
from ..analysis.comparison import Measured, measure, place, table, verdict
from ..analysis.report import logged
from ..analysis.validation import validation_loader
from ..converters.quantized import Run

TEACHER, STUDENT_ALONE = 'teacher', 'student alone'


def measure_run(config: Path, checkpoint: Path) -> Measured:
    """The network of a run, or its student, on the validation images."""
    cfg = Config.fromfile(config)
    model = load_classifier(str(checkpoint), cfg)
    return measure(model.to(get_device()), validation_loader(cfg))


def measure_graph(path: Path) -> Measured:
    """An ONNX file on the validation images of the config beside it."""
    config = path.with_name('student.py')
    return Run(path.read_bytes()).measure(
        validation_loader(Config.fromfile(config)))


def doubt(out: Path) -> List[str]:
    """A sentence if the teacher knows no more than the student alone.

    Args:
        out (Path): The folder with the work directories of both.
    """
    last = {}
    for name in ('teacher', 'student'):
        _, values = logged(out / name, 'accuracy/top1').get('', ((), ()))
        if values:
            last[name] = values[-1]
    if len(last) < 2 or last['teacher'] > last['student']:
        return []
    return [
        f'The teacher ({last["teacher"]:.1f} %) is right no more often than '
        f'the student alone ({last["student"]:.1f} %), so there is little to '
        'learn from it. Give it published weights (--teacher-ckpt), more '
        'epochs, or choose a larger one'
    ]


def text(found: Dict[str, Measured], exported: Dict[str, Measured],
         notes: List[str]) -> str:
    """Table, differences and notes in Markdown.

    Args:
        found (dict[str, Measured]): The networks by their titles.
        exported (dict[str, Measured]): The files of the student, in float32
            and in eight bits.
        notes (list[str]): Sentences to end with.
    """
    known = {**found, **exported}
    rows = table(known)
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [
        '| ' +
        ' | '.join(cell.ljust(width)
                   for cell, width in zip(row, widths)) + ' |' for row in rows
    ]
    lines.insert(1,
                 '|' + '|'.join('-' * (width + 2) for width in widths) + '|')
    count = len(next(iter(found.values())).right)
    lines += [
        '', f'Top-1 accuracy on {count} validation images. '
        f'{place(get_device())}.', ''
    ]
    students = [title for title in found if title != TEACHER]
    lines += [
        f'- {one} against {other}: '
        f'{verdict(known[one].right, known[other].right)}' for other, one in [
            *itertools.combinations(students, 2),
            *itertools.combinations(exported, 2)
        ]
    ]
    return '\n'.join([*lines, *(f'- {note}' for note in notes), ''])

# Copyright (c) sdd_mm contributors. All rights reserved.
"""The head of report.py's page: what was distilled, and what it gains."""
import shlex
import sys
from datetime import datetime
from itertools import combinations
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import torch

from sdd_mm.analysis import TrainedRun, validation_of
from sdd_mm.analysis.classifier import load_classifier
from sdd_mm.analysis.comparison import (Measured, by_class, cost_of, place,
                                        table, total, verdict)
from sdd_mm.analysis.outputs import Outputs
from sdd_mm.analysis.report import Report
from sdd_mm.engine.errors import PreflightError
from sdd_mm.images import innermost
from sdd_mm.models.networks import members_of
from sdd_mm.structures import student_part

ALONE, TEACHER = 'student alone', 'teacher'
SHOWN_CLASSES = 30


def write_head(page: Report, args, runs: Dict[str,
                                              TrainedRun], batches: List[dict],
               teacher: Outputs, students: Dict[str, Outputs]) -> None:
    """What was distilled, from what, and what each network can do."""
    run = next(iter(runs.values()))
    page.table([], [*facts(args, run)])
    found = measured(args, runs, batches, teacher, students)
    page.heading(
        'What each network can do', f'On {len(teacher.labels)} validation '
        f'images. {place("cpu")}')
    page.table(*split(table(found)))
    page.list([
        f'{one} against {other}: '
        f'{verdict(found[one].right, found[other].right)}'
        for other, one in combinations([*found][1:], 2)
    ])


def write_classes(page: Report, teacher: Outputs, students: Dict[str, Outputs],
                  names: List[str]) -> None:
    """The accuracy of each class."""
    first, *others = students
    order = {TEACHER: teacher, **{name: students[name] for name in others}}
    order[first] = students[first]
    rows = by_class(
        {
            name: Measured(one.right, None)
            for name, one in order.items()
        }, teacher.labels, names)
    page.heading(
        'Accuracy of each class', f'In %, the classes that {first} knows '
        'least come first' +
        (f'; {SHOWN_CLASSES} of {len(rows) - 1}' if len(rows) -
         1 > SHOWN_CLASSES else ''))
    page.table(*split(rows[:1 + SHOWN_CLASSES]))


def split(rows: List[List[str]]) -> Tuple[List[str], List[List[str]]]:
    """The head of a table, and its rows."""
    return rows[0], rows[1:]


def facts(args, run: TrainedRun) -> Iterator[Tuple[str, str]]:
    """What a reader asks first."""
    yield 'student', network(run.model.student)
    yield 'teacher', network(run.model.teacher)
    yield 'losses', ', '.join(
        f'{name}: {describe(loss)}'
        for name, loss in run.model.distiller.distill_losses.items())
    dataset = innermost(validation_of(run.cfg)['dataset'])
    where = dataset.get('data_root') or dataset.get('ann_file') or ''
    yield 'data', f'{dataset["type"]} {where}, {len(run.names)} classes'
    meta, time = run.meta, run.meta.get('time')
    ended = '' if time is None else datetime.strptime(
        time, '%Y%m%d_%H%M%S').strftime(', %B %d, %Y, %H:%M')
    yield 'training', (f'{meta.get("epoch")} epochs, seed '
                       f'{meta.get("seed")}{ended}')
    folder = args.checkpoint.resolve().parent
    config = next(iter(sorted(folder.glob('*.py'))), None)
    if config is not None:
        yield 'trained by', shlex.join([
            'python', 'tools/train.py',
            str(config), '--work-dir',
            str(folder)
        ])
    yield 'this page by', shlex.join(
        ['python', *map(str, (Path(sys.argv[0]), *sys.argv[1:]))])


def network(model: torch.nn.Module) -> str:
    """A network in words."""
    backbone = getattr(model, 'backbone', model)
    size = next((f' {value}' for value in (getattr(backbone, name, None)
                                           for name in ('depth', 'arch'))
                 if isinstance(value, (int, str))), '')
    return f'{type(backbone).__name__}{size}'


def describe(loss: torch.nn.Module) -> str:
    """A loss in words."""
    parts = [type(loss).__name__]
    criterion = getattr(loss, 'criterion', None)
    if criterion is not None:
        parts.append(f'of {type(criterion).__name__}')
    if getattr(loss, 'scales', None):
        parts.append(f'at scales {", ".join(map(str, loss.scales))}')
    weight = getattr(loss, 'loss_weight', None)
    return ' '.join(parts) + (f', weight {weight:g}' if isinstance(
        weight, (int, float)) else '')


@torch.no_grad()
def measured(args, runs: Dict[str, TrainedRun], batches: List[dict],
             teacher: Outputs, students: Dict[str,
                                              Outputs]) -> Dict[str, Measured]:
    """All networks on the images of the page."""
    run, *_ = runs.values()
    inputs = run.model.data_preprocessor(batches[0])['inputs']
    members = members_of(run.model.teacher)
    images = run.model.teacher_images(inputs)
    costs = [
        cost_of(network, one[:1]) for network, one in zip(
            members, images if len(members) > 1 else [images])
    ]
    found = {TEACHER: Measured(teacher.right, total(costs))}
    if args.alone is not None:
        alone = load_classifier(str(args.alone))
        right = []
        for batch in batches:
            data = alone.data_preprocessor(
                dict(batch, inputs=student_part(batch['inputs'])))
            right.append(alone(data['inputs']).argmax(1))
        classes = torch.cat(right)
        if len(run.names) != alone.head.num_classes:
            raise PreflightError(
                f'--alone {args.alone} has {alone.head.num_classes} classes, '
                f'the distillation {len(run.names)}')
        found[ALONE] = Measured(classes == teacher.labels,
                                cost_of(alone, data['inputs'][:1]))
    for name, one in reversed(runs.items()):
        found[name] = Measured(
            students[name].right,
            cost_of(one.model.student,
                    student_part(inputs)[:1]))
    return found

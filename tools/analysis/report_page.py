# Copyright (c) sdd_mm contributors. All rights reserved.
"""The figures of report.py's page, and their order."""
import logging
from functools import partial
from pathlib import Path
from typing import Callable, Iterator, NamedTuple

import sdd_mm  # noqa: F401  isort: skip  (repairs the stack: first)
import torch
from arguments import parse_settings
from matplotlib import pyplot as plt
from mmengine.logging import print_log
from report_head import write_classes, write_head

from sdd_mm.analysis import (TrainedRun, cell_figures, figures, load_run,
                             validation_loader, validation_of)
from sdd_mm.analysis.drawing import COMPLEMENTARY as COMPLEMENTARY_COLOR
from sdd_mm.analysis.drawing import CONSISTENT, SCALES
from sdd_mm.analysis.outputs import Outputs
from sdd_mm.analysis.report import Report, logged
from sdd_mm.engine.errors import PreflightError
from sdd_mm.engine.hooks.sdd_report_hook import prefixes
from sdd_mm.images import innermost
from sdd_mm.structures import student_part

METRIC = 'accuracy/top1'
# keys of a data set that do not change its images
LOADING = {'_scope_', 'lazy_init', 'serialize_data', 'test_mode'}
COMPLEMENTARY = {
    'label':
    'If the two answers differ, the cell is complementary',
    'class':
    'With this run\'s consistency=\'class\' a cell is complementary if the '
    'teacher predicts another class for it than for the image'
}


def pictures(run, batches: list, chosen: torch.Tensor) -> list:
    """The chosen images of batches, for the eye."""
    inputs = [
        one for batch in batches for one in student_part(batch['inputs'])
    ]
    return [run.picture(inputs[index]) for index in chosen.tolist()]


def write_report(args) -> Path:
    """Write the page.

    Args:
        args (Namespace): The command line of report.py.

    Returns:
        Path: The page.

    Raises:
        PreflightError: If runs or arguments do not fit together.
        TeacherError: If the teacher cannot be loaded.
    """
    if min(args.images, args.samples) < 1:
        raise PreflightError('--images and --samples must be positive')
    page, runs, batches = prepare(args)
    run = next(iter(runs.values()))
    print_log(f'{sum(len(student_part(b["inputs"])) for b in batches)} images')
    teacher = run.classify('teacher', batches)
    students = {
        name: one.classify('student', batches, teacher.scales)
        for name, one in runs.items()
    }
    write(page, args, runs, batches, teacher, students)
    return page.write()


def prepare(args) -> tuple:
    """The page, the runs by their names, and batches of images."""
    paths = [args.checkpoint] + ([args.against] if args.against else [])
    for path in paths:
        if path.is_dir():
            raise PreflightError(f'{path} is a folder: pass a checkpoint in '
                                 'it, such as epoch_12.pth')
    options = parse_settings(args.cfg_options)
    names = args.names or [path.resolve().parent.name for path in paths]
    if len(names) != len(paths) or len(set(names)) < len(names):
        raise PreflightError(f'--names must be {len(paths)} different names, '
                             f'got {names}')
    runs = {
        name:
        load_run(
            str(path), None, args.teacher_ckpt, options,
            args.loss if path == args.checkpoint else None)
        for name, path in zip(names, paths)
    }
    run, *others = runs.values()
    for other in others:
        refuse_another(run, other)
    page = Report(f'{names[0]}: a report', args.out
                  or args.checkpoint.resolve().parent / 'report',
                  args.backends)
    return page, runs, list(validation_loader(run.cfg, args.images))


def refuse_another(run: TrainedRun, other: TrainedRun) -> None:
    """Refuse to compare runs of different teachers or data sets."""
    compared = [[('teacher', one.model.teacher_hash), ('classes', one.names),
                 *((f'val_dataloader.dataset.{key}', data(one).get(key))
                   for key in sorted({*data(run), *data(other)} - LOADING))]
                for one in (run, other)]
    for (name, own), (_, theirs) in zip(*compared):
        if own != theirs:
            raise PreflightError(
                f'--against is a run with another {name}, {theirs} and not '
                f'{own}: pass a run with the same teacher and data')


def data(run: TrainedRun) -> dict:
    """The config of a run's validation data set."""
    return innermost(validation_of(run.cfg)['dataset'])


def write(page: Report, args, runs: dict, batches: list, teacher,
          students: dict) -> None:
    """Fill the page."""
    write_head(page, args, runs, batches, teacher, students)
    heading = None
    drawn = (lead(runs, batches, teacher), *over_training(args, runs),
             *of_cells(args, runs, batches, teacher, students),
             *of_classes(runs, teacher, students))
    for shown in drawn:
        if not wanted(shown.name, args):
            continue
        if shown.heading != heading:
            page.heading(shown.heading, shown.note)
            heading = shown.heading
        found = shown.make()
        page.figure(shown.name, found, shown.alt)
        plt.close(found[0])
    write_classes(page, teacher, students, next(iter(runs.values())).names)
    page.heading('Config')
    for name, outputs in dict(teacher=teacher, **students).items():
        if not figures.varies(outputs.logits):
            print_log(
                f'{name} has the same outputs for all images: figures that '
                'compare images are left out',
                level=logging.WARNING)
    for name, one in runs.items():
        page.code(f'{name}: config', one.cfg.pretty_text)


def wanted(name: str, args) -> bool:
    """Whether ``--only`` includes a figure; its name may end in a loss."""
    known = max((one for one in args.figures if name.startswith(one)), key=len)
    return args.only is None or known in args.only


class Shown(NamedTuple):
    """A figure of the page.

    Args:
        name (str): Name of its file, without suffix.
        heading (str): The heading above it.
        note (str): A sentence below the heading.
        alt (str): Text in place of the figure.
        make (Callable): Draws the figure.
    """
    name: str
    heading: str
    note: str
    alt: str
    make: Callable


def lead(runs: dict, batches: list, teacher: Outputs) -> Shown:
    """The picture that says most: right as a whole, divided in its parts."""
    run = next(iter(runs.values()))
    divided = (~teacher.consistent(run.consistency)).float().mean(dim=0)
    divided[~teacher.right] -= 1
    index = int(divided.argmax())
    picture, = pictures(run, batches, torch.tensor([index]))
    return Shown(
        'verdicts', 'What the teacher sees in one picture',
        'The class that it predicts for the whole picture and for the cells '
        'of each scale, with its confidence. Cells whose answer is as right '
        'or as wrong as the whole are blue, the others orange; SDD gives '
        'orange cells more weight', 'predictions of the cells of a picture',
        partial(cell_figures.explain, picture, teacher.only(index), run.names,
                int(teacher.labels[index]), run.consistency))


def over_training(args, runs: dict) -> Iterator[Shown]:
    """Figures of what the runs logged up to their checkpoints."""
    first, run = next(iter(runs.items()))
    by_epoch = run.cfg.train_cfg.get('by_epoch', True)
    counted = 'epoch' if by_epoch else 'iter'
    folders = dict(
        zip(runs, (path.resolve().parent
                   for path in (args.checkpoint, args.against) if path)))
    accuracy = {
        name:
        logged(
            folder, METRIC, runs[name].meta.get(counted),
            None if by_epoch else runs[name].cfg.train_cfg.get(
                'val_interval', 1000)).get('')
        for name, folder in folders.items()
    }
    accuracy = {name: line for name, line in accuracy.items() if line}
    if accuracy:
        yield Shown(
            'accuracy', 'Accuracy over training',
            'On the validation set, after each epoch',
            'accuracy over training',
            partial(figures.curves, 'Accuracy on the validation set',
                    'top-1 (%)', accuracy,
                    'epoch' if by_epoch else 'iteration'))
    for prefix in prefixes(run.sdd_losses):
        lines = logged(folders[first], f'{prefix}/', run.meta.get('iter'))
        of = prefix[len('sdd/'):]  # '' if it is the only loss
        parts = {
            name[len('part_'):]: line
            for name, line in lines.items() if name.startswith('part_')
        }
        scales = {
            name.replace('scale', 'scale '): line
            for name, line in parts.items() if name.startswith('scale')
        }
        kinds = {
            name: line
            for name, line in parts.items() if not name.startswith('scale')
        }
        for name, series, title in (('loss-by-scale', scales, 'by scale'),
                                    ('loss-by-kind', kinds,
                                     'by kind of cell')):
            if series:
                title = ' '.join(filter(None, ('SDD loss', of, title)))
                yield Shown(
                    named(name, of), 'The loss over training',
                    'The loss of logged iterations, by scale and by kind of '
                    'cell; both splits add up to the loss', title,
                    partial(
                        figures.curves,
                        title,
                        'loss',
                        series,
                        colors=SCALES if series is scales else
                        (CONSISTENT, COMPLEMENTARY_COLOR)))
        if set(figures.CASES) <= set(lines) and len(
                lines['both_right'][0]) > 1:
            yield Shown(
                named('cases-over-training', of), 'Cells over training',
                'The teacher is frozen: only the images change',
                'shares of the four cases over training',
                partial(figures.cases_over_training, lines))


def named(figure: str, loss: str) -> str:
    """The name of a figure, with its loss if there are several."""
    return f'{figure}-{loss}' if loss else figure


def of_cells(args, runs: dict, batches: list, teacher,
             students: dict) -> Iterator[Shown]:
    """Figures of the teacher's predictions for cells."""
    first, *others = students
    run = runs[first]
    yield Shown(
        'cases', 'Consistent and complementary cells',
        'Is the teacher right on the image, and is it right on the cell? ' +
        COMPLEMENTARY[run.consistency] +
        (f'. Here and below, the cells are those of {run.loss}'
         if len(run.sdd_losses) > 1 else ''), 'shares of the four cases',
        partial(figures.cases, teacher))
    rows = [('misclassified',
             'Images that the teacher gets wrong and some cells right',
             'The teacher misses the picture, and yet some of its cells '
             'name the true class: plain distillation passes on the mistake '
             'alone', 'Misclassified by the teacher (label, not prediction)',
             teacher, cell_figures.choose_misclassified(teacher,
                                                        args.samples))]
    rows += [
        ('won', f'Images that {first} gets right and {other} wrong',
         'Pictures in whose cells the teacher sees the most other classes '
         'come first',
         f'Right by {first}, wrong by {other} (label, not {other}\'s '
         'prediction); below, the teacher\'s prediction for every cell',
         students[other],
         cell_figures.choose_won(students[first], students[other], teacher,
                                 args.samples)) for other in others
    ]
    for name, heading, note, title, wrong, chosen in rows:
        yield Shown(
            name, heading, note, heading,
            partial(cell_figures.samples, title,
                    pictures(run, batches, chosen), chosen, teacher, wrong,
                    run.names, run.consistency))


def of_classes(runs: dict, teacher, students: dict) -> Iterator[Shown]:
    """Figures of classes."""
    names = next(iter(runs.values())).names
    if all(
            figures.varies(outputs.logits)
            for outputs in (teacher, *students.values())):
        yield Shown(
            'correlations', 'Class correlations',
            'How differently student and teacher relate the classes to each '
            'other: dark squares are alike (correlations of logits over the '
            'images, absolute difference)',
            'differences of class correlations',
            partial(figures.correlations, teacher, students, names))
    if (teacher.labels < figures.DRAWN_CLASSES).sum() >= figures.FEW and all(
            figures.varies(outputs.features) for outputs in students.values()):
        yield Shown(
            'features', 'Features',
            'Each dot is a picture. Classes that lie apart are easy '
            'to tell from each other; distances between groups mean '
            'little', 't-SNE', partial(figures.tsne, students, names))

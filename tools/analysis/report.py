# Copyright (c) sdd_mm contributors. All rights reserved.
"""Write a page on a distillation: what it learnt, and from which cells.

    python tools/analysis/report.py work_dirs/demo/sd-kd/epoch_12.pth \
        --against work_dirs/demo/kd/epoch_12.pth --out work_dirs/demo/report

The page is OUT/report.html and needs no other file. Beside it are the figures
as PNG and their numbers as JSON.
"""
import argparse
import logging
import sys
from functools import partial
from pathlib import Path
from typing import Callable, Iterator, NamedTuple

import sdd_mm  # noqa: F401  isort: skip  (repairs the stack: first)
import torch
from matplotlib import pyplot as plt
from mmengine.logging import print_log

from sdd_mm import safety
from sdd_mm.analysis import (TrainedRun, add_run_arguments, figures, load_run,
                             validation_loader, validation_of)
from sdd_mm.analysis.report import Report, logged
from sdd_mm.engine.errors import PreflightError
from sdd_mm.engine.hooks.sdd_report_hook import prefixes
from sdd_mm.images import innermost
from sdd_mm.models.algorithms import TeacherError

METRIC = 'accuracy/top1'
FIGURES = ('accuracy', 'loss-by-scale', 'loss-by-kind', 'cases-over-training',
           'cases', 'misclassified', 'won', 'correlations', 'features')
# keys of a data set that do not say which images it has
LOADING = {'_scope_', 'lazy_init', 'serialize_data', 'test_mode'}
COMPLEMENTARY = {
    'label':
    'Where the two answers differ a cell is complementary',
    'class':
    'For this run\'s consistency=\'class\' a cell is complementary where the '
    'teacher\'s class is another than on the image'
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Write a page on a distillation')
    parser.add_argument('checkpoint', type=Path, help='a checkpoint of it')
    parser.add_argument(
        '--against',
        type=Path,
        help='a checkpoint of another run with the same teacher and data, '
        'such as plain KD')
    add_run_arguments(parser)
    parser.add_argument(
        '--names',
        nargs='+',
        help='what the two are called. By default the names of their work '
        'dirs')
    parser.add_argument(
        '--out',
        type=Path,
        help='a folder. By default '
        'report/ in the work dir')
    parser.add_argument(
        '--images',
        type=int,
        default=2000,
        help='validation images to take, from all over the set')
    parser.add_argument(
        '--samples', type=int, default=6, help='images to show in a row')
    parser.add_argument(
        '--only',
        nargs='+',
        choices=FIGURES,
        help='figures to draw; all by default')
    parser.add_argument(
        '--backends',
        nargs='+',
        default=[],
        help='backends of MMEngine\'s visualizer that get the figures, too: '
        'LocalVisBackend, TensorboardVisBackend, WandbVisBackend')
    return parser.parse_args()


def pictures(run, batches: list, chosen: torch.Tensor) -> list:
    """Some of the images of batches."""
    inputs = [one for batch in batches for one in batch['inputs']]
    return [run.picture(inputs[index]) for index in chosen.tolist()]


def main() -> None:
    args = parse_args()
    safety.guard()
    try:
        if min(args.images, args.samples) < 1:
            raise PreflightError('--images and --samples must be positive')
        page, runs, batches = prepare(args)
    except (PreflightError, TeacherError) as error:
        sys.exit(f'ERROR: {error}')
    run = next(iter(runs.values()))
    print_log(f'{sum(map(len, (b["inputs"] for b in batches)))} images')
    teacher = run.classify('teacher', batches)
    students = {
        name: one.classify('student', batches, teacher.scales)
        for name, one in runs.items()
    }
    write(page, args, runs, batches, teacher, students)
    print(f'Written to {page.write()}')


def prepare(args) -> tuple:
    """The page, the runs by their names, and batches of images."""
    paths = [args.checkpoint] + ([args.against] if args.against else [])
    for path in paths:
        if path.is_dir():
            raise PreflightError(f'{path} is a folder: name a checkpoint in '
                                 'it, such as epoch_12.pth')
    names = args.names or [path.resolve().parent.name for path in paths]
    if len(names) != len(paths) or len(set(names)) < len(names):
        raise PreflightError(f'--names: {len(paths)} different names are '
                             f'needed, there are {names}')
    runs = {
        name:
        load_run(
            str(path), None, args.teacher_ckpt, args.cfg_options,
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
    """Only runs of one teacher and one data set are compared."""
    compared = [[('teacher', one.model.teacher_hash), ('classes', one.names),
                 *((f'val_dataloader.dataset.{key}', data(one).get(key))
                   for key in sorted({*data(run), *data(other)} - LOADING))]
                for one in (run, other)]
    for (name, own), (_, theirs) in zip(*compared):
        if own != theirs:
            raise PreflightError(
                f'--against is a run of another {name}: {theirs}, not {own}. '
                'A page compares runs of one teacher on one data set')


def data(run: TrainedRun) -> dict:
    """The data set that a run validates on."""
    return innermost(validation_of(run.cfg)['dataset'])


def write(page: Report, args, runs: dict, batches: list, teacher,
          students: dict) -> None:
    """Fill the page."""
    page.heading(
        'Accuracy', f'Top-1 (%) of {len(teacher.labels)} validation images, '
        'computed for this page')
    page.table(['', 'top-1', 'agrees with the teacher'], [[
        name, f'{100 * outputs.right.float().mean():.2f}',
        f'{100 * (outputs.classes == teacher.classes).float().mean():.2f}'
    ] for name, outputs in dict(teacher=teacher, **students).items()])
    heading = 'Accuracy'
    drawn = (*over_training(args, runs),
             *of_cells(args, runs, batches, teacher, students),
             *of_classes(runs, teacher, students))
    for shown in drawn:
        if args.only and not wanted(shown.name, args.only):
            continue
        if shown.heading != heading:
            page.heading(shown.heading, shown.note)
            heading = shown.heading
        found = shown.make()
        page.figure(shown.name, found, shown.alt)
        plt.close(found[0])
    page.heading('Config')
    for name, outputs in dict(teacher=teacher, **students).items():
        if not figures.vary(outputs.logits):
            print_log(
                f'{name} says the same of all images: figures that compare '
                'images are left out',
                level=logging.WARNING)
    for name, one in runs.items():
        page.code(f'{name}: config', one.cfg.pretty_text)


def wanted(name: str, only: list) -> bool:
    """Whether a figure, or one of several losses, was asked for."""
    longest = max((one for one in FIGURES if name.startswith(one)), key=len)
    return longest in only


class Shown(NamedTuple):
    """A figure of the page.

    Args:
        name (str): Its file, without suffix.
        heading (str): What it stands under.
        note (str): A sentence under the heading.
        alt (str): What it shows.
        make (Callable): Draws it.
    """
    name: str
    heading: str
    note: str
    alt: str
    make: Callable


def over_training(args, runs: dict) -> Iterator[Shown]:
    """What the runs logged, up to their checkpoints."""
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
            'accuracy', 'Accuracy', '', 'accuracy over training',
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
                    'Of the iterations that were logged: by scale, and by '
                    'kind of cell; either split adds up to the loss', title,
                    partial(figures.curves, title, 'loss', series))
        if set(figures.CASES) <= set(lines) and len(
                lines['both_right'][0]) > 1:
            yield Shown(
                named('cases-over-training', of), 'Cells over training',
                'The teacher stays as it is: what '
                'changes are the images', 'shares of the four cases over '
                'training', partial(figures.cases_over_training, lines))


def named(figure: str, loss: str) -> str:
    """The name of a figure of one of several losses."""
    return f'{figure}-{loss}' if loss else figure


def of_cells(args, runs: dict, batches: list, teacher,
             students: dict) -> Iterator[Shown]:
    """What the teacher sees in the cells of the images."""
    first, *others = students
    run = runs[first]
    yield Shown(
        'cases', 'Consistent and complementary cells',
        'Is the teacher right on the image, and is it right on the cell? ' +
        COMPLEMENTARY[run.consistency] +
        (f'. Here and below, cells are those of {run.loss}'
         if len(run.sdd_losses) > 1 else ''), 'shares of the four cases',
        partial(figures.cases, teacher))
    rows = [('misclassified',
             'Images that the teacher gets wrong and cells of them right',
             'Compare the paper\'s Figure 1',
             'Misclassified by the teacher (label, not its verdict)', teacher,
             figures.choose_misclassified(teacher, args.samples))]
    rows += [
        ('won', f'Images that {first} gets right and {other} wrong',
         'Compare the paper\'s Figure 4. Those on whose cells the teacher is '
         'most divided come first',
         f'Right by {first}, wrong by {other} (label, not {other}\'s '
         'verdict); below, the teacher\'s verdict on every cell',
         students[other],
         figures.choose_won(students[first], students[other], teacher,
                            args.samples)) for other in others
    ]
    for name, heading, note, title, wrong, chosen in rows:
        yield Shown(
            name, heading, note, heading,
            partial(figures.samples, title, pictures(run, batches,
                                                     chosen), chosen, teacher,
                    wrong.classes, run.names, run.consistency))


def of_classes(runs: dict, teacher, students: dict) -> Iterator[Shown]:
    """What the networks say of the classes."""
    names = next(iter(runs.values())).names
    if all(
            figures.vary(outputs.logits)
            for outputs in (teacher, *students.values())):
        yield Shown(
            'correlations', 'Class correlations',
            'Compare the paper\'s Figure 3: correlation of the classes\' '
            'logits over the images, how far the student\'s is from the '
            'teacher\'s', 'differences of class correlations',
            partial(figures.correlations, teacher, students, names))
    if (teacher.labels < figures.DRAWN_CLASSES).sum() >= figures.FEW and all(
            figures.vary(outputs.features) for outputs in students.values()):
        yield Shown('features', 'Features', 'Compare the paper\'s Figure 5',
                    't-SNE', partial(figures.neighbours, students, names))


if __name__ == '__main__':
    main()

# Copyright (c) sdd_mm contributors. All rights reserved.
"""Distil a small network on data that needs no download.

Trains a teacher on scenes of handwritten digits, then the same small student
alone and by KD, SD-KD and SD-DKD, each by tools/train.py and its config in
configs/demo/. Prints a table and draws the curves.
"""
import argparse
import statistics
import sys
from pathlib import Path

import matplotlib
from launch import ROOT, RunError, curve, train

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

TEACHER = 'teacher'
STUDENTS = {
    'student': 'student alone',
    'kd': 'KD',
    'sd-kd': 'SD-KD',
    'sd-dkd': 'SD-DKD'
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/demo'))
    parser.add_argument(
        '--seeds',
        type=int,
        nargs='+',
        default=[0],
        help='seeds of the students; the teacher is trained once')
    return parser.parse_args()


def draw(curves: dict, path: Path) -> None:
    """Accuracy over epochs, a line for every way of training."""
    figure, axes = plt.subplots(figsize=(7, 4.2), layout='constrained')
    colors = dict(zip(STUDENTS, ('0.55', 'C0', 'C1', 'C3')))
    for name, runs in curves.items():
        if name == TEACHER:
            axes.axhline(runs[0][-1], color='0.2', ls=':', lw=1)
            axes.annotate(
                f'teacher {runs[0][-1]:.1f}', (1, runs[0][-1]),
                xytext=(0, 3),
                textcoords='offset points',
                color='0.2')
            continue
        mean = [statistics.mean(values) for values in zip(*runs)]
        epochs = range(1, len(mean) + 1)
        axes.plot(
            epochs,
            mean,
            color=colors[name],
            label=f'{STUDENTS[name]} {mean[-1]:.1f}')
        if len(runs) > 1:
            axes.fill_between(
                epochs, [min(values) for values in zip(*runs)],
                [max(values) for values in zip(*runs)],
                color=colors[name],
                alpha=0.15,
                lw=0)
    axes.set(
        xlabel='epoch',
        ylabel='top-1 accuracy on test scenes (%)',
        title='One small student, four ways of training')
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(
        loc='upper left',
        bbox_to_anchor=(0.02, 0.88),
        frameon=False,
        title='last epoch')
    figure.savefig(path, dpi=150)


def table(curves: dict, seconds: dict, seeds: list) -> str:
    """Accuracy after the last epoch and seconds of a run."""
    lines = ['', f'{"":14} {"top-1 (%)":>14} {"seconds":>8}']
    for name, runs in curves.items():
        last = [run[-1] for run in runs]
        accuracy = f'{statistics.mean(last):.2f}'
        if len(last) > 1:
            accuracy += f' +- {statistics.stdev(last):.2f}'
        title = STUDENTS.get(name, TEACHER)
        lines.append(f'{title:14} {accuracy:>14} '
                     f'{statistics.mean(seconds[name]):8.0f}')
    lines.append(f'Last epoch on 1,000 test scenes; students with seeds '
                 f'{", ".join(map(str, seeds))}, teacher with seed 0.')
    return '\n'.join(lines)


def run(name: str, work_dir: Path, *options: str) -> tuple:
    """Train a config of configs/demo: its seconds and its curve."""
    seconds = train(
        ROOT / 'configs' / 'demo' / f'{name}.py',
        work_dir,
        '--cfg-options',
        *options,
        title=work_dir.name)
    return seconds, list(curve(work_dir).values())


def main() -> None:
    args = parse_args()
    work_dir = args.work_dir
    runs = {TEACHER: [run(TEACHER, work_dir / TEACHER, 'randomness.seed=0')]}
    checkpoint = (work_dir / TEACHER / 'last_checkpoint').read_text().strip()
    for name in STUDENTS:
        runs[name] = []
        for seed in args.seeds:
            options = [f'randomness.seed={seed}']
            if name != 'student':
                options.append(f'model.teacher_ckpt={checkpoint}')
            run_dir = work_dir / (f'{name}-{seed}' if seed else name)
            runs[name].append(run(name, run_dir, *options))
    seconds = {name: [took for took, _ in runs[name]] for name in runs}
    curves = {name: [curve for _, curve in runs[name]] for name in runs}
    result = table(curves, seconds, args.seeds)
    print(result)
    (work_dir / 'table.txt').write_text(f'{result}\n')
    draw(curves, work_dir / 'curves.png')
    print(f'Curves: {work_dir / "curves.png"}')


if __name__ == '__main__':
    try:
        main()
    except RunError as error:
        sys.exit(str(error))

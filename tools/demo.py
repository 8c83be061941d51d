# Copyright (c) sdd_mm contributors. All rights reserved.
"""Distill a small network on data that needs no download.

Trains a teacher on scenes of handwritten digits, then the same small student
alone and by KD, SD-KD and SD-DKD, each by tools/train.py and its config in
configs/demo/. Prints a table and draws the curves.
"""
import argparse
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
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


def table(curves: dict, seconds: dict, seeds: list) -> str:
    """Accuracy after the last epoch and seconds of a run."""
    from benchmarks.markdown import spread
    lines = ['', f'{"":14} {"top-1 (%)":>14} {"seconds":>8}']
    for name, runs in curves.items():
        accuracy = spread([[*run.values()][-1] for run in runs])
        lines.append(f'{STUDENTS.get(name, TEACHER):14} {accuracy:>14} '
                     f'{statistics.mean(seconds[name]):8.0f}')
    lines.append(f'Last epoch on 1,000 test scenes; students with seeds '
                 f'{", ".join(map(str, seeds))}, teacher with seed 0.')
    return '\n'.join(lines)


def demo(args: argparse.Namespace) -> None:
    from benchmarks.figures import draw
    from benchmarks.launch import accuracies, train
    seconds, curves, checkpoint = {}, {}, None
    for name in (TEACHER, *STUDENTS):
        seconds[name], curves[name] = [], []
        for seed in args.seeds if name in STUDENTS else [0]:
            folder = args.work_dir / (f'{name}-{seed}' if seed else name)
            options = [f'randomness.seed={seed}']
            if name not in (TEACHER, 'student'):
                options.append(f'model.teacher_ckpt={checkpoint}')
            config = ROOT / 'configs' / 'demo' / f'{name}.py'
            seconds[name].append(
                train(
                    config,
                    folder,
                    '--cfg-options',
                    *options,
                    title=folder.name))
            curves[name].append(accuracies(folder))
        if name == TEACHER:
            checkpoint = (folder / 'last_checkpoint').read_text().strip()
    result = table(curves, seconds, args.seeds)
    print(result)
    (args.work_dir / 'table.txt').write_text(f'{result}\n')
    draw(
        {
            STUDENTS.get(name, TEACHER): (runs, [])
            for name, runs in curves.items()
        }, args.work_dir / 'curves.png', 'demo')
    print(f'Curves: {args.work_dir / "curves.png"}')


def main() -> None:
    args = parse_args()
    sys.path.insert(0, str(ROOT))
    from benchmarks.launch import RunError
    try:
        demo(args)
    except RunError as error:
        sys.exit(str(error))


if __name__ == '__main__':
    main()

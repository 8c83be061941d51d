# Copyright (c) sdd_mm contributors. All rights reserved.
"""Command line of ``sdd_mm.distill``."""
import argparse
import sys


def parse_args(argv: list = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='python -m sdd_mm.distill',
        description='Distill a teacher into a student for a folder of '
        'pictures: write configs, train, report, export. What is done is not '
        'done again: stop it at any time, the same command goes on. Edit a '
        'config in OUT/configs and delete its work directory to train it anew')
    parser.add_argument(
        '--data',
        required=True,
        help='folder with a folder of pictures for each class, or with train/ '
        'and val/ that have these')
    for role in ('teacher', 'student'):
        parser.add_argument(
            f'--{role}',
            required=True,
            help=f'{role}: a name of mmpretrain.list_models(), '
            'mmpretrain::PATH, or a config file')
        parser.add_argument(
            f'--{role}-ckpt',
            help='path or URL of its weights, or none for random ones '
            '(default: those that MMPretrain publishes)')
    parser.add_argument(
        '--method', default='sd-kd', help='(default: %(default)s)')
    parser.add_argument(
        '--compare',
        nargs='+',
        default=[],
        metavar='METHOD',
        help='also train: alone (the student without a teacher), kd, ...')
    parser.add_argument(
        '--epochs',
        type=int,
        default=50,
        help='of every training (default: %(default)s)')
    parser.add_argument(
        '--time', help='of all trainings, such as 30m, in place of --epochs')
    for name, default, text in (('image-size', 224, 'in pixels'),
                                ('batch-size', 32, 'images per step'),
                                ('workers', 2, 'processes that load images'),
                                ('seed', 0, 'of the split and the trainings')):
        parser.add_argument(
            f'--{name}',
            type=int,
            default=default,
            help=f'{text} (default: %(default)s)')
    parser.add_argument(
        '--out', help='folder to write (default: work_dirs/distill/NAME)')
    return parser.parse_args(argv)


def main(argv: list = None) -> int:
    args = parse_args(argv)
    from .. import plugin  # noqa: F401  (first: it repairs the stack)
    from .. import safety
    from ..errors import SDDError
    from .run import distill
    safety.guard()
    try:
        distill(**vars(args))
    except SDDError as error:
        print(f'ERROR: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            'Interrupted. The same command goes on from here', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())

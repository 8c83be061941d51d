# Copyright (c) sdd_mm contributors. All rights reserved.
"""Write the config that distills into a student. See get_started.md."""
import argparse

from arguments import add_settings, parse_settings

NUMBERS = """
numbers:
  A method comes with those of configs/_base_/methods/: M = {1, 2, 4}, KD with
  tau 4, DKD with beta 8 and tau 4, NKD with gamma 1.5 and tau 1; DKD and NKD
  are warmed up over 20 epochs. A student of 1000 classes or more gets those of
  ImageNet (configs/sdd/*_res50_mbv1_imagenet.py): DKD with beta 2 and tau 1,
  plain KD with tau 1 and weights 0.5 and 0.5, and no warm-up. The methods that
  SDD is compared with have those of CIFAR-100, SemCKD and ReviewKD have others
  for ImageNet.
"""
RECORDER = """type=RegionHead for a model that is not linear after its pooling,
token_grid=14,14 for tokens without a class token, or pooling=neck.gap
head=head.fc to name the modules; of fitnet, sp, semckd and reviewkd
"sources=['backbone.layer1', ...]" to name the stages"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Write a config that inherits the recipe of a student and '
        'distills a teacher into it. Both are built and take one step on '
        'generated images before anything is written.',
        epilog=NUMBERS,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', metavar='OUT.py', help='config to write')
    parser.add_argument(
        '--student',
        required=True,
        help='config that trains the student alone: mmpretrain::PATH or a '
        'file')
    parser.add_argument(
        '--teacher',
        required=True,
        help='config of the teacher: mmpretrain::PATH, a file, timm::MODEL, '
        'or hf::FOLDER, a folder of transformers')
    parser.add_argument(
        '--teacher-ckpt',
        help='path or URL of its checkpoint (default: the published one, if '
        'there is just one; the weights of the folder; those that timm has '
        'downloaded)')
    parser.add_argument(
        '--method',
        default='sd-dkd',
        help='kd, dkd, nkd, sd-kd, sd-dkd, sd-nkd, or one that SDD is '
        'compared with: fitnet, rkd, sp, pkt, crd, semckd, reviewkd, mgd, '
        'sskd or sd-sskd (default: sd-dkd)')
    parser.add_argument(
        '--scales', type=int, nargs='+', help='scale set M, such as 1 2')
    for name, methods in (('tau', 'all'), ('beta', 'dkd and sd-dkd'),
                          ('gamma', 'nkd and sd-nkd')):
        parser.add_argument(
            f'--{name}', type=float, help=f'of the criterion of {methods}')
    parser.add_argument(
        '--warmup-epochs',
        type=int,
        help='of the distillation loss, 0 for none')
    for role in ('student', 'teacher'):
        add_settings(
            parser,
            f'--{role}-recorder',
            metavar='KEY=VALUE',
            help=f'recorder of the {role}, {RECORDER}')
    parser.add_argument(
        '--teacher-head',
        help="checkpoint of the teacher's RotationHead, for sskd and sd-sskd")
    parser.add_argument(
        '--teacher-size',
        type=int,
        help="height and width at which the teacher sees the student's images "
        '(default: as they are)')
    parser.add_argument(
        '--on-normalization-mismatch',
        choices=['error', 'convert', 'ignore'],
        default='error',
        help='what to do if the teacher was trained with another mean, std or '
        'channel order (default: error)')
    parser.add_argument(
        '--overwrite', action='store_true', help='replace OUT.py if it exists')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from common import refuse

    from sdd_mm import safety
    from sdd_mm.config_builder import ConfigBuilderError, make_config
    safety.guard()
    given = dict(vars(args))
    for role in ('student_recorder', 'teacher_recorder'):
        given[role] = parse_settings(given[role])
    criterion = {name: given.pop(name) for name in ('tau', 'beta', 'gamma')}
    try:
        out = make_config(
            given.pop('config'),
            criterion={
                name: value
                for name, value in criterion.items() if value is not None
            },
            **given)
    except ConfigBuilderError as error:
        refuse(args, error)
    print(f'{out} is written. Try it: python tools/train.py {out} --smoke 2')


if __name__ == '__main__':
    main()

# Copyright (c) sdd_mm contributors. All rights reserved.
"""Draw a network's predictions for every cell of a picture.

    python tools/analysis/explain_image.py \
        work_dirs/demo/sd-kd/epoch_12.pth picture.png --out verdicts.png

The picture goes through the validation pipeline of the run. A JSON beside the
PNG has the drawn predictions.
"""
import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path[:0] = map(str, Path(__file__).resolve().parents[:2])
from arguments import add_run_arguments, parse_settings  # noqa: E402

if TYPE_CHECKING:
    from sdd_mm.analysis import TrainedRun


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Draw a network\'s predictions for every cell of a '
        'picture')
    parser.add_argument('checkpoint', help='a checkpoint of a distillation')
    parser.add_argument('picture', help='an image file')
    parser.add_argument(
        '--role', choices=['teacher', 'student'], default='teacher')
    parser.add_argument(
        '--label',
        help='name of its class; without it, cells are compared with the '
        'prediction for the whole picture')
    parser.add_argument(
        '--scales', type=int, nargs='+', help='scales (default: the run\'s)')
    parser.add_argument(
        '--config',
        help='config of the run (default: the one in the checkpoint)')
    add_run_arguments(parser)
    parser.add_argument('--out', type=Path, default=Path('verdicts.png'))
    return parser.parse_args()


def load_picture(run: 'TrainedRun', path: str) -> dict:
    """Load a file as the run's validation does."""
    import mmcv
    import numpy as np
    from mmengine.dataset import Compose
    from mmengine.registry import DefaultScope

    from sdd_mm.analysis import validation_of
    from sdd_mm.engine.errors import PreflightError
    from sdd_mm.engine.smoke import ARRAY_SIZE
    from sdd_mm.images import innermost
    if not Path(path).is_file():
        raise PreflightError(f'there is no picture {path}')
    steps = innermost(validation_of(run.cfg)['dataset'])['pipeline']
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        pipeline = Compose(steps)
    try:
        image = mmcv.imread(path, channel_order='rgb')
        image.shape
    except Exception as error:  # another file may raise anything
        raise PreflightError(f'{path} cannot be read as an image') from error
    if run.loads_files:
        return pipeline(dict(img_path=path, gt_label=0))
    # a data set of small RGB arrays
    image = np.ascontiguousarray(mmcv.imresize(image, ARRAY_SIZE[::-1]))
    return pipeline(dict(img=image, gt_label=0))


def main() -> None:
    args = parse_args()
    import sdd_mm  # noqa: F401  isort: skip  (repairs the stack: first)
    from mmengine.dataset import default_collate

    from sdd_mm import safety
    from sdd_mm.analysis import load_run
    from sdd_mm.analysis.cell_figures import explain
    from sdd_mm.analysis.drawing import png
    from sdd_mm.engine.errors import PreflightError
    from sdd_mm.functional.local_logits import check_scales
    from sdd_mm.models.algorithms import TeacherError
    from sdd_mm.weights import listed
    safety.guard()
    try:
        if args.out.suffix != '.png':
            raise PreflightError(f'--out {args.out} must end in .png')
        try:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            scales = args.scales and check_scales(
                list(dict.fromkeys(args.scales)))
        except (OSError, ValueError) as error:
            raise PreflightError(str(error)) from error
        run = load_run(args.checkpoint, args.config, args.teacher_ckpt,
                       parse_settings(args.cfg_options), args.loss)
        if args.label is not None and args.label not in run.names:
            raise PreflightError(f'--label must be one of the classes '
                                 f'{listed(run.names)}, got {args.label!r}')
        data = load_picture(run, args.picture)
    except (PreflightError, TeacherError) as error:
        sys.exit(f'ERROR: {error}')
    outputs = run.classify(args.role, [default_collate([data])], scales)
    label = None if args.label is None else run.names.index(args.label)
    figure, found = explain(
        run.picture(data['inputs']), outputs, run.names, label,
        run.consistency)
    args.out.write_bytes(png(figure))
    args.out.with_suffix('.json').write_text(json.dumps(found, indent=1))
    print(f'The {args.role} predicts {found["verdict"]}. Written to '
          f'{args.out} and {args.out.with_suffix(".json")}')


if __name__ == '__main__':
    main()

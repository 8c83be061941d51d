# Copyright (c) sdd_mm contributors. All rights reserved.
"""Test a checkpoint. See docs/en/get_started.md."""
import argparse
from copy import deepcopy
from typing import TYPE_CHECKING

from arguments import add_common_arguments

if TYPE_CHECKING:
    from mmengine.config import Config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Test a model')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    add_common_arguments(parser)
    parser.add_argument('--out', help='file for the results')
    parser.add_argument(
        '--out-item',
        choices=['metrics', 'pred'],
        help='what --out writes. Defaults to pred')
    parser.add_argument(
        '--amp', action='store_true', help='test in mixed precision')
    parser.add_argument('--show-dir', help='folder for drawn predictions')
    parser.add_argument(
        '--show', action='store_true', help='show predictions in a window')
    parser.add_argument(
        '--interval', type=int, default=1, help='draw every Nth sample')
    parser.add_argument(
        '--wait-time',
        type=float,
        default=2,
        help='seconds that a window stays')
    parser.add_argument(
        '--tta', action='store_true', help='average over flipped images')
    args = parser.parse_args()
    if args.out_item and not args.out:
        parser.error('--out-item needs --out')
    return args


def configure(args: argparse.Namespace) -> 'Config':
    from common import finish_config, load_config
    cfg = load_config(args)
    cfg.load_from = args.checkpoint
    if args.amp:
        cfg.test_cfg.fp16 = True
    if args.show or args.show_dir:
        hooks = cfg.default_hooks = cfg.get('default_hooks') or {}
        hooks['visualization'] = dict(
            hooks.get('visualization') or dict(type='VisualizationHook'),
            enable=True,
            show=args.show,
            wait_time=args.wait_time,
            out_dir=args.show_dir,
            interval=args.interval)
    finish_config(cfg, args, ('test_dataloader', ))
    return cfg


def add_tta(cfg: 'Config') -> None:
    """Average the scores of an image and its mirror image."""
    from mmengine.config import ConfigDict
    cfg.setdefault('tta_model', dict(type='mmpretrain.AverageClsScoreTTA'))
    if 'tta_pipeline' not in cfg:
        *steps, pack = deepcopy(cfg.test_dataloader.dataset.pipeline)
        flips = [dict(type='RandomFlip', prob=prob) for prob in (1., 0.)]
        cfg.tta_pipeline = [
            *steps,
            dict(type='TestTimeAug', transforms=[flips, [pack]])
        ]
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline


def main() -> None:
    args = parse_args()
    from common import PreflightError, build_runner, refuse
    from mmengine.evaluator import DumpResults
    from mmengine.fileio import dump

    from sdd_mm.engine.preflight import check_testing
    try:
        cfg = configure(args)
        check_testing(cfg)
    except PreflightError as error:
        refuse(args, error)
    if args.tta:
        add_tta(cfg)
    runner = build_runner(cfg)
    if args.out and args.out_item != 'metrics':
        runner.test_evaluator.metrics.append(
            DumpResults(out_file_path=args.out))
    metrics = runner.test()
    if args.out_item == 'metrics':
        dump(metrics, args.out)


if __name__ == '__main__':
    main()

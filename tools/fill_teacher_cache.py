# Copyright (c) sdd_mm contributors. All rights reserved.
"""Ask the teacher for every view of a config's training images, ahead."""
import argparse

from arguments import add_common_arguments, positive


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Fill the teacher cache of a config with every view of '
        'its training images. Stop it at any time: the next call continues '
        'where this one stopped.')
    parser.add_argument(
        'config', help='config file with a TeacherCacheHook and a cache_dir')
    add_common_arguments(parser)
    parser.add_argument(
        '--batch-size',
        type=positive,
        default=256,
        help='images per forward of the teacher')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from common import (PreflightError, build_runner, finish_config,
                        load_config, refuse)

    from sdd_mm.engine.preflight import check_training
    from sdd_mm.teacher_cache import TeacherCacheError, TeacherCacheHook
    try:
        cfg = load_config(args)
        finish_config(cfg, args, ('train_dataloader', ))
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
        runner = build_runner(cfg, check_training(cfg))
        hook = next(
            (hook
             for hook in runner.hooks if isinstance(hook, TeacherCacheHook)),
            None)
        if hook is None or hook.cache_dir is None:
            raise PreflightError(
                'there is no cache to fill: add dict(type=\'TeacherCacheHook\''
                ', cache_dir=...) to custom_hooks')
        runner.train_loop  # builds the data
        runner._init_model_weights()
        hook.before_train(runner)
    except (PreflightError, TeacherCacheError) as error:
        refuse(args, error)
    hook.cache.fill(args.batch_size)
    failure = hook.cache.store.failure
    if failure is not None:
        refuse(
            args,
            TeacherCacheError(
                f'{hook.cache.store.folder} is not full and takes no more: '
                f'{failure}'))


if __name__ == '__main__':
    main()

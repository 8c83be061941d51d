# Copyright (c) sdd_mm contributors. All rights reserved.
"""What one training iteration passes through.

Runs ``tools/train.py`` on generated images and counts the files and functions
of this package that the third iteration enters, hooks included, and how deep
its calls are nested. No log line is due then, unless ``--log`` asks for one:

    python benchmarks/walk.py configs/sdd/sd-dkd_res50_mbv1_imagenet.py
"""
import argparse
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = f'{ROOT / "sdd_mm"}/'
COUNTED = 3


class Walk:
    """Counts what a profiled call enters."""

    def __init__(self) -> None:
        self.functions = set()
        self.depth = self.deepest = 0

    def __call__(self, frame, event, arg) -> None:
        code = frame.f_code
        if not code.co_filename.startswith(PACKAGE):
            return
        if event == 'call':
            self.functions.add((code.co_filename, code.co_qualname))
            self.depth += 1
            self.deepest = max(self.deepest, self.depth)
        elif event == 'return':
            self.depth -= 1

    def show(self) -> None:
        files = sorted({file for file, _ in self.functions})
        for file in files:
            names = sorted(n for f, n in self.functions if f == file)
            print(f'{file[len(PACKAGE):]}: {", ".join(names)}')
        print(f'{len(files)} files, {len(self.functions)} functions, '
              f'{self.deepest} calls deep')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config')
    parser.add_argument('--batch-size', type=int, default=2)
    parser.add_argument('--log', action='store_true')
    args = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]
    import sdd_mm  # noqa: F401  isort: skip  (repairs the stack: first)
    from mmengine.runner import EpochBasedTrainLoop
    walk, run_iter = Walk(), EpochBasedTrainLoop.run_iter

    def counted(self, index, data_batch) -> None:
        if self._iter == 0 and not args.log:
            for hook in self.runner.hooks:
                if getattr(hook, 'interval', None) == 1:
                    hook.interval = 10 * COUNTED
        if self._iter == COUNTED - 1:
            sys.setprofile(walk)
        try:
            run_iter(self, index, data_batch)
        finally:
            sys.setprofile(None)

    EpochBasedTrainLoop.run_iter = counted
    sys.argv = [
        'train.py', args.config, '--smoke',
        str(COUNTED + 1), '--cfg-options',
        f'train_dataloader.batch_size={args.batch_size}',
        'train_dataloader.num_workers=0'
    ]
    runpy.run_path(str(ROOT / 'tools' / 'train.py'), run_name='__main__')
    walk.show()


if __name__ == '__main__':
    main()

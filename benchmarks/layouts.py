# Copyright (c) sdd_mm contributors. All rights reserved.
"""How much channels last gains on a GPU: images a second, alone, bfloat16.

    python benchmarks/layouts.py [NETWORK ...]
"""
import copy
import statistics
import sys
import time
from pathlib import Path
from typing import Callable

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
import sdd_mm  # noqa: E402,F401  isort: skip
import torch  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmpretrain.registry import MODELS  # noqa: E402

BATCH = 512
LAYOUTS = dict(plain=torch.contiguous_format, last=torch.channels_last)


def rate(step: Callable[[], None]) -> float:
    """Images a second: the median of five rounds of ten steps."""
    times = []
    for _ in range(6):
        start = time.perf_counter()
        for _ in range(10):
            step()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - start) / 10)
    return BATCH / statistics.median(times[1:])


def measure(cfg: dict, layout: torch.memory_format) -> tuple:
    """Images a second of training and of inference."""
    model = MODELS.build(copy.deepcopy(cfg)).cuda().to(memory_format=layout)
    images = torch.randn(BATCH, 3, 32, 32, device='cuda')
    images = images.contiguous(memory_format=layout)
    labels = torch.randint(100, (BATCH, ), device='cuda')
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)

    def train() -> None:
        with torch.autocast('cuda', torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def infer() -> None:
        with torch.autocast('cuda', torch.bfloat16):
            model(images)

    return rate(model.train() and train), rate(model.eval() and infer)


def main() -> None:
    torch.backends.cudnn.benchmark = True
    print(f'{torch.cuda.get_device_name()}, torch {torch.__version__}, '
          f'bfloat16, batches of {BATCH}, images a second')
    for name in sys.argv[1:] or ('res32x4', 'res8x4'):
        path = ROOT / 'configs' / 'vanilla' / f'{name}_cifar100.py'
        for title, layout in LAYOUTS.items():
            found = measure(Config.fromfile(path).model, layout)
            print(
                f'{name}, {title}: train {found[0]:.0f}, '
                f'infer {found[1]:.0f}',
                flush=True)


if __name__ == '__main__':
    main()

# Copyright (c) sdd_mm contributors. All rights reserved.
"""Whether a fused row loss is faster on a GPU: eager, compiled, and Triton.

    python benchmarks/fused.py

Milliseconds of forward and backward, median of 20 rounds of 20 calls.
"""
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import Callable

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
import sdd_mm  # noqa: E402,F401  isort: skip
import torch  # noqa: E402
import triton  # noqa: E402
import triton.language as tl  # noqa: E402

from benchmarks.speed import shapes  # noqa: E402
from sdd_mm.functional import dkd_loss, kd_loss, nkd_loss  # noqa: E402

CASES = (('CIFAR', shapes.CIFAR), ('ImageNet', shapes.IMAGENET))


@triton.jit
def kd_rows(student, teacher, loss, slope, classes, tau, BLOCK: tl.constexpr):
    """A row of KD's loss and derivative, in one pass over the logits."""
    row = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, BLOCK)
    known = place < classes
    at = row * classes + place
    s = tl.load(student + at, mask=known, other=-float('inf')) / tau
    t = tl.load(teacher + at, mask=known, other=-float('inf')) / tau
    s -= tl.max(s, 0)
    t -= tl.max(t, 0)
    p, q = tl.exp(s), tl.exp(t)
    p_total, q_total = tl.sum(p, 0), tl.sum(q, 0)
    q /= q_total
    terms = tl.where(known & (q > 0),
                     q * (t - s - tl.log(q_total) + tl.log(p_total)), 0.)
    tl.store(loss + row, tau * tau * tl.sum(terms, 0))
    tl.store(slope + at, tau * (p / p_total - q), mask=known)


class FusedKD(torch.autograd.Function):
    """:func:`sdd_mm.functional.kd_loss` by the kernel above."""

    @staticmethod
    def forward(ctx, student, teacher, tau):
        classes = student.shape[-1]
        loss = student.new_empty(student.shape[:-1])
        slope = torch.empty_like(student)
        kd_rows[(loss.numel(), )](
            student,
            teacher,
            loss,
            slope,
            classes,
            tau,
            BLOCK=triton.next_power_of_2(classes))
        ctx.save_for_backward(slope)
        return loss

    @staticmethod
    def backward(ctx, grad):
        slope, = ctx.saved_tensors
        return grad.unsqueeze(-1) * slope, None, None


def milliseconds(step: Callable[[], None]) -> float:
    for _ in range(5):
        step()
    times = []
    for _ in range(20):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(20):
            step()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - start) / 20)
    return 1e3 * statistics.median(times)


def backward_of(loss: Callable, student: torch.Tensor) -> Callable[[], None]:
    return lambda: torch.autograd.grad(loss().mean(), student)


def main() -> None:
    print(f'{torch.cuda.get_device_name()}, torch {torch.__version__}, '
          'milliseconds of forward and backward')
    for title, shape in CASES:
        sizes = (shape.cells, shape.batch, shape.classes)
        student = (4 * torch.randn(sizes, device='cuda')).requires_grad_()
        teacher = 4 * torch.randn(sizes, device='cuda')
        labels = torch.randint(shape.classes, sizes[:2], device='cuda')
        rows = dict(
            KD=partial(kd_loss, student, teacher),
            DKD=partial(dkd_loss, student, teacher, labels),
            NKD=partial(nkd_loss, student, teacher, labels))
        for name, eager in rows.items():
            found = dict(
                eager=eager, compiled=torch.compile(eager, dynamic=False))
            if name == 'KD':
                found['Triton'] = partial(FusedKD.apply, student, teacher, 4.)
                torch.testing.assert_close(
                    found['Triton'](), eager(), rtol=1e-4, atol=1e-5)
            show(f'rows of {name}, {title}', student, found)
        loss = shapes.Loss(shape, 'KD', 'cuda')
        show(f'SD-KD from the maps, {title}', loss.student,
             dict(eager=loss.ours, compiled=torch.compile(loss.ours)))


def show(title: str, leaves, found: dict) -> None:
    for name, loss in found.items():
        try:
            value = f'{milliseconds(backward_of(loss, leaves)):.3f}'
        except Exception as error:
            value = f'{type(error).__name__}: {str(error)[:200]}'
        print(f'{title}, {name}: {value}', flush=True)


if __name__ == '__main__':
    main()

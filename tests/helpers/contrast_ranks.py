# Copyright (c) sdd_mm contributors. All rights reserved.
"""Two steps of CRD on a part of a batch, for test_distributed.py.

    python tests/helpers/contrast_ranks.py PROCESSES OUT
"""
import sys
from pathlib import Path

sys.path[:0] = map(str, Path(__file__).resolve().parents[:3])
import sdd_mm  # noqa: E402,F401  isort: skip
import torch  # noqa: E402
from mmengine.dist import get_rank, get_world_size, init_dist  # noqa: E402
from mmrazor.registry import MODELS  # noqa: E402
from ranks import launch  # noqa: E402


def main(out):
    init_dist('pytorch', backend='gloo')
    torch.set_num_threads(1)
    torch.manual_seed(0)
    loss = MODELS.build(
        dict(
            type='ContrastiveLoss',
            student_channels=6,
            teacher_channels=8,
            num_data=30,
            num_negatives=5,
            dim=4)).double()
    features = torch.randn(2, 8, 6).double(), torch.randn(2, 8, 8).double()
    negatives = torch.randint(30, (2, 8, 5))
    # in the second step an image occurs on both ranks
    index = torch.stack([torch.arange(8), torch.tensor([9] * 8)])
    part = slice(get_rank(), None, get_world_size())
    values = []
    for step in range(2):
        student, teacher = (x[step][part] for x in features)
        value = loss.contrast(student, teacher, index[step][part],
                              negatives[step][part])
        torch.distributed.all_reduce(value)
        values.append(value.item() / get_world_size())
    # what one rank has, all have
    state = torch.cat([x.flatten() for x in loss.buffers()])
    others = [torch.empty_like(state) for _ in range(get_world_size())]
    torch.distributed.all_gather(others, state)
    assert all(torch.equal(other, state) for other in others)
    if get_rank() == 0:
        torch.save(
            dict(
                values=values,
                normalizers=loss.normalizers,
                first=loss.memory_student[:8]),
            Path(out) / 'found.pth')


if __name__ == '__main__':
    launch(main)

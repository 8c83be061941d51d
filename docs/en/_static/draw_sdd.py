# Copyright (c) sdd_mm contributors. All rights reserved.
"""Draw sdd.png: a real teacher's verdict on every cell of a real scene.

Usage, after `make demo`:
    python docs/en/_static/draw_sdd.py work_dirs/demo/teacher/epoch_6.pth
"""
import sys
from pathlib import Path

import sdd_mm  # isort: skip
import matplotlib
import torch
from mmengine.config import Config
from mmpretrain.registry import DATASETS, MODELS

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

HERE = Path(__file__).resolve().parent
CONFIG = HERE.parents[2] / 'configs' / 'demo' / 'teacher.py'
SCENE, SCALES = 29, (1, 2, 4)
CONSISTENT, COMPLEMENTARY = '#3b76b5', '#e8862d'


def verdicts(checkpoint: str):
    """The scene, its label, and the teacher's class of every cell."""
    cfg = Config.fromfile(CONFIG)
    cfg.model.data_preprocessor = cfg.data_preprocessor
    model = MODELS.build(cfg.model).eval()
    model.load_state_dict(torch.load(checkpoint)['state_dict'])
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    sample = dataset[SCENE]
    images = model.data_preprocessor(
        dict(inputs=sample['inputs'][None]))['inputs']
    with torch.no_grad():
        feature = model.backbone(images)[-1]
    head = sdd_mm.FeatureHead(feature, model.head.fc.weight,
                              model.head.fc.bias)
    cells = head.local_logits(SCALES)[:, 0].argmax(-1)
    label = sample['data_samples'].gt_label.item()
    return sample['inputs'].permute(1, 2, 0), label, cells.tolist()


def main() -> None:
    scene, label, cells = verdicts(sys.argv[1])
    figure, axes = plt.subplots(1, 4, figsize=(10, 2.9), layout='constrained')
    for ax in axes:
        ax.imshow(scene, extent=(0, 1, 1, 0))
        ax.set_axis_off()
    axes[0].set_title(f'a scene, label {label}', fontsize=11)
    titles = ('scale 1: plain distillation', 'scale 2: 4 cells',
              'scale 4: 16 cells')
    start, right = 0, cells[0] == label
    for ax, scale, title in zip(axes[1:], SCALES, titles):
        ax.set_title(title, fontsize=11)
        for index, verdict in enumerate(cells[start:start + scale**2]):
            row, column = divmod(index, scale)
            consistent = (verdict == label) == right
            color = CONSISTENT if consistent else COMPLEMENTARY
            ax.add_patch(
                plt.Rectangle((column / scale, row / scale),
                              1 / scale,
                              1 / scale,
                              facecolor=(color, 0.45),
                              edgecolor='white',
                              linewidth=1.5))
            ax.text(
                (column + 0.5) / scale, (row + 0.5) / scale,
                str(verdict),
                ha='center',
                va='center',
                color='white',
                weight='bold',
                fontsize=24 / scale**0.4)
        start += scale**2
    figure.savefig(HERE / 'sdd.png', dpi=130)


if __name__ == '__main__':
    main()

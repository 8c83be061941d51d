# Copyright (c) sdd_mm contributors. All rights reserved.
"""Draw sdd.png: a real teacher's verdict on every cell of a real scene.

Usage, after `make demo`:
    python docs/en/_static/draw_sdd.py work_dirs/demo/sd-kd/epoch_12.pth [OUT]
"""
import sys
from pathlib import Path

import sdd_mm  # noqa: F401  isort: skip
import matplotlib.pyplot as plt
from mmengine.dataset import default_collate

from sdd_mm.analysis import load_run, validation_loader
from sdd_mm.analysis.drawing import draw_cells

HERE = Path(__file__).resolve().parent
SCENE = 29
TITLES = {
    1: 'scale 1: plain distillation',
    2: 'scale 2: 4 cells',
    4: 'scale 4: 16 cells'
}


def main() -> None:
    run = load_run(sys.argv[1])
    sample = validation_loader(run.cfg).dataset[SCENE]
    teacher = run.classify('teacher', [default_collate([sample])])
    scene, label = run.picture(sample['inputs']), teacher.labels[0].item()
    figure, axes = plt.subplots(1, 4, figsize=(10, 2.9), layout='constrained')
    axes[0].imshow(scene)
    axes[0].set_axis_off()
    axes[0].set_title(f'a scene, label {label}', fontsize=11)
    consistent = teacher.split(teacher.consistent(run.consistency))
    for ax, (scale, title), same in zip(axes[1:], TITLES.items(), consistent):
        draw_cells(ax, scene,
                   teacher.at(scale)[:, 0].tolist(), same[:, 0].tolist(),
                   run.names, 2.5, title)
    out = sys.argv[2] if len(sys.argv) > 2 else HERE / 'sdd.png'
    figure.savefig(out, dpi=130)


if __name__ == '__main__':
    main()

# Copyright (c) sdd_mm contributors. All rights reserved.
"""Convert a checkpoint of RepDistiller, mdistiller or SDD's authors.

    python tools/model_converters/repdistiller_to_mmpretrain.py \
        resnet32x4_cifar100 ckpt_epoch_240.pth resnet32x4_cifar100.pth
"""
from command import MODELS, run

if __name__ == '__main__':
    names = sorted(
        path.stem for path in MODELS.glob('*.py')
        if path.stem.endswith(('_cifar100', '_cub200', '_imagenet')))
    run('RepDistiller, mdistiller or SDD\'s authors', names)

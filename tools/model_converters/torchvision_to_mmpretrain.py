# Copyright (c) sdd_mm contributors. All rights reserved.
"""Convert a ResNet of torchvision.

    python tools/model_converters/torchvision_to_mmpretrain.py \
        resnet50 resnet50-19c8e357.pth resnet50.pth
"""
from command import run

if __name__ == '__main__':
    run('torchvision', ['resnet18', 'resnet34', 'resnet50'], '_imagenet')

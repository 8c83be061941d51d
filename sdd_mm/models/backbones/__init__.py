# Copyright (c) sdd_mm contributors. All rights reserved.
from .cifar_resnet import CIFARResNet
from .cifar_vgg import CIFARVGG
from .mobilenet_v1 import MobileNetV1

__all__ = ['CIFARResNet', 'CIFARVGG', 'MobileNetV1']

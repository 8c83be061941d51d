# Copyright (c) sdd_mm contributors. All rights reserved.
from .cifar import VerifiedCIFAR100
from .digit_scenes import DigitScenes
from .generated_images import GeneratedImages

__all__ = ['DigitScenes', 'GeneratedImages', 'VerifiedCIFAR100']

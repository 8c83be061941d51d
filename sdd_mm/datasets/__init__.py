# Copyright (c) sdd_mm contributors. All rights reserved.
from .cifar import VerifiedCIFAR100
from .collate import batch_or_collate
from .digit_scenes import DigitScenes
from .generated_images import GeneratedImages
from .in_memory import InMemoryDataset

__all__ = [
    'DigitScenes', 'GeneratedImages', 'InMemoryDataset', 'VerifiedCIFAR100',
    'batch_or_collate'
]

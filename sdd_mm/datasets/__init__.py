# Copyright (c) sdd_mm contributors. All rights reserved.
from .cifar import VerifiedCIFAR100
from .collate import batch_or_collate
from .digit_scenes import DigitScenes
from .generated_images import GeneratedImages
from .in_memory import InMemoryDataset
from .paired_inputs import (ApplyToBoth, LoadTeacherImage, PackPairedInputs,
                            PairedInputsError)
from .privileged_scenes import PrivilegedDigitScenes

__all__ = [
    'ApplyToBoth', 'DigitScenes', 'GeneratedImages', 'InMemoryDataset',
    'LoadTeacherImage', 'PackPairedInputs', 'PairedInputsError',
    'PrivilegedDigitScenes', 'VerifiedCIFAR100', 'batch_or_collate'
]

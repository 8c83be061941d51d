# Copyright (c) sdd_mm contributors. All rights reserved.
"""A script that classifies pictures by an ONNX file, without this package."""
from typing import List, Optional, Tuple

from mmengine.config import Config

from ..images import LOADERS, channel_order, innermost

NAME = 'infer.py'
SCRIPT = '''\
"""Classify pictures: python infer.py STUDENT.onnx PICTURE ...{note}"""
import json
import sys

import numpy as np
from onnxruntime import InferenceSession
from PIL import Image, ImageOps

session = InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])
classes = json.loads(session.get_modelmeta().custom_metadata_map['classes'])
for path in sys.argv[2:]:
    image = ImageOps.exif_transpose(Image.open(path)).convert({mode!r})
    {steps}
    logits = session.run(None, dict(images=np.float32(image)[None]))[0][0]
    shares = np.exp(logits - logits.max())
    best = int(logits.argmax())
    share = shares[best] / shares.sum()
    print(path, classes[best], f'{{share:.1%}}', sep='\\t')
'''
OPENCV = '''

Validation resized by OpenCV, whose pixels differ a little from Pillow's. Set
backend='pillow' in the pipelines to train and validate on the same pixels.
'''


def infer_script(cfg: Config, size: Tuple[int, int]) -> Optional[str]:
    """The script for a student's test pipeline.

    Args:
        cfg (Config): The student's plain config.
        size (tuple[int, int]): Height and width that the ONNX file takes, in
            pixels.

    Returns:
        str | None: The script, or None if the pipeline does more than to
        load, resize, and crop the center.
    """
    loader = cfg.get('test_dataloader') or cfg.get('val_dataloader')
    if not loader:
        return None
    lines: List[str] = []
    mode, note = 'RGB', ''
    for step in innermost(loader['dataset']).get('pipeline', ()):
        kind = step['type'].split('.')[-1]
        if step['type'] in LOADERS:
            mode = dict(grayscale='L').get(step.get('color_type'), 'RGB')
        elif kind in STEPS:
            lines += STEPS[kind](step)
            if 'Resize' in kind and step.get('backend', 'cv2') != 'pillow':
                note = OPENCV
        elif not kind.startswith('Pack'):
            return None
    if not lines:
        shape = size[1], size[0]
        lines = [f'image = image.resize({shape}, Image.BILINEAR)']
    if mode == 'L':
        lines.append('image = np.asarray(image)[None]')
    else:
        bgr = '[..., ::-1]' * (channel_order(loader) != 'RGB')
        lines.append(f'image = np.asarray(image){bgr}.transpose(2, 0, 1)'
                     f'{"  # BGR" * bool(bgr)}')
    return SCRIPT.format(note=note, mode=mode, steps='\n    '.join(lines))


def _resize(step: dict) -> List[str]:
    scale = step['scale']
    size = (scale, scale) if isinstance(scale, int) else tuple(scale)
    return [f'image = image.resize({size}, {_filter(step)})']


def _resize_edge(step: dict) -> List[str]:
    scale, edge = step['scale'], step.get('edge', 'short')
    test = dict(
        short='width < height',
        long='width > height',
        width='True',
        height='False')[edge]
    return [
        'width, height = image.size', f'if {test}:',
        f'    size = {scale}, int({scale} * height / width)', 'else:',
        f'    size = int({scale} * width / height), {scale}',
        f'image = image.resize(size, {_filter(step)})'
    ]


def _center_crop(step: dict) -> List[str]:
    size = step['crop_size']
    width, height = (size, size) if isinstance(size, int) else size
    return [
        f'left = round((image.width - {width}) / 2)',
        f'top = round((image.height - {height}) / 2)',
        f'image = image.crop((left, top, left + {width}, top + {height}))'
    ]


def _filter(step: dict) -> str:
    return f'Image.{step.get("interpolation", "bilinear").upper()}'


STEPS = dict(Resize=_resize, ResizeEdge=_resize_edge, CenterCrop=_center_crop)

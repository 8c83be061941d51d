# Copyright (c) sdd_mm contributors. All rights reserved.
"""A student as a graph, for machines without this package."""
import warnings
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from ..engine.smoke import ARRAY_SIZE, FILE_SIZE
from ..images import LOADERS, innermost, loads_files
from ..models.algorithms.teacher import normalization
from .checkpoint import ConversionError

TOLERANCE = 1e-4  # of the largest logit


class StudentGraph(nn.Module):
    """Images in, logits out: the normalisation is a part of it.

    Args:
        model (nn.Module): A classifier of MMPretrain with its data
            preprocessor.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        preprocessor = model.data_preprocessor
        normalize = getattr(preprocessor, '_enable_normalize', False)
        self.model = model
        self.flip = normalization(model)[2]
        self.register_buffer(
            'mean', preprocessor.mean if normalize else torch.zeros(3, 1, 1))
        self.register_buffer(
            'std', preprocessor.std if normalize else torch.ones(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """The logits.

        Args:
            images (Tensor): Shape (B, 3, H, W), from 0 to 255, in the order of
                channels that the config's pipeline gives (BGR where
                ``data_preprocessor.to_rgb`` is True).

        Returns:
            Tensor: Shape (B, K).
        """
        if self.flip:
            images = images.flip(1)
        return self.model((images - self.mean) / self.std)


def sample_images(cfg: Config, count: int = 2) -> Tensor:
    """Noise, as large as the test pipeline of a config makes its images.

    Args:
        cfg (Config): A config with a ``test_dataloader``.
        count (int): How many. Defaults to 2.

    Raises:
        ConversionError: If the config has no test pipeline.

    Returns:
        Tensor: Shape (count, 3, H, W), from 0 to 255.
    """
    loader = cfg.get('test_dataloader') or cfg.get('val_dataloader')
    if not loader or not innermost(loader['dataset']).get('pipeline'):
        raise ConversionError('the config has no test_dataloader with a '
                              'pipeline, which says how large images are')
    steps = innermost(loader['dataset'])['pipeline']
    size = FILE_SIZE if loads_files(loader) else ARRAY_SIZE
    rng = np.random.default_rng(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        pipeline = Compose(
            [step for step in steps if step['type'] not in LOADERS])
    images = []
    for _ in range(count):
        image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        images.append(
            pipeline(
                dict(img=image, img_shape=size, ori_shape=size,
                     gt_label=0))['inputs'].float())
    return torch.stack(images)


def to_torchscript(graph: StudentGraph, path: Path, images: Tensor) -> float:
    """Write a TorchScript file, and compare it.

    Args:
        graph (StudentGraph): The student, in evaluation mode.
        path (Path): Where to write.
        images (Tensor): What to trace with, shape (B, 3, H, W). B may differ
            later, H and W may not.

    Raises:
        ConversionError: If the file gives other logits.

    Returns:
        float: The largest difference, as a part of the largest logit.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # it is deprecated, and asked for
        torch.jit.trace(graph, images[:1]).save(str(path))
        with torch.no_grad():
            found = torch.jit.load(str(path))(images)
    return _compare(graph, images, found, path)


def to_onnx(graph: StudentGraph, path: Path, images: Tensor) -> float:
    """Write an ONNX file, and compare what onnxruntime makes of it.

    Args:
        graph (StudentGraph): The student, in evaluation mode.
        path (Path): Where to write.
        images (Tensor): What to trace with, shape (B, 3, H, W). B may differ
            later, H and W may not.

    Raises:
        ConversionError: If onnx, onnxscript or onnxruntime is missing, or the
            file gives other logits.

    Returns:
        float: The largest difference, as a part of the largest logit.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConversionError(
            f'ONNX needs {error.name}: pip install "sdd_mm[onnx]"') from error
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.onnx.export(
            graph, (images, ),
            str(path),
            input_names=['images'],
            output_names=['logits'],
            dynamic_shapes=dict(images={0: torch.export.Dim('batch')}),
            dynamo=True,
            external_data=False,
            verbose=False)
    onnx.checker.check_model(str(path))
    session = onnxruntime.InferenceSession(
        str(path), providers=['CPUExecutionProvider'])
    # another batch size than the one that was traced
    more = torch.cat([images, images.flip(0)])
    found, = session.run(None, dict(images=more.numpy()))
    return _compare(graph, more, torch.from_numpy(found), path)


def _compare(graph: StudentGraph, images: Tensor, found: Tensor,
             path: Path) -> float:
    with torch.no_grad():  # by the data preprocessor itself
        data = graph.model.data_preprocessor(dict(inputs=images.clone()))
        wanted = graph.model(data['inputs'])
    difference = ((found - wanted).abs().max() /
                  wanted.abs().max().clamp(min=1e-12)).item()
    if not difference <= TOLERANCE:
        raise ConversionError(
            f'{path} gives other logits than the student: they differ by '
            f'{difference:.1e} of the largest, {TOLERANCE:.0e} is allowed. '
            'Is there more in data_preprocessor than mean, std and to_rgb?')
    return difference

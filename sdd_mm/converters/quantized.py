# Copyright (c) sdd_mm contributors. All rights reserved.
"""A student in eight bits, and ONNX files measured on validation images."""
import copy
import logging
import statistics
import tempfile
import time
from pathlib import Path
from typing import Dict, Iterator, List

import numpy as np
import torch
from mmengine.config import Config
from torch.utils.data import DataLoader

from ..analysis.comparison import Cost, Measured, milliseconds
from ..analysis.validation import (evenly_spaced, labels_of, validation_loader,
                                   validation_of)
from ..images import innermost
from ..structures import student_part
from .checkpoint import ConversionError

CALIBRATION = 256
"""Training images that choose the ranges of the activations."""
REPEATS = 30


class Calibration:
    """Images for onnxruntime, which asks for one batch after another.

    Args:
        batches (Iterator[ndarray]): Images, (B, C, H, W).
    """

    def __init__(self, batches: Iterator[np.ndarray]) -> None:
        self.batches = batches

    def get_next(self) -> Dict[str, np.ndarray]:
        """The next batch by the name of the graph's input, or None."""
        images = next(self.batches, None)
        return None if images is None else dict(images=images)


def quantize(content: bytes, cfg: Config) -> bytes:
    """Quantize weights and activations of an ONNX file to eight bits.

    Weights per channel; the ranges of the activations are those of
    ``CALIBRATION`` evenly spaced training images behind the test pipeline.

    Args:
        content (bytes): The ONNX file of a student.
        cfg (Config): Its plain config, whose ``train_dataloader`` has the
            images.

    Returns:
        bytes: The quantized ONNX file, with the same metadata.

    Raises:
        ConversionError: If the training images cannot be loaded, or
            onnxruntime cannot quantize the network.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process
    loader = calibration_loader(cfg)
    logger, level = logging.getLogger(), logging.getLogger().level
    with tempfile.TemporaryDirectory() as folder:
        plain, ready, done = (
            Path(folder, name) for name in ('plain', 'ready', 'done'))
        plain.write_bytes(content)
        try:
            logger.setLevel(logging.ERROR)  # it advises what is done here
            quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
            quantization.quantize_static(
                str(ready),
                str(done),
                Calibration(images for images, _ in batches(loader)),
                # the pair that is fast on x86, see docs/en/photos.md
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                per_channel=True)
        except Exception as error:  # onnxruntime may raise anything
            raise ConversionError(
                'the student cannot be quantized: '
                f'{type(error).__name__}: {error}') from error
        finally:
            logger.setLevel(level)
        return done.read_bytes()


def calibration_loader(cfg: Config) -> DataLoader:
    """Training images behind the test pipeline.

    Args:
        cfg (Config): A config with both dataloaders.

    Raises:
        ConversionError: If it has no ``train_dataloader``.
    """
    if not cfg.get('train_dataloader'):
        raise ConversionError(
            'int8 is calibrated on training images: the config has no '
            'train_dataloader')
    test = validation_of(cfg)
    dataset = copy.deepcopy(innermost(cfg.train_dataloader['dataset']))
    dataset['pipeline'] = innermost(test['dataset'])['pipeline']
    loader = dict(test, dataset=dataset, batch_size=16)
    return evenly_spaced(
        validation_loader(Config(dict(val_dataloader=loader))), CALIBRATION)


def batches(loader: DataLoader) -> Iterator[tuple]:
    """Images as float32, (B, C, H, W), and their labels, (B,)."""
    for batch in loader:
        images = student_part(batch['inputs'])
        if not isinstance(images, torch.Tensor):
            images = torch.stack(list(images))
        yield images.float().numpy(), labels_of(batch['data_samples'])


class Run:
    """An ONNX file in onnxruntime on the CPU.

    Args:
        content (bytes): The file.
    """

    def __init__(self, content: bytes) -> None:
        from onnxruntime import InferenceSession
        self.session = InferenceSession(
            content, providers=['CPUExecutionProvider'])
        self.size = len(content)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Logits, (B, K), of images, (B, C, H, W)."""
        return self.session.run(None, dict(images=images))[0]

    def measure(self, loader: DataLoader) -> Measured:
        """Classify the images of a dataloader, and time the file."""
        right = self.right(loader)
        latency = {size: self.latency(size) for size in (1, 32)}
        return Measured(right, Cost(None, None, latency, self.size))

    def right(self, loader: DataLoader) -> torch.Tensor:
        """Which images of a dataloader are classified correctly, (n,)."""
        found: List[torch.Tensor] = []
        for images, labels in batches(loader):
            verdicts = torch.from_numpy(self.logits(images)).argmax(1)
            found.append(verdicts == labels)
            self._images = images
        return torch.cat(found)

    def latency(self, size: int) -> float:
        """Median seconds of a batch of so many of the images seen last."""
        images = np.repeat(self._images[:1], size, axis=0)
        seconds = []
        for _ in range(REPEATS if size == 1 else REPEATS // 3):
            start = time.perf_counter()
            self.logits(images)
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds[2:])

    def describe(self, loader: DataLoader) -> str:
        """Accuracy, latency and size in words."""
        found = self.measure(loader)
        one, many = map(milliseconds, found.cost.latency.values())
        return (f'top-1 {found.accuracy:.2f} % of {len(found.right)} '
                f'validation images; {one} for 1 image, {many} for 32 (CPU); '
                f'{self.size / 2**20:.2f} MiB')

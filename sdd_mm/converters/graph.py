# Copyright (c) sdd_mm contributors. All rights reserved.
"""A student as an ONNX or TorchScript file."""
import json
import re
import tempfile
import warnings
from pathlib import Path
from typing import Dict, NamedTuple, Optional, Sequence, Tuple

import torch
from mmengine.config import Config
from torch import Tensor, nn

from ..images import channel_order, innermost
from ..input_format import InputFormat
from .checkpoint import ConversionError
from .sample_images import describe_images, sample_images
from .windows import traceable_windows

TOLERANCE = 1e-4
"""Largest difference of logits, relative to the largest logit."""
METADATA = 'metadata.json'
"""The extra file of a TorchScript file that has its metadata."""
COLOR = re.compile(r'\x1b\[[0-9;]*m')


class StudentGraph(nn.Module):
    """A classifier with its normalization: from images to logits.

    Args:
        model (nn.Module): A classifier of MMPretrain with its data
            preprocessor.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        images = InputFormat.of_model(model)
        self.model = model
        self.flip = images.to_rgb
        for name in ('mean', 'std'):
            values = torch.tensor(getattr(images, name))
            self.register_buffer(name, values.view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images.

        Args:
            images (Tensor): Shape (B, C, H, W), as the config's pipeline gives
                them: from 0 to 255, BGR if they come from files, whatever
                ``data_preprocessor.to_rgb`` is.

        Returns:
            Tensor: Logits, (B, K).
        """
        if self.flip:
            images = images.flip(1)
        return self.model((images - self.mean) / self.std)


class Graph(NamedTuple):
    """A file that computes the student's logits.

    Args:
        content (bytes): The file.
        text (str): Its images, and how far its logits differ.
        size (tuple[int, int]): Height and width of its images, in pixels.
    """
    content: bytes
    text: str
    size: Tuple[int, int]


def write_graphs(
    model: nn.Module,
    cfg: Config,
    kinds: Sequence[str],
    size: Optional[Tuple[int, int]],
    classes: Sequence[str] = ()
) -> Dict[str, Graph]:
    """Export a student, and compare the files with it.

    Args:
        model (nn.Module): The student, in eval mode.
        cfg (Config): Its plain config.
        kinds (Sequence[str]): 'onnx', 'torchscript', both or none.
        size (tuple[int, int], optional): Height and width of the images in
            pixels. None: see :func:`sample_images`.
        classes (Sequence[str]): Names of the classes, for the metadata.
            Defaults to (), unknown.

    Returns:
        dict[str, Graph]: The files by their kinds.

    Raises:
        ConversionError: If the size is not known, a package is missing, the
            student cannot be exported, or a file gives other logits.
    """
    if not kinds:
        return {}
    graph, images = StudentGraph(model).eval(), sample_images(cfg, size)
    shape = ', '.join(map(str, images.shape[1:]))
    facts, found = facts_of(model, cfg, images, classes), {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            path = Path(folder) / f'student.{kind}'
            try:
                difference = WRITERS[kind](graph, path, images, facts)
            except ConversionError:
                raise
            except Exception as error:  # torch supports not every network
                cause = error.__cause__ or error  # what torch wraps
                reason = COLOR.sub('', str(cause)).strip().partition('\n')[0]
                raise ConversionError(
                    f'{type(model.backbone).__name__} cannot be exported as '
                    f'{kind}: {type(cause).__name__}: {reason}') from error
            found[kind] = Graph(
                path.read_bytes(),
                f'images (B, {shape}){describe_images(cfg)}, to logits that '
                f'differ from the student\'s by {difference:.0e} of the '
                'largest', tuple(images.shape[2:]))
    return found


def facts_of(model: nn.Module, cfg: Config, images: Tensor,
             classes: Sequence[str]) -> Dict[str, str]:
    """What a program must know of a graph, as the metadata of its file.

    Args:
        model (nn.Module): The student.
        cfg (Config): Its plain config.
        images (Tensor): Images that it takes, (B, C, H, W).
        classes (Sequence[str]): Names of its classes.

    Returns:
        dict[str, str]: ``classes`` and ``pipeline`` (what comes before the
        graph) as JSON; ``channel_order`` of the images, or nothing if the
        config does not say; ``height`` and ``width`` in pixels; and, for
        information, ``mean`` and ``std``, which the graph applies, as JSON.
    """
    own = InputFormat.of_model(model)
    loader = cfg.get('test_dataloader') or cfg.get('val_dataloader')
    steps = innermost(loader['dataset']).get('pipeline') if loader else None
    height, width = images.shape[2:]
    return dict(
        classes=json.dumps(list(map(str, classes))),
        channel_order=(channel_order(loader) if loader else None) or '',
        height=str(height),
        width=str(width),
        mean=json.dumps(own.mean),
        std=json.dumps(own.std),
        pipeline=json.dumps(steps or [], default=str))


@traceable_windows()
def to_torchscript(graph: StudentGraph,
                   path: Path,
                   images: Tensor,
                   facts: Optional[Dict[str, str]] = None) -> float:
    """Write a TorchScript file, and compare its logits.

    Args:
        graph (StudentGraph): The student, in eval mode.
        path (Path): The file to write.
        images (Tensor): Images to trace with, (B, C, H, W). The file takes
            any B, but no other H and W.
        facts (dict[str, str], optional): The file's metadata. Defaults to
            None.

    Returns:
        float: The largest difference, relative to the largest logit.

    Raises:
        ConversionError: If the file gives other logits.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # torch.jit is deprecated
        torch.jit.trace(graph, images[:1]).save(
            str(path), _extra_files={METADATA: json.dumps(facts or {})})
        with torch.no_grad():
            found = torch.jit.load(str(path))(images)
    return _compare(graph, images, found, path)


@traceable_windows()
def to_onnx(graph: StudentGraph,
            path: Path,
            images: Tensor,
            facts: Optional[Dict[str, str]] = None) -> float:
    """Write an ONNX file, and compare its logits in onnxruntime.

    Args:
        graph (StudentGraph): The student, in eval mode.
        path (Path): The file to write.
        images (Tensor): Images to trace with, (B, C, H, W). The file takes
            any B, but no other H and W.
        facts (dict[str, str], optional): The file's metadata. Defaults to
            None.

    Returns:
        float: The largest difference, relative to the largest logit.

    Raises:
        ConversionError: If onnx, onnxscript or onnxruntime is missing, or the
            file gives other logits.
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
    if facts:
        content = onnx.load(str(path))
        onnx.helper.set_model_props(content, facts)
        onnx.save(content, str(path))
    onnx.checker.check_model(str(path))
    session = onnxruntime.InferenceSession(
        str(path), providers=['CPUExecutionProvider'])
    # another batch size than the traced one
    more = torch.cat([images, images.flip(0)])
    found, = session.run(None, dict(images=more.numpy()))
    return _compare(graph, more, torch.from_numpy(found), path)


WRITERS = dict(onnx=to_onnx, torchscript=to_torchscript)


def _compare(graph: StudentGraph, images: Tensor, found: Tensor,
             path: Path) -> float:
    """The largest relative difference from the student's own logits."""
    with torch.no_grad():
        data = graph.model.data_preprocessor(dict(inputs=images.clone()))
        wanted = graph.model(data['inputs'])
    difference = ((found - wanted).abs().max() /
                  wanted.abs().max().clamp(min=1e-12)).item()
    if not difference <= TOLERANCE:
        raise ConversionError(
            f'{path.name} gives other logits than the student: they differ by '
            f'{difference:.1e} of the largest, more than {TOLERANCE:.0e}. '
            'Check whether data_preprocessor does more than mean, std and '
            'to_rgb, or the network depends on the values or the number of '
            'its images')
    return difference

# Copyright (c) sdd_mm contributors. All rights reserved.
"""A student as a graph, for machines without this package."""
import tempfile
import warnings
from pathlib import Path
from typing import Dict, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from mmpretrain.registry import DATASETS
from torch import Tensor, nn

from ..images import LOADERS, RGB_ARRAYS, channel_order, innermost, loads_grey
from ..input_format import InputFormat
from .checkpoint import ConversionError
from .windows import traceable_windows

TOLERANCE = 1e-4  # of the largest logit
# images before the pipeline: one that makes all of one size tells it
CIFAR_SIZE, RAW_SIZES = (32, 32), ((256, 320), (224, 200))
HOW_LARGE = 'how large images are: say it by --image-size HEIGHT WIDTH'


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
        self.flip = InputFormat.of_model(model).to_rgb
        self.register_buffer(
            'mean', preprocessor.mean if normalize else torch.zeros(1, 1, 1))
        self.register_buffer(
            'std', preprocessor.std if normalize else torch.ones(1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """The logits.

        Args:
            images (Tensor): Shape (B, C, H, W), as the config's pipeline gives
                them: of files from 0 to 255 and BGR, whatever
                ``data_preprocessor.to_rgb`` is.

        Returns:
            Tensor: Shape (B, K).
        """
        if self.flip:
            images = images.flip(1)
        return self.model((images - self.mean) / self.std)


class Graph(NamedTuple):
    """A file that gives the student's logits.

    Args:
        content (bytes): The file.
        text (str): What it takes and gives.
    """
    content: bytes
    text: str


def write_graphs(model: nn.Module, cfg: Config, kinds: Sequence[str],
                 size: Optional[Tuple[int, int]]) -> Dict[str, Graph]:
    """The files of a student, compared with it.

    Args:
        model (nn.Module): The student, in evaluation mode.
        cfg (Config): Its plain config.
        kinds (Sequence[str]): Of 'onnx' and 'torchscript'.
        size (tuple[int, int], optional): Height and width of the images.
            None: see :func:`sample_images`.

    Raises:
        ConversionError: If the size is not known, a package is missing or a
            file gives other logits.

    Returns:
        dict[str, Graph]: By their kinds.
    """
    if not kinds:
        return {}
    graph, images = StudentGraph(model).eval(), sample_images(cfg, size)
    shape = ', '.join(map(str, images.shape[1:]))
    given = _given(cfg)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            path = Path(folder) / f'student.{kind}'
            try:
                difference = WRITERS[kind](graph, path, images)
            except ConversionError:
                raise
            except Exception as error:  # torch knows many that it cannot
                reason = str(error).strip().partition('\n')[0]
                raise ConversionError(
                    f'{type(model.backbone).__name__} cannot be written as '
                    f'{kind}: {type(error).__name__}: {reason}') from error
            found[kind] = Graph(
                path.read_bytes(),
                f'images (B, {shape}){given}, to logits that differ from the '
                f'student\'s by {difference:.0e} of the largest')
    return found


def sample_images(cfg: Config,
                  size: Optional[Tuple[int, int]] = None,
                  count: int = 2) -> Tensor:
    """Noise, as large as the images that a network is tested with.

    Args:
        cfg (Config): A config with a ``test_dataloader``.
        size (tuple[int, int], optional): Height and width. Defaults to None:
            what the test pipeline makes of any image, or, where it leaves
            images as large as they are, the size of the first one.
        count (int): How many. Defaults to 2.

    Raises:
        ConversionError: If neither the config nor its data say how large
            images are.

    Returns:
        Tensor: Shape (count, C, H, W), from 0 to 255.
    """
    if size is not None and min(size) < 1:
        raise ConversionError(f'images of {size[0]} x {size[1]} pixels: the '
                              'size must be positive')
    loader = cfg.get('test_dataloader') or cfg.get('val_dataloader')
    made = _tested(loader) if loader else None
    channels = 3 if made is None else made.shape[0]
    generator = torch.Generator().manual_seed(0)
    return torch.randint(
        256, (count, channels, *(size or _image_size(cfg))),
        generator=generator).float()


def _given(cfg: Config) -> str:
    """What images are when they come from the test pipeline."""
    loader = cfg.get('test_dataloader') or cfg.get('val_dataloader')
    if not loader:
        return ' from 0 to 255'
    pipeline = innermost(loader['dataset']).get('pipeline', ())
    steps = [
        step['type'].split('.')[-1] for step in pipeline
        if step['type'] not in LOADERS
        and not step['type'].split('.')[-1].startswith('Pack')
    ]
    made = _tested(loader)
    floats = made is not None and made.is_floating_point()
    order = channel_order(loader)
    return (('' if floats else ' from 0 to 255') +
            (f', {order}' if order and not floats else ', as its pipeline '
             'gives them') + (f', after {", ".join(steps)}' if steps else ''))


def _tested(loader: dict,
            size: Tuple[int, int] = RAW_SIZES[0]) -> Optional[Tensor]:
    """What the pipeline makes of an image, if it needs nothing more."""
    dataset = innermost(loader['dataset'])
    pipeline = list(dataset.get('pipeline', ()))
    image = np.zeros(
        size if loads_grey(loader) else (*size, 3), dtype=np.uint8)
    try:
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            return Compose([
                step for step in pipeline if step['type'] not in LOADERS
            ])(dict(img=image, img_shape=size, ori_shape=size,
                    gt_label=0))['inputs']
    except Exception:  # a pipeline may ask for anything
        return None


def _image_size(cfg: Config) -> Tuple[int, int]:
    loader = cfg.get('test_dataloader') or cfg.get('val_dataloader')
    if not loader or not innermost(loader['dataset']).get('pipeline'):
        raise ConversionError('the config has no test_dataloader with a '
                              f'pipeline, which would say {HOW_LARGE}')
    dataset = innermost(loader['dataset'])
    sizes = RAW_SIZES
    if dataset['type'].split('.')[-1] in RGB_ARRAYS:
        sizes = (CIFAR_SIZE, )
    made = {
        None if image is None else tuple(image.shape[-2:])
        for image in (_tested(loader, size) for size in sizes)
    }
    if len(made) == 1 and None not in made:
        return made.pop()
    try:
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            return tuple(DATASETS.build(dataset)[0]['inputs'].shape[-2:])
    except Exception as error:  # there may be no data any more
        raise ConversionError(
            f'the test pipeline does not say {HOW_LARGE}. Its data set '
            f'has no image to look at ({type(error).__name__}: {error})'
        ) from error


@traceable_windows()
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


@traceable_windows()
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


WRITERS = dict(onnx=to_onnx, torchscript=to_torchscript)


def _compare(graph: StudentGraph, images: Tensor, found: Tensor,
             path: Path) -> float:
    with torch.no_grad():  # by the data preprocessor itself
        data = graph.model.data_preprocessor(dict(inputs=images.clone()))
        wanted = graph.model(data['inputs'])
    difference = ((found - wanted).abs().max() /
                  wanted.abs().max().clamp(min=1e-12)).item()
    if not difference <= TOLERANCE:
        raise ConversionError(
            f'{path.name} gives other logits than the student: they differ by '
            f'{difference:.1e} of the largest, {TOLERANCE:.0e} is allowed. '
            'Is there more in data_preprocessor than mean, std and to_rgb, or '
            'something in the network that depends on the values or the '
            'number of the images?')
    return difference

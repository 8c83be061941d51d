# Copyright (c) sdd_mm contributors. All rights reserved.
"""timm's classifiers as MMPretrain's, with ``TIMMBackbone``.

``TIMMBackbone`` removes timm's pooling and classifier, and MMPretrain's are
put behind what is left. That is the same network only if nothing else stands
between the two, so every network is compared with timm's own before it may
teach.
"""
import logging
from copy import deepcopy
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..input_format import META, InputFormat
from ..weights import misfits
from .checkpoint import ConversionError, refuse, write


class NoMapError(ConversionError):
    """A model that pools no feature map by a module of timm."""


class AbsentModelError(ConversionError):
    """There is no timm, or timm has no such model."""


INSIDE = 'backbone.net'
"""The model of timm within :func:`timm_logits_teacher`'s"""
# modules that do not change pooled features in eval mode
NEUTRAL = (nn.Identity, nn.Flatten, nn.Dropout)


def timm_teacher(model_name: str,
                 num_classes: int = 1000,
                 to_rgb: bool = True) -> dict:
    """Config of a timm classifier as a teacher.

    Args:
        model_name (str): Its name in timm. A tag, as in
            ``resnet50.a1_in1k``, selects the normalization of these weights.
        num_classes (int): Number of classes. Defaults to 1000.
        to_rgb (bool): Whether the data set loads BGR images, as those from
            files; timm's models get RGB. Defaults to True.

    Returns:
        dict: Config of an ``ImageClassifier`` with its ``data_preprocessor``.

    Raises:
        ConversionError: If there is no such model, or if it is not the
            average pooling of a feature map followed by a linear classifier.

    Examples:
        >>> timm_teacher('resnet18')['backbone']
        {'type': 'TIMMBackbone', 'model_name': 'resnet18'}
    """
    model = create(model_name, num_classes)
    name, classifier = classifier_of(model)
    defaults = model.default_cfg
    config = dict(
        type='ImageClassifier',
        backbone=dict(type='TIMMBackbone', model_name=model_name),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='LinearClsHead',
            num_classes=num_classes,
            in_channels=classifier.in_features),
        data_preprocessor=_preprocessor(model, to_rgb))
    model = model.double().eval()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        classifier.reset_parameters()  # zeros would hide a difference
        images = torch.rand(1, *defaults['input_size'], dtype=torch.float64)
        _compare(model, config, images)
    return config


def timm_logits_teacher(model_name: str,
                        num_classes: int = 1000,
                        to_rgb: bool = True) -> dict:
    """Config of any timm classifier as a teacher of its logits alone.

    Args:
        model_name (str): As of :func:`timm_teacher`.
        num_classes (int): Number of classes. Defaults to 1000.
        to_rgb (bool): As of :func:`timm_teacher`.

    Returns:
        dict: Config of a ``ModuleClassifier`` with its ``data_preprocessor``,
        whose weights have timm's own names.

    Raises:
        ConversionError: If there is no such model.
    """
    model = create(model_name, num_classes)
    return dict(
        type='ModuleClassifier',
        num_classes=num_classes,
        module=dict(
            type='timm.create_model',
            model_name=model_name,
            num_classes=num_classes),
        data_preprocessor=_preprocessor(model, to_rgb))


def _preprocessor(model: nn.Module, to_rgb: bool) -> dict:
    defaults = model.default_cfg
    return dict(
        mean=[round(255 * value, 6) for value in defaults['mean']],
        std=[round(255 * value, 6) for value in defaults['std']],
        to_rgb=to_rgb)


def convert_timm(model_name: str,
                 weights: Dict[str, Tensor],
                 mean: Optional[Sequence[float]] = None,
                 std: Optional[Sequence[float]] = None) -> dict:
    """Convert a checkpoint of timm to one of a teacher ``timm::MODEL``.

    That is :func:`timm_teacher`'s network or, if there is none,
    :func:`timm_logits_teacher`'s.

    Args:
        model_name (str): The model's name in timm.
        weights (dict[str, Tensor]): Its state dict, with its classifier.
        mean (Sequence[float], optional): Mean of its training, per channel
            and from 0 to 255. Defaults to None: timm's for these weights.
        std (Sequence[float], optional): Likewise the standard deviation.

    Returns:
        dict: A checkpoint of MMPretrain, with the normalization in its meta.

    Raises:
        ConversionError: If its classifier is not one linear layer, or if
            weights are missing, left over, of another shape, not finite or
            not floating point numbers; all of them are listed.
    """
    plain = create(model_name, 1000)
    try:
        name, _ = classifier_of(plain)
    except ConversionError:  # several classifiers, or a convolution
        name, num_classes = '', _count_classes(model_name, plain, weights)
    else:
        if f'{name}.weight' not in weights:
            raise ConversionError(
                f'it has no {name}.weight, the weight of the classifier')
        num_classes = len(weights[f'{name}.weight'])
    try:
        config, rename = timm_teacher(model_name, num_classes), _rename
    except ConversionError:
        config, rename = timm_logits_teacher(model_name, num_classes), _keep
    network = create(model_name, num_classes)
    found, own = misfits(weights, network), network.state_dict()
    missing = list(rename(dict.fromkeys(found.missing), name))
    refuse(found._replace(missing=missing))
    weights = {key: value.to(own[key].dtype) for key, value in weights.items()}
    preprocessor = config['data_preprocessor']
    images = InputFormat(
        tuple(mean or preprocessor['mean']),
        tuple(std or preprocessor['std']),
        channel_order='RGB')
    return dict(state_dict=rename(weights, name), meta={META: images.meta()})


def _count_classes(model_name: str, plain: nn.Module,
                   weights: Dict[str, Tensor]) -> int:
    """The classes of weights: sizes that depend on them in the model."""
    other = create(model_name, 1001).state_dict()
    for name, value in plain.state_dict().items():
        for axis, size in enumerate(value.shape):
            if size != other[name].shape[axis] and name in weights and (
                    weights[name].ndim == value.ndim):
                return weights[name].shape[axis]
    return plain.default_cfg['num_classes']


def convert_timm_file(model_name: str,
                      source: str,
                      target: str,
                      mean: Optional[Sequence[float]] = None,
                      std: Optional[Sequence[float]] = None) -> None:
    """Convert a checkpoint file of timm.

    Args:
        model_name (str): The model's name in timm.
        source (str): The file: ``.safetensors``, or a state dict of torch,
            alone or as timm's training script saves it.
        target (str): Where to write.
        mean (Sequence[float], optional): See :func:`convert_timm`.
        std (Sequence[float], optional): See :func:`convert_timm`.

    Raises:
        ConversionError: If the file is not a checkpoint of that model, the
            model cannot teach, ``target`` cannot be written, or ``mean`` and
            ``std`` are not numbers from 0 to 255 for every channel.
    """
    for title, values in (('mean', mean), ('std', std)):
        if values is not None and len(values) != 3:
            raise ConversionError(
                f'--{title} must have a number for each of the three channels,'
                f' got {list(values)}')
    if std is not None and max(std) < 1:
        raise ConversionError(
            f'--std {list(std)} is for images from 0 to 1: multiply it and '
            '--mean by 255')
    create(model_name, 1000)  # raises without timm or such a model
    from timm.models import load_state_dict
    try:
        weights = load_state_dict(source, weights_only=True)
    except Exception as error:  # a broken file may raise anything
        raise ConversionError(
            f'{source} cannot be read: {type(error).__name__}: '
            f'{error}') from error
    try:
        checkpoint = convert_timm(model_name, weights, mean, std)
    except ConversionError as error:
        raise ConversionError(f'{source} as a {model_name} of timm: '
                              f'{error}') from error
    checkpoint['meta']['converted_from'] = Path(source).name
    write(target, checkpoint)


def create(model_name: str, num_classes: int) -> nn.Module:
    """A model of timm with random weights, without a download.

    Raises:
        ConversionError: If timm is not installed or has no such model.
    """
    try:
        import timm
    except ImportError as error:
        raise AbsentModelError(
            'timm is not installed: pip install timm') from error
    try:
        with torch.random.fork_rng(devices=[]):
            return timm.create_model(model_name, num_classes=num_classes)
    except Exception as error:  # a constructor may raise anything
        raise AbsentModelError(
            f'timm cannot build it: {type(error).__name__}: {error}'
        ) from error


def classifier_of(model: nn.Module) -> Tuple[str, nn.Linear]:
    """A model's classifier and its name."""
    classifier = model.get_classifier()
    # timm has a subclass, which only differs in torchscript
    if isinstance(classifier, (tuple, list)):
        raise ConversionError(f'it has {len(classifier)} classifiers, not one '
                              'linear layer')
    if not isinstance(classifier, nn.Linear) or classifier.bias is None:
        raise ConversionError(
            f'its classifier is a {type(classifier).__name__}, not one linear '
            'layer with a bias')
    name = next(name for name, module in model.named_modules()
                if module is classifier)
    return name, classifier


def calls(model: nn.Module,
          images: Tensor) -> Tuple[List[nn.Module], List[int], Tensor]:
    """What a forward pass calls, which of it pools, and the logits.

    Args:
        model (nn.Module): A model of timm.
        images (Tensor): (B, 3, H, W).

    Returns:
        tuple[list[nn.Module], list[int], Tensor]: The modules without parts,
        the norms and the poolings, in the order of their calls; the places of
        the poolings among them; and (B, K).

    Raises:
        NoMapError: If it does not pool.
    """
    called = []
    hooks = [
        module.register_forward_hook(lambda module, *_: called.append(module))
        for module in model.modules() if _is_one(module) or _pools(module)
    ]
    own = model(images)
    for hook in hooks:
        hook.remove()
    pools = [index for index, module in enumerate(called) if _pools(module)]
    if not pools:
        raise NoMapError(
            'it does not pool a feature map (SelectAdaptivePool2d is not '
            'called)')
    return called, pools, own


def _compare(model: nn.Module, config: dict, images: Tensor) -> None:
    """The teacher's logits against timm's, on the same random weights."""
    name, classifier = classifier_of(model)
    called, pools, own = calls(model, images)
    between = [
        f'{name} ({type(module).__name__})'
        for name, module in model.named_modules()
        if module in called[pools[-1] + 1:] and module is not classifier
        and not isinstance(module, NEUTRAL)
    ]
    if between:
        raise ConversionError(
            'between its pooling and its classifier there are '
            f'{", ".join(between)}, so the tail is not one linear layer')

    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # the backbone logs its stages
    try:
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            teacher = MODELS.build(deepcopy(config)).double().eval()
    finally:
        logging.disable(disabled)
    teacher.load_state_dict(_rename(model.state_dict(), name))
    features = teacher.backbone(images)
    shape = tuple(features[-1].shape)
    if len(shape) != 4 or shape[1] != classifier.in_features:
        raise ConversionError(f'its last features have shape {shape}, not '
                              f'(B, {classifier.in_features}, h, w)')
    if shape[2:] == (1, 1):
        raise ConversionError(
            'its feature map is 1 x 1, so all cells are the same')
    found = teacher.head(teacher.neck(features))
    difference = (found - own).abs().max() / own.abs().max()
    if not difference < 1e-9:
        raise ConversionError(
            'the logits of its average feature map differ from its own by '
            f'{difference:.3g} of the largest: it does not pool by the '
            'average, or its tail is not linear')


def _is_one(module: nn.Module) -> bool:
    """Whether it is a layer; a norm may have its activation inside."""
    norms = nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm
    return not list(module.children()) or isinstance(module, norms)


def _pools(module: nn.Module) -> bool:
    from timm.layers import SelectAdaptivePool2d
    return isinstance(module, SelectAdaptivePool2d)


def _rename(weights: Dict[str, Tensor], classifier: str) -> Dict[str, Tensor]:
    """timm's names as MMPretrain's."""
    prefix = f'{classifier}.'
    renamed = {}
    for name, value in weights.items():
        if name.startswith(prefix):
            renamed[f'head.fc.{name[len(prefix):]}'] = value
        else:
            renamed[f'backbone.timm_model.{name}'] = value
    return renamed


def _keep(weights: Dict[str, Tensor], classifier: str) -> Dict[str, Tensor]:
    """timm's names, which a ``ModuleClassifier`` of timm's model keeps."""
    return weights

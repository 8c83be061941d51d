# Copyright (c) sdd_mm contributors. All rights reserved.
import importlib
import os
import sys
from difflib import get_close_matches
from typing import Any, Optional, Tuple, Union

from mmpretrain.models import ClsHead, ImageClassifier
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ...errors import SDDError

INSIDE = 'backbone.net.'
"""The module's weights within the classifier, outside of state dicts."""


class ModuleClassifierError(SDDError, ValueError):
    """A module that cannot be had, or returns no logits of its classes."""
    names_keys = True


@MODELS.register_module()
class ModuleClassifier(ImageClassifier):
    """A plain module, from images to logits, as a classifier.

    For networks from torchvision, from Hugging Face
    (:func:`sdd_mm.hub.hugging_face`) or of your own, as student or teacher.
    Its state dict has the module's own names: a checkpoint of the module is
    one of this classifier, and the exported student is one of the module.

    ``LogitLoss`` distills any of them. For SDD, name the pooling and the
    linear classifier in the recorder; the module is ``backbone.net``:
    ``dict(type='FeatureHead', pooling='backbone.net.avgpool',
    head='backbone.net.fc')``.

    Args:
        module (dict | nn.Module): The module, or a config whose ``type`` is
            its class or a function that makes it, with its full name, such as
            ``dict(type='torchvision.models.resnet18', num_classes=10)``. It
            takes images, (B, C, H, W), and returns logits, (B, K), alone or
            as ``logits`` of an object.
        num_classes (int): Number of classes K.
        loss (dict): The student's own loss. Defaults to cross entropy.
        topk (int | tuple[int]): Of the training accuracy, if it is computed.
            Defaults to (1, ).
        **kwargs: The other arguments of ``ImageClassifier`` but ``backbone``,
            ``neck`` and ``head``.

    Raises:
        ModuleClassifierError: If the module cannot be built, or does not
            return logits of so many classes.

    Examples:
        >>> # in a config
        >>> student = dict(
        ...     type='ModuleClassifier',
        ...     num_classes=10,
        ...     module=dict(type='mine.Net', width=32))
    """

    def __init__(self,
                 module: Union[dict, nn.Module],
                 num_classes: int,
                 loss: Optional[dict] = None,
                 topk: Union[int, Tuple[int, ...]] = (1, ),
                 **kwargs) -> None:
        if isinstance(module, dict):
            kind = module.get('type')
            found = _named(kind) if isinstance(kind, str) else kind
            try:
                module = MODELS.build(dict(module, type=found))
            except SDDError:  # it says what to change
                raise
            except Exception as error:  # a class may raise anything
                raise ModuleClassifierError(
                    f'module.type={kind!r} cannot be built with the other '
                    f'keys of module: {type(error).__name__}: {error}'
                ) from error
        if not isinstance(module, nn.Module):
            raise ModuleClassifierError(
                f'module must be an nn.Module, got a {type(module).__name__}')
        super().__init__(
            backbone=_Inside(module, num_classes),
            head=_Head(num_classes, loss, topk),
            **kwargs)
        self._register_state_dict_hook(_own_names)
        self._register_load_state_dict_pre_hook(_inner_names, with_module=True)

    @property
    def plain_module(self) -> nn.Module:
        """The module itself."""
        return self.backbone.net

    def init_weights(self) -> None:
        """Keep the weights that the module made; load ``init_cfg``'s."""
        if self.init_cfg is not None:
            super().init_weights()
        self._is_init = True


def _named(name: str) -> Any:
    """What a full name, such as mine.Net, names.

    Modules are also looked for in the working directory.
    """
    parent, _, last = name.rpartition('.')
    if not parent or parent[0] == '.':
        return name  # of a registry
    title = f'module.type={name!r}'
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found = importlib.import_module(parent)
    except ModuleNotFoundError as error:
        if error.name and f'{parent}.'.startswith(f'{error.name}.'):
            if '.' in parent and error.name == parent:
                return name  # of a class within a class, or none
            raise ModuleClassifierError(
                f'{title}: there is no Python module {error.name!r} in '
                f'{os.getcwd()} or on PYTHONPATH: run in the folder of '
                f'{error.name}.py, or set PYTHONPATH to it') from error
        raise ModuleClassifierError(
            f'{title}: the import of {parent} fails: {error}') from error
    except Exception as error:  # a file may do anything
        raise ModuleClassifierError(
            f'{title}: the import of {parent} fails: '
            f'{type(error).__name__}: {error}') from error
    if not hasattr(found, last):
        near = get_close_matches(last, dir(found), n=1)
        raise ModuleClassifierError(f'{title}: {parent} has no {last!r}' + (
            f'. Did you mean {parent}.{near[0]}?' if near else ''))
    return getattr(found, last)


class _Inside(nn.Module):
    """The module as a backbone, which returns a tuple."""

    def __init__(self, net: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.net = net
        self.num_classes = num_classes

    def forward(self, images: Tensor) -> Tuple[Tensor]:
        found = self.net(images)
        logits: Any = getattr(found, 'logits', found)
        shape = tuple(getattr(logits, 'shape', ()))
        if len(shape) != 2 or shape[1] != self.num_classes:
            what = f'a tensor of shape {shape}' if shape else (
                f'a {type(logits).__name__}')
            raise ModuleClassifierError(
                f'module {type(self.net).__name__} returns {what} for '
                f'{len(images)} images, not logits (B, {self.num_classes}): '
                'correct num_classes, or return logits')
        return (logits, )


class _Head(ClsHead):
    """A head without weights that knows its number of classes."""

    def __init__(self, num_classes: int, loss: Optional[dict], topk) -> None:
        super().__init__(loss=loss or dict(type='CrossEntropyLoss'), topk=topk)
        self.num_classes = num_classes


def _own_names(module, state_dict, prefix, *args) -> None:
    """Name the weights in a state dict as the module does.

    A hook, because MMEngine's checkpoint writer and loader call hooks where
    they do not call an overridden ``state_dict()``.
    """
    inside = prefix + INSIDE
    # at once: the module may have a backbone.net of its own
    found = {
        prefix + name[len(inside):]: state_dict.pop(name)
        for name in list(state_dict) if name.startswith(inside)
    }
    state_dict.update(found)


def _inner_names(module, state_dict, prefix, *args) -> None:
    """The reverse, before loading."""
    found = {
        prefix + INSIDE + name: state_dict.pop(prefix + name)
        for name in module.backbone.net.state_dict()
        if prefix + name in state_dict
    }
    state_dict.update(found)

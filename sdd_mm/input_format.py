# Copyright (c) sdd_mm contributors. All rights reserved.
"""How a network's images are normalized and in which order their channels are.

From a model, from the config of a run, or from a checkpoint's meta; one
comparison, and one way to say it.
"""
import math
from typing import NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from .config_text import read_config
from .images import channel_order, preprocessor_of, student_arguments

META = 'input_normalization'
"""Where a checkpoint's meta states the format, see :meth:`InputFormat.meta`"""


class InputFormat(NamedTuple):
    """The format of a network's images.

    Args:
        mean (tuple[float]): Mean per channel, or one for all; 0 if images are
            not normalized.
        std (tuple[float]): Standard deviation, likewise; 1 if they are not.
        to_rgb (bool): Whether the data preprocessor reverses the channels
            that the data set loads. Defaults to False.
        channel_order (str, optional): 'RGB' or 'BGR', as the network sees its
            images. Defaults to None, unknown.
        channel_axis (int): The axis of the channels. Defaults to -3, that of
            images; in clips (B, clips, C, T, H, W) it is -4.
    """
    mean: Tuple[float, ...] = (0., )
    std: Tuple[float, ...] = (1., )
    to_rgb: bool = False
    channel_order: Optional[str] = None
    channel_axis: int = -3

    @classmethod
    def of_model(cls, model: nn.Module, loaded: Optional[str] = None):
        """The format of a model's images.

        Args:
            model (nn.Module): A model with its ``data_preprocessor``.
            loaded (str, optional): The channel order in which the data set
                loads images, 'RGB' or 'BGR'. Defaults to None, unknown.

        Returns:
            InputFormat | None: None if it has no data preprocessor.
        """
        return cls.of_preprocessor(
            getattr(model, 'data_preprocessor', None), loaded)

    @classmethod
    def of_preprocessor(cls,
                        preprocessor: Optional[nn.Module],
                        loaded: Optional[str] = None):
        """The format of the images of a data preprocessor.

        Args:
            preprocessor (nn.Module, optional): A data preprocessor.
            loaded (str, optional): See :meth:`of_model`.

        Returns:
            InputFormat | None: None if there is none.
        """
        if preprocessor is None:
            return None
        found = cls()
        if getattr(preprocessor, '_enable_normalize', False):
            found = cls(*(tuple(values.flatten().tolist())
                          for values in (preprocessor.mean, preprocessor.std)))
        to_rgb = bool(
            getattr(preprocessor, 'to_rgb',
                    getattr(preprocessor, '_channel_conversion', False)))
        # mmaction2's data preprocessors say what they take
        clips = getattr(preprocessor, 'format_shape',
                        None) in ('NCTHW', 'MIX2d3d')
        return found._replace(
            to_rgb=to_rgb,
            channel_order=_order(loaded, to_rgb),
            channel_axis=-4 if clips else -3)

    @classmethod
    def of_meta(cls, meta: dict):
        """The format that a checkpoint's meta states.

        Converted and exported checkpoints state it themselves. Those that
        MMEngine saved hold the config of their run.

        Args:
            meta (dict): The checkpoint's meta.

        Returns:
            InputFormat | None: None if it states none.

        Raises:
            ValueError: If the statement is incomplete.
        """
        stated = meta.get(META)
        if stated is None:
            return cls.of_config(meta.get('cfg'))
        if not {'mean', 'std', 'channel_order'} <= set(stated):
            raise ValueError(f'its meta has {META}={stated}, which lacks '
                             'mean, std or channel_order')
        return cls(
            tuple(stated['mean']),
            tuple(stated['std']),
            channel_order=stated['channel_order'])

    @classmethod
    def of_config(cls, text: Optional[str]):
        """The format in the text of a run's config, None if it has none."""
        try:
            cfg = read_config(text)
            preprocessor = preprocessor_of(dict(dict(model={}), **cfg))
            if preprocessor is None:
                return None
            preprocessor = student_arguments(preprocessor)
            found = cls()
            if preprocessor.get('mean') is not None:
                found = cls(*(tuple(float(v) for v in preprocessor[key])
                              for key in ('mean', 'std')))
            to_rgb = any(
                preprocessor.get(key) for key in ('to_rgb', 'bgr_to_rgb'))
        except (ValueError, TypeError, AttributeError, KeyError):
            return None
        try:
            loaded = channel_order(cfg['train_dataloader'])
        except (TypeError, KeyError, AttributeError, StopIteration):
            loaded = None
        return found._replace(
            to_rgb=to_rgb, channel_order=_order(loaded, to_rgb))

    @property
    def is_plain(self) -> bool:
        """Whether images are not normalized."""
        return self[:2] == InputFormat()[:2]

    def meta(self) -> dict:
        """What a checkpoint's meta states under :data:`META`."""
        return dict(
            mean=list(self.mean),
            std=list(self.std),
            channel_order=self.channel_order)

    def normalizes_like(self, other: 'InputFormat') -> bool:
        """Whether mean and std are the same, up to rounding."""
        return _close(self.mean, other.mean) and _close(self.std, other.std)

    def __str__(self) -> str:
        numbers = ', '.join(
            f'{name} [{", ".join(f"{value:.6g}" for value in values)}]'
            for name, values in (('mean', self.mean), ('std', self.std)))
        return f'{numbers}, to_rgb={self.to_rgb}'


def stated_mismatch(model: nn.Module,
                    meta: dict,
                    loaded: Optional[str] = None) -> Optional[str]:
    """How a model's images differ from those of a checkpoint's training.

    Args:
        model (nn.Module): A model with its ``data_preprocessor``.
        meta (dict): The checkpoint's meta.
        loaded (str, optional): The channel order in which the data set loads
            images, 'RGB' or 'BGR'. Defaults to None, unknown: the orders are
            not compared then, since ``to_rgb`` only tells whether the data
            preprocessor reverses the channels.

    Returns:
        str | None: Both formats; None if they agree or the checkpoint states
        none.
    """
    try:
        stated = InputFormat.of_meta(meta)
    except ValueError as error:
        return str(error)
    if stated is None:
        return None
    own, order = InputFormat.of_model(model, loaded), stated.channel_order
    if own is not None and own.normalizes_like(stated):
        if None in (own.channel_order, order) or own.channel_order == order:
            return None
        return (f'it was trained on {order} images, the data set loads '
                f'{loaded} and to_rgb={own.to_rgb} of the data preprocessor '
                f'makes it {own.channel_order}')

    def says(found: InputFormat) -> str:
        return str(found).rpartition(', ')[0]

    return (f'it was trained on {f"{order} images" if order else "images"} '
            f'normalized by {says(stated)}, in the data preprocessor '
            f'{"there is none" if own is None else says(own)}')


class InputConversion(nn.Module):
    """Images, or clips, of one format as those of another.

    Args:
        source (InputFormat): The format of the images. Its ``channel_axis``
            is that of the result, too.
        target (InputFormat): The format of the result.
    """

    def __init__(self, source: InputFormat, target: InputFormat) -> None:
        super().__init__()
        self.reverses = source.to_rgb != target.to_rgb
        self.axis = source.channel_axis
        shape = (-1, ) + (1, ) * (-1 - self.axis)
        for name, values in (('source_mean', source.mean), ('source_std',
                                                            source.std),
                             ('target_mean', target.mean), ('target_std',
                                                            target.std)):
            self.register_buffer(
                name, torch.tensor(values).view(shape), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Convert images, (B, C, H, W), or clips, (B, clips, C, T, H, W).

        Raises:
            ValueError: If clips are expected and images are given.
        """
        if images.ndim <= -self.axis:
            raise ValueError(
                "model.on_normalization_mismatch='convert' expects clips "
                '(B, clips, C, T, H, W), as data_preprocessor.format_shape '
                f'says, and got {tuple(images.shape)}')
        images = images * self.source_std + self.source_mean
        if self.reverses:
            images = images.flip(self.axis)
        return (images - self.target_mean) / self.target_std


def _order(loaded: Optional[str], to_rgb: bool) -> Optional[str]:
    """The channel order after the data preprocessor."""
    return loaded and (loaded[::-1] if to_rgb else loaded)


def _close(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    size = max(len(ours), len(theirs))
    ours, theirs = (
        list(values) * (size if len(values) == 1 else 1)
        for values in (ours, theirs))
    return len(ours) == len(theirs) and all(
        math.isclose(a, b, rel_tol=1e-4) for a, b in zip(ours, theirs))

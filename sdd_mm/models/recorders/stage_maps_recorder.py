# Copyright (c) sdd_mm contributors. All rights reserved.
from difflib import get_close_matches
from functools import partial
from typing import Any, Dict, Optional, Sequence, Tuple, Union

from mmrazor.models.task_modules.recorder.base_recorder import BaseRecorder
from mmrazor.registry import TASK_UTILS
from torch import Tensor, nn

from .feature_head_recorder import MapReached
from .find_stages import Place, StageError, find_stages


@TASK_UTILS.register_module()
class StageMapsRecorder(BaseRecorder):
    """Records the maps of a network's stages.

    The record is a list of maps, (B, C, h, w), from the shallowest stage to
    the deepest; with ``pooled``, the pooled features, (B, C), come last. A
    mapping takes all of them, as ``ReviewLoss`` wants, or one by its
    ``data_idx``, as ``SimilarityLoss`` wants (-1 without ``pooled``).

    In a config the type is written ``StageMaps``: MMRazor appends
    ``Recorder``.

    Args:
        sources (str | Sequence[str]): Names of the modules whose outputs are
            the maps, or 'stages' for what distillation papers take of the
            networks of this package, of MMPretrain's ResNets, VGG, MobileNetV2
            and V3, ShuffleNetV1 and V2, and of MMRazor's WideResNet. Defaults
            to 'stages'.
        pooled (bool): Whether to record the output of the model's ``neck``,
            too. Defaults to False.
        preact (bool): Whether to record the maps before the last activation
            of each stage, as ReviewKD takes them of the teacher. Only for
            'stages'. Defaults to False.

    Raises:
        StageError: If the stages are not known, a module does not exist or is
            not called, or a map is overwritten in place after it was
            recorded.

    Examples:
        >>> # in a config: ReviewKD
        >>> student_recorders = dict(
        ...     stages=dict(type='StageMaps', pooled=True))
        >>> teacher_recorders = dict(
        ...     stages=dict(type='StageMaps', pooled=True, preact=True))
    """

    def __init__(self,
                 sources: Union[str, Sequence[str]] = 'stages',
                 pooled: bool = False,
                 preact: bool = False) -> None:
        super().__init__(source='')
        if isinstance(sources, str) and sources != 'stages':
            raise ValueError("sources must be 'stages' or a list of names of "
                             f'modules, got {sources!r}')
        if preact and sources != 'stages':
            raise ValueError("preact=True needs sources='stages', got "
                             f'{sources!r}: name the modules before the '
                             'activation instead')
        self.sources = sources
        self.pooled = pooled
        self.preact = preact
        # the last map that a loss needs; MapReached ends the forward pass
        # there, once it is known how often each module is called
        self.stop_after: Optional[int] = None
        self._recording = False
        self._maps: Dict[int, Tuple[Tensor, int]] = {}
        self._calls: Dict[int, int] = {}
        self._all_calls: Dict[int, int] = {}

    def prepare_from_model(self, model: Optional[nn.Module] = None) -> None:
        """Listen to the modules."""
        self._title = type(model).__name__
        if self.sources == 'stages':
            self._places = find_stages(model, self.preact)
        else:
            self._places = [Place(name) for name in self.sources]
        if self.pooled:
            self._places.append(Place('neck'))
        modules = dict(model.named_modules())
        for index, (name, before) in enumerate(self._places):
            if name not in modules:
                near = get_close_matches(name, modules, n=2)
                hint = f'. Did you mean {" or ".join(map(repr, near))}?'
                raise StageError(
                    f'{self._title} has no module {name!r}, whose output is '
                    'to be recorded: change the recorder\'s '
                    f'{"pooled" if name == "neck" else "sources"}' +
                    hint * bool(near))
            if before:
                modules[name].register_forward_pre_hook(
                    partial(self._keep_input, index))
            else:
                modules[name].register_forward_hook(
                    partial(self._keep_output, index))

    def _keep_input(self, index: int, module: nn.Module,
                    inputs: tuple) -> None:
        self._keep(index, inputs[0])

    def _keep_output(self, index: int, module: nn.Module, inputs: tuple,
                     output: Any) -> None:
        self._keep(index, output)

    def _keep(self, index: int, feature: Any) -> None:
        """Keep what the last call in a forward pass has."""
        if self._recording:
            if isinstance(feature, (list, tuple)):
                feature = feature[-1]
            self._maps[index] = feature, version(feature)
            self._calls[index] = self._calls.get(index, 0) + 1
            if self._all_calls and self._calls == self._all_calls:
                raise MapReached

    @property
    def count(self) -> int:
        """The number of maps, with the pooled features."""
        return len(self._places)

    def __enter__(self) -> None:
        super().__enter__()
        self._recording, self._calls = True, {}

    def __exit__(self, exc_type, exc_value, traceback) -> None:
        super().__exit__(exc_type, exc_value, traceback)
        maps, self._maps, self._recording = self._maps, {}, False
        if exc_type is not None:
            return
        count = self.count
        if self.stop_after is not None:
            count = self.stop_after + 1
            self._all_calls = {
                index: self._calls.get(index, 0)
                for index in range(count)
            }
        self.data_buffer.append(
            [self._take(maps, index) for index in range(count)])

    def _take(self, maps: dict, index: int) -> Tensor:
        name, before = self._places[index]
        if index not in maps:
            raise StageError(f'{self._title} did not call {name} in this '
                             'forward pass, so no map was recorded')
        feature, kept = maps[index]
        if version(feature) != kept:
            raise StageError(
                f'the {"input" if before else "output"} of {name} was '
                'overwritten in place after it was recorded: set `inplace` '
                'of the next activation to False, as the algorithms of '
                'MMRazor do')
        return feature.flatten(1) if name == 'neck' else feature


def version(feature: Tensor) -> int:
    """How often a tensor was written to."""
    # an inference tensor does not count
    return 0 if feature.is_inference() else feature._version

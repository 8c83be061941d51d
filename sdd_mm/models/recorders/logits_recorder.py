# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import Any, Optional

from mmrazor.models.task_modules.recorder.base_recorder import BaseRecorder
from mmrazor.registry import TASK_UTILS
from torch import Tensor, nn

from ..networks import head_of
from ..records import LocalLogits
from .find_head import FeatureHeadError, by_name, check_head, name_of


@TASK_UTILS.register_module()
class LogitsRecorder(BaseRecorder):
    """Records a classifier's logits alone, of any network that has some.

    Enough for ``LogitLoss``, which compares no cells: for vision transformers
    with a class token, for networks whose classifier is inside the backbone,
    for wrapped models of timm and Hugging Face. ``SDDDistiller`` takes it by
    itself where no loss asks for cells and the network has no map.

    In a config the type is written ``Logits``: MMRazor appends ``Recorder``.
    The record is a :class:`sdd_mm.LocalLogits` of the single scale 1.

    Args:
        source (str): Name of the module whose output are the logits. Defaults
            to '', which finds it: the head, or the wrapped model.

    Raises:
        FeatureHeadError: If the head is multi-label or has a margin, if the
            module is not in the model, if its output is not (B, K), or if the
            first one is of probabilities.

    Examples:
        >>> # in a config
        >>> teacher_recorders = dict(feature_head=dict(type='Logits'))
    """

    def __init__(self, source: str = '') -> None:
        super().__init__(source=source)
        # 'student' or 'teacher', for messages
        self.role = ''
        self._name = source
        self._recording = self._checked = False
        self._logits: Any = None

    @property
    def where(self) -> str:
        """What is recorded, for a log."""
        return f'output of {self._name or "the model"}'

    def prepare_from_model(self, model: Optional[nn.Module] = None) -> None:
        """Find the module, and listen to it."""
        self._model = model
        if self.source:
            module = by_name(model, self.source, 'source')
        elif head_of(model) is not None:
            module = check_head(model)
        else:  # a wrapper of timm or Hugging Face, or a plain module
            module = getattr(model, 'model', model)
        self._name = self.source or name_of(model, module)
        module.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: tuple, output: Any) -> None:
        if self._recording:
            self._logits = getattr(output, 'logits', output)

    def __enter__(self) -> None:
        super().__enter__()
        self._recording, self._logits = True, None

    def __exit__(self, exc_type, exc_value, traceback) -> None:
        super().__exit__(exc_type, exc_value, traceback)
        logits, self._logits, self._recording = self._logits, None, False
        if exc_type is not None:
            return
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            found = 'nothing' if logits is None else type(logits).__name__
            if isinstance(logits, Tensor):
                found = f'a tensor of shape {tuple(logits.shape)}'
            raise FeatureHeadError(
                f'{self.role} {type(self._model).__name__}: the {self.where} '
                f'is {found}, not logits (B, K)'.strip())
        if not self._checked and len(logits):
            self._checked = True
            self._check_range(logits.detach().float())
        self.data_buffer.append(
            LocalLogits(logits[None], (1, ), 'direct', logits))

    def _check_range(self, logits: Tensor) -> None:
        """A softmax of probabilities would be taken without a word."""
        sums_to_one = ((logits.sum(1) - 1).abs() < 0.01).all()
        if bool(sums_to_one & (logits >= 0).all()):
            raise FeatureHeadError(
                f'{self.role} {type(self._model).__name__}: the rows of the '
                f'{self.where} are not negative and sum to 1, so they are '
                'probabilities and not logits: remove the softmax, or name '
                "what comes before it by dict(type='Logits', source=...) in "
                f'model.distiller.{self.role or "student"}_recorders')

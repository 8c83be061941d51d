# Copyright (c) sdd_mm contributors. All rights reserved.
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ...models.algorithms.channels_last import check_channels_last, lay_out
from ...runtime.utils import bare_model


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Lays out the weights of a network that trains alone channels last.

    Its feature maps follow. On a GPU with tensor cores, half precision is
    faster so. Results differ by rounding. A distillation has
    ``model.student_channels_last`` and ``model.teacher_inference`` instead.

    Raises:
        ValueError: If a CPU kernel is wrong channels last.

    Examples:
        >>> # in the config of a teacher
        >>> custom_hooks = [dict(type='ChannelsLastHook')]
    """

    def before_train(self, runner) -> None:
        """Lay out the weights."""
        model = bare_model(runner)
        check_channels_last(model)
        lay_out(model, True)

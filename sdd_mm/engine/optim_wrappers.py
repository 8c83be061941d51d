# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import Union

import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS

# these do not overflow where float32 does not: no loss scale is needed
UNSCALED = ('bfloat16', 'float32', 'float64')


class _DeferredNorm:
    """Clips gradients and hands their norm on as a tensor.

    The message hub of ``DeferredScalarsHook`` reads it for the next log line,
    MMEngine's own reads it at once, as in ``OptimWrapper``.
    """

    def _clip_grad(self) -> None:
        params = [
            param for group in self.optimizer.param_groups
            for param in group['params']
            if param.requires_grad and param.grad is not None
        ]
        if not params:
            return
        norm = self.clip_func(params, **self.clip_grad_kwargs)
        # clipping by value has none
        if norm is not None:
            self.message_hub.update_scalar(f'train/{self.grad_name}', norm)


@OPTIM_WRAPPERS.register_module()
class DeferredOptimWrapper(_DeferredNorm, OptimWrapper):
    """``OptimWrapper`` that does not wait for the norm of the gradients.

    Needs ``DeferredScalarsHook``: without it the norm is read at every step,
    as ``OptimWrapper`` does.

    Args:
        **kwargs: The arguments of ``OptimWrapper``.

    Examples:
        >>> # in a config
        >>> optim_wrapper = dict(
        ...     type='DeferredOptimWrapper',
        ...     optimizer=dict(type='SGD', lr=0.05),
        ...     clip_grad=dict(max_norm=40))
    """


@OPTIM_WRAPPERS.register_module()
class DeferredAmpOptimWrapper(_DeferredNorm, AmpOptimWrapper):
    """``AmpOptimWrapper`` that does not wait for the device.

    float16 needs a loss scale, and the step waits to see whether it overflew;
    the other types need none and get none.

    Args:
        loss_scale (float | str | dict): As in ``AmpOptimWrapper``; without
            effect where ``dtype`` needs no scale. Defaults to 'dynamic'.
        dtype (str | torch.dtype, optional): The type to autocast to. Defaults
            to None, the device's own: float16 on GPUs.
        **kwargs: The other arguments of ``AmpOptimWrapper``.

    Examples:
        >>> # in a config
        >>> optim_wrapper = dict(
        ...     type='DeferredAmpOptimWrapper',
        ...     dtype='bfloat16',
        ...     optimizer=dict(type='SGD', lr=0.05))
    """

    def __init__(self,
                 loss_scale: Union[float, str, dict] = 'dynamic',
                 dtype: Union[str, torch.dtype, None] = None,
                 **kwargs) -> None:
        if str(dtype).replace('torch.', '') in UNSCALED:
            loss_scale = dict(enabled=False)
        super().__init__(loss_scale=loss_scale, dtype=dtype, **kwargs)

    def state_dict(self) -> dict:
        """State of the optimizer and, if there is one, of the loss scale."""
        state = super().state_dict()
        # a scaler in use refuses the empty state of one that was not
        if not state['loss_scaler']:
            del state['loss_scaler']
        return state

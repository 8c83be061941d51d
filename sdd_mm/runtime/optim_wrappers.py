# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import Optional, Union

import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import Tensor

# these do not overflow where float32 does not: no loss scale is needed
UNSCALED = ('bfloat16', 'float32', 'float64')


class _Deferred:
    """Reads nothing from the device.

    - Clips gradients and hands their norm on as a tensor. The message hub of
      ``DeferredScalarsHook`` reads it for the next log line, MMEngine's own
      reads it at once, as in ``OptimWrapper``.
    - Once ``watch()`` was called, the device counts the iterations before the
      first loss or gradient that is not finite. ``FiniteLossHook`` calls it,
      and asks at the next log line.
    """
    # iterations before the first that was not finite
    finite_iters: Optional[Tensor] = None

    def watch(self) -> None:
        """Begin to watch losses and gradients, and to count iterations."""
        params = self._params()
        device = params[0].device if params else 'cpu'
        self.finite_iters = torch.zeros((), dtype=torch.int64, device=device)
        self._finite = torch.ones((), dtype=torch.bool, device=device)

    def _params(self) -> list:
        return [
            param for group in self.optimizer.param_groups
            for param in group['params'] if param.requires_grad
        ]

    def update_params(self, loss: Tensor, *args, **kwargs) -> None:
        """Update, and note whether the loss was finite."""
        if self.finite_iters is not None:
            self._finite &= loss.detach().isfinite().all()
        super().update_params(loss, *args, **kwargs)

    def count_iter(self) -> None:
        """Count an iteration, as long as all was finite."""
        self.finite_iters += self._finite

    def step(self, **kwargs) -> None:
        """Update the parameters, and note whether gradients were finite."""
        # clipping by norm reads all gradients anyway, see _clip_grad
        if not (self.clip_grad_kwargs and self.grad_name == 'grad_norm'):
            grads = [
                param.grad for param in self._params()
                if param.grad is not None
            ]
            if grads and self._watches_gradients():
                self._note(torch.stack(torch._foreach_norm(grads)))
        super().step(**kwargs)

    def weights_are_finite(self) -> bool:
        """Whether all parameters are finite now; waits for the device.

        A finite gradient may still make an update that overflows.
        """
        params = self._params()
        norms = torch.stack(torch._foreach_norm(params)) if params else None
        return norms is None or bool(norms.isfinite().all())

    def _watches_gradients(self) -> bool:
        """Those of a scaled loss may be infinite, the scaler sees to them."""
        return self.finite_iters is not None and self._scaler() is None

    def _note(self, norms: Tensor) -> None:
        """Note whether gradients were finite, by their norms."""
        self._finite &= norms.isfinite().all()

    def _scaler(self):
        """What scales the loss, None if nothing does."""
        scaler = getattr(self, 'loss_scaler', None)
        return scaler if scaler is not None and scaler.is_enabled() else None

    def loss_scale(self) -> Optional[float]:
        """The scale of the loss, None if it has none; waits for the device."""
        scaler = self._scaler()
        return None if scaler is None else scaler.get_scale()

    def _clip_grad(self) -> None:
        params = [param for param in self._params() if param.grad is not None]
        if not params:
            return
        norm = self.clip_func(params, **self.clip_grad_kwargs)
        # clipping by value has none
        if norm is not None:
            if self._watches_gradients():
                self._note(norm)
            self.message_hub.update_scalar(f'train/{self.grad_name}', norm)


@OPTIM_WRAPPERS.register_module()
class DeferredOptimWrapper(_Deferred, OptimWrapper):
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
class DeferredAmpOptimWrapper(_Deferred, AmpOptimWrapper):
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

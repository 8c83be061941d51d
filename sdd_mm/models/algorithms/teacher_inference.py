# Copyright (c) sdd_mm contributors. All rights reserved.
"""Faster ways to run a frozen teacher, each with what it changes."""
from typing import Optional

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ...errors import SDDError
from ..networks import logits_of
from ..recorders.feature_head_recorder import TOLERANCE
from .compiled import compile_backbone

DTYPES = {'bfloat16': torch.bfloat16, 'float16': torch.float16}
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
# a batch norm with another forward, as of timm, has an activation inside
NORMS = (_BatchNorm.forward, nn.SyncBatchNorm.forward)


class TeacherError(SDDError, RuntimeError):
    """A teacher that is not, or cannot be, the one that was meant."""


class TeacherInference:
    """How a frozen teacher is run.

    Everything is off by default. With any of these on, the logits of the
    first batch are compared with the plain teacher's; the difference is
    logged, and is an error if it is more than rounding.

    Args:
        channels_last (bool): Whether weights and images are channels last.
            Defaults to False.
        fold_bn (bool): Whether every batch norm behind a convolution is
            folded into it. Defaults to False.
        dtype (str, optional): 'bfloat16' or 'float16': the teacher runs in
            autocast. Defaults to None: as the student does, which is float32
            unless the optimizer wrapper uses autocast.
        compile (bool): Whether the backbone is compiled by ``torch.compile``.
            Defaults to False.

    Raises:
        TeacherError: If ``dtype`` is another one.

    Examples:
        >>> # in a config
        >>> model = dict(
        ...     type='FrozenTeacherDistill',
        ...     teacher_inference=dict(channels_last=True, fold_bn=True))
    """

    def __init__(self,
                 channels_last: bool = False,
                 fold_bn: bool = False,
                 dtype: Optional[str] = None,
                 compile: bool = False) -> None:
        if dtype is not None and dtype not in DTYPES:
            raise TeacherError(
                'model.teacher_inference.dtype must be None or one of '
                f'{list(DTYPES)}, got {dtype!r}')
        self.channels_last = channels_last
        self.fold_bn = fold_bn
        self.dtype = dtype
        self.compile = compile
        self.prepared = False

    def __repr__(self) -> str:
        return ', '.join(f'{name}={value!r}'
                         for name, value in self.options().items()) or 'plain'

    def options(self) -> dict:
        """The options that are on."""
        options = dict(
            channels_last=self.channels_last,
            fold_bn=self.fold_bn,
            dtype=self.dtype,
            compile=self.compile)
        return {name: value for name, value in options.items() if value}

    def run(self, teacher: nn.Module, inputs: Tensor, data_samples) -> Tensor:
        """The teacher's logits, (B, K).

        Args:
            teacher (nn.Module): The teacher, in eval mode.
            inputs (Tensor): Its images, (B, 3, H, W).
            data_samples (list, optional): Their data samples.
        """
        if self.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        if self.dtype is None:
            return logits_of(teacher, inputs, data_samples)
        with torch.autocast(inputs.device.type, dtype=DTYPES[self.dtype]):
            return logits_of(teacher, inputs, data_samples)

    @torch.no_grad()
    def prepare(self, teacher: nn.Module, inputs: Tensor) -> None:
        """Change the teacher, once, and report by how much its logits differ.

        Raises:
            TeacherError: If they differ by more than rounding.
        """
        if self.prepared or not self.options():
            return
        # so that autocast of the student's step does not count as a difference
        with torch.autocast(inputs.device.type, enabled=False):
            self._prepare(teacher, inputs)

    def _prepare(self, teacher: nn.Module, inputs: Tensor) -> None:
        if self.channels_last and inputs.ndim != 4:
            raise TeacherError(
                'model.teacher_inference.channels_last lays out images '
                f'(B, C, H, W), the teacher {type(teacher).__name__} gets '
                f'clips {tuple(inputs.shape)}: set it to False')
        plain = logits_of(teacher, inputs).float()
        if self.fold_bn:
            # two images suffice to find which modules follow each other
            fold_batch_norms(teacher, inputs[:2])
        if self.channels_last:
            teacher.to(memory_format=torch.channels_last)
        if self.compile:
            compile_backbone(teacher)
        found = self.run(teacher, inputs, None).float()
        self.prepared = True
        largest = plain.abs().max().item()
        difference = (found - plain).abs().max().item() / max(largest, 1e-6)
        kept = (found.argmax(-1) == plain.argmax(-1)).sum().item()
        report = (f'Teacher inference ({self}): logits differ by at most '
                  f'{difference:.2g} of the largest, {kept} of {len(plain)} '
                  'images keep their class')
        if not difference <= TOLERANCE[DTYPES.get(self.dtype, torch.float32)]:
            raise TeacherError(
                f'{type(teacher).__name__}: {report}. teacher_inference '
                'changed the logits beyond rounding: leave out '
                f'model.teacher_inference.{" or ".join(self.options())}')
        print_log(report, logger='current')


@torch.no_grad()
def fold_batch_norms(model: nn.Module, inputs: Tensor) -> int:
    """Fold every batch norm whose input is a convolution's output into it.

    The pairs are those of an actual forward, not of the order in which the
    modules were registered.

    Args:
        model (nn.Module): A model in eval mode.
        inputs (Tensor): Images, (B, 3, H, W).

    Returns:
        int: Number of folded batch norms.
    """
    outputs, pairs, calls = [], [], []

    def keep_output(module, args, output):
        outputs.append((module, output, output._version))
        calls.append(module)

    def keep_pair(module, args):
        # a shortcut added in place is no longer the convolution's output
        pairs.extend((conv, module) for conv, output, version in outputs
                     if output is args[0] and output._version == version)
        calls.append(module)

    handles = []
    for module in model.modules():
        if isinstance(module, CONVOLUTIONS):
            handles.append(module.register_forward_hook(keep_output))
        elif isinstance(module, _BatchNorm) and type(module).forward in NORMS:
            handles.append(module.register_forward_pre_hook(keep_pair))
    try:
        logits_of(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    folded = set()
    for conv, norm in pairs:
        once = calls.count(conv) == calls.count(norm) == 1
        if once and norm.running_mean is not None:
            weight, bias = fuse_conv_bn_weights(conv.weight, conv.bias,
                                                norm.running_mean,
                                                norm.running_var, norm.eps,
                                                norm.weight, norm.bias)
            conv.weight = nn.Parameter(weight, requires_grad=False)
            conv.bias = nn.Parameter(bias, requires_grad=False)
            folded.add(norm)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if child in folded:
                setattr(module, name, _Folded(child))
    return len(folded)


class _Folded(nn.Module):
    """A batch norm folded into its convolution: an identity.

    It keeps its tensors, since EMA looks for every name that it once found.
    """

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self._parameters.update(norm._parameters)
        self._buffers.update(norm._buffers)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs

# Copyright (c) sdd_mm contributors. All rights reserved.
"""timm's transformers that average their patch tokens, as teachers of SDD.

``head(mean(norm(tokens)))`` is linear in the tokens after ``norm``, so each
of them is a cell of a map. With ``fc_norm``, a norm of the average, it is
not: the average of normalized tokens is another vector than the normalized
average. Such a model is refused, but for ``RegionHead``, which applies
``fc_norm`` and ``head`` to every cell.
"""
from typing import Tuple

import torch
from torch import nn

from .checkpoint import ConversionError
from .timm_classifier import INSIDE, create, timm_logits_teacher


class TailError(ConversionError):
    """A tail that only a ``RegionHead`` can apply to cells."""


def timm_tokens_teacher(model_name: str,
                        num_classes: int = 1000,
                        to_rgb: bool = True,
                        region: bool = False) -> Tuple[dict, dict]:
    """Config of a timm model that averages patch tokens, and its recorder.

    Args:
        model_name (str): Its name in timm, such as
            ``vit_base_patch16_siglip_gap_224``.
        num_classes (int): Number of classes. Defaults to 1000.
        to_rgb (bool): As of
            :func:`~sdd_mm.converters.timm_classifier.timm_teacher`.
        region (bool): Whether to record with ``RegionHead``, which is not the
            paper's SDD. Defaults to False.

    Returns:
        tuple[dict, dict]: Config of a ``ModuleClassifier`` with its
        ``data_preprocessor``, and that of its recorder.

    Raises:
        TailError: If a norm of the average follows, and ``region`` is False.
        ConversionError: If it does not average patch tokens, or if something
            else than a linear classifier follows.

    Examples:
        >>> timm_tokens_teacher('vit_base_patch16_siglip_gap_224')[1]
        {'type': 'FeatureHead', 'feature': 'backbone.net.norm',
         'token_grid': (14, 14), 'head': 'backbone.net.head'}
    """
    model = create(model_name, num_classes).eval()
    patches = getattr(model, 'patch_embed', getattr(model, 'stem', None))
    grid = getattr(patches, 'grid_size', None)
    from timm.layers import PatchEmbed
    if not isinstance(patches, PatchEmbed) or grid is None or getattr(
            model, 'global_pool', None) != 'avg' or getattr(
                model, 'attn_pool', None) is not None:
        raise ConversionError(
            'it does not pool a feature map, and does not average the patch '
            'tokens of a fixed grid (PatchEmbed, global_pool="avg")')
    between = getattr(model, 'fc_norm', None)
    normalizes = not isinstance(between, (nn.Identity, type(None)))
    if normalizes and not region:
        raise TailError(
            f'between the average of its tokens and its classifier there is '
            f'fc_norm ({type(between).__name__}), so the tail is not one '
            'linear layer')
    if not isinstance(getattr(model, 'head', None),
                      nn.Linear) or not isinstance(
                          getattr(model, 'norm', None), nn.Module):
        raise ConversionError(
            'it has no `norm` before the average of its tokens, or its '
            '`head` is not one linear layer')
    prefix = int(getattr(model, 'num_prefix_tokens', 0) or 0)
    _compare(model, tuple(grid), prefix)
    recorder = dict(
        type='RegionHead' if region else 'FeatureHead',
        feature=f'{INSIDE}.norm',
        token_grid=tuple(grid))
    if region:
        names = ['fc_norm'] * normalizes + ['head']
        recorder['tail'] = tuple(f'{INSIDE}.{name}' for name in names)
    else:
        recorder['head'] = f'{INSIDE}.head'
    if prefix:
        recorder['prefix_tokens'] = prefix
    return timm_logits_teacher(model_name, num_classes, to_rgb), recorder


@torch.no_grad()
def _compare(model: nn.Module, grid: Tuple[int, int], prefix: int) -> None:
    """The logits of the average token against the model's own."""
    kept = []
    hook = model.norm.register_forward_hook(
        lambda module, inputs, output: kept.append(output))
    with torch.random.fork_rng(devices=[]):
        model.head.reset_parameters()  # zeros would hide a difference
        own = model(torch.rand(1, *model.default_cfg['input_size']))
    hook.remove()
    shape = tuple(kept[-1].shape) if kept else ()
    if len(shape) != 3 or shape[1] != prefix + grid[0] * grid[1]:
        raise ConversionError(
            f'its norm returns {shape}, not {prefix} prefix tokens and a grid '
            f'of {grid} patch tokens')
    average = kept[-1][:, prefix:].mean(1)
    found = model.head(getattr(model, 'fc_norm', nn.Identity())(average))
    difference = (found - own).abs().max() / own.abs().max()
    if not difference < 1e-4:
        raise ConversionError(
            'the logits of its average patch token differ from its own by '
            f'{difference:.3g} of the largest: something else lies '
            'between')

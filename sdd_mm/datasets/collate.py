# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import Any, Mapping, Sequence, Union

from mmengine.dataset import default_collate
from mmengine.registry import FUNCTIONS


@FUNCTIONS.register_module()
def batch_or_collate(data: Union[Mapping, Sequence]) -> Any:
    """Pass a finished batch through, collate anything else.

    Args:
        data (dict | Sequence): What a data set gave for the indices of a
            batch: the batch, or a list of samples.

    Examples:
        >>> # in a config
        >>> train_dataloader = dict(
        ...     collate_fn=dict(type='batch_or_collate'),
        ...     dataset=dict(type='InMemoryDataset', dataset=...))
    """
    return data if isinstance(data, Mapping) else default_collate(data)

# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import Any, Mapping, Sequence, Union

from mmengine.dataset import default_collate
from mmengine.registry import FUNCTIONS


@FUNCTIONS.register_module()
def batch_or_collate(data: Union[Mapping, Sequence]) -> Any:
    """Return a finished batch as it is, and collate samples.

    Args:
        data (dict | Sequence): A batch, as ``InMemoryDataset`` returns it, or
            a list of samples.

    Returns:
        Any: The batch.

    Examples:
        >>> # in a config
        >>> train_dataloader = dict(
        ...     collate_fn=dict(type='batch_or_collate'),
        ...     dataset=dict(type='InMemoryDataset', dataset=...))
    """
    return data if isinstance(data, Mapping) else default_collate(data)

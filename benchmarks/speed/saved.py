# Copyright (c) sdd_mm contributors. All rights reserved.
"""P3: bytes that a loss keeps for its backward pass."""
from typing import Callable, Dict, Iterable

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from . import shapes
from .measure import Result

ROWS = 'tensors of local logits, the rows alone'
WHOLE = 'tensors of local logits, with pooling and classifier'


def saved(function: Callable[[], Tensor]) -> Dict[int, int]:
    """Bytes of each storage that the graph of ``function()`` holds.

    A storage counts once, however many tensors share it. The hooks do not see
    what a Python ``autograd.Function`` keeps as an attribute of its context:
    that is looked up in the graph.
    """
    kept = []  # alive, so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        output = function()
    return _storages([*kept, *_attributes(output.grad_fn)])


def _storages(tensors: Iterable[Tensor]) -> Dict[int, int]:
    return {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in tensors
    }


def _attributes(node) -> Iterable[Tensor]:
    """Tensors among the attributes of a graph's nodes."""
    seen, todo = set(), [node]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for value in getattr(node, '__dict__', {}).values():
            values = value if isinstance(value, (list, tuple)) else [value]
            yield from (v for v in values if isinstance(v, Tensor))
        todo += [function for function, _ in node.next_functions]


def run(options) -> Result:
    result = Result(
        'saved', 'From the local logits on, a row loss keeps no more for its '
        "backward pass than one tensor of the student's local logits.")
    for title, shape in (('CIFAR', shapes.CIFAR), ('ImageNet',
                                                   shapes.IMAGENET)):
        if options.tiny:
            shape = shape.small()
        unit = shape.logit_bytes
        result.notes.append(
            f'{title}: B {shape.batch}, K {shape.classes}, {shape.cells} '
            f'cells; one tensor of local logits is {unit / 2**20:.2f} MiB.')
        for criterion in shapes.CRITERIA:
            loss = shapes.Loss(shape, criterion, options.device)
            inputs = _storages((*loss.student, *loss.teacher, loss.target))
            for whose in ('ours', 'plain'):
                rows = sum(saved(loss.rows(whose)).values())
                whole = saved(getattr(loss, whose))
                added = sum(size for pointer, size in whole.items()
                            if pointer not in inputs)
                name = f'{criterion}, {title}'
                result.claim(
                    f'{name}: {whose}',
                    1.0 if whose == 'ours' else None,
                    rows / unit,
                    unit=ROWS)
                result.claim(
                    f'SD-{name}: {whose}', None, added / unit, unit=WHOLE)
                result.samples[f'SD-{name}, {whose}'] = dict(
                    rows_bytes=rows,
                    added_bytes=added,
                    inputs_bytes=sum(whole.values()) - added)
    result.notes.append(
        'With pooling and classifier, the maps and weights are not counted: '
        'they exist anyway.')
    return result

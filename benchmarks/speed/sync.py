# Copyright (c) sdd_mm contributors. All rights reserved.
"""P4: how often the host waits for the device between two log lines."""
import copy
import sys
import traceback
import warnings
from collections import Counter
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Iterator

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from .measure import Result
from .trainers import PAIR, configure, started, stock

# iterations from one log line to the next, and those between them
INTERVAL = 10
BETWEEN = INTERVAL - 1
METHODS = ('sd-kd', 'sd-dkd', 'sd-nkd')
STOCK = 'MMRazor'
# operators whose result, or its shape, depends on values: the host reads them
READS = {
    '_local_scalar_dense', 'is_nonzero', 'equal', 'allclose', 'nonzero',
    'nonzero_numpy', 'argwhere', 'masked_select', 'unique', '_unique',
    '_unique2', 'unique_dim', 'unique_consecutive', 'bincount',
    'repeat_interleave'
}
# methods that bring a tensor to the host without an operator
COPIES = {
    getattr(torch.Tensor, name): name
    for name in ('cpu', 'numpy', 'tolist', '__array__')
}
ON_HOST = ('torch/utils/data/', 'label_check_hook')
OURS = ('sdd_mm', 'mmengine', 'mmrazor', 'mmpretrain', 'benchmarks')


class _Operators(TorchDispatchMode):

    def __init__(self, found: Counter) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        masked = name.startswith('index') and any(
            index is not None and index.dtype in (torch.bool, torch.uint8)
            for indices in args[1:2] if isinstance(indices, (list, tuple))
            for index in indices)
        if name in READS or masked:
            _count(self.found, name)
        return func(*args, **kwargs or {})


class _Methods(TorchFunctionMode):

    def __init__(self, found: Counter) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in COPIES:
            _count(self.found, COPIES[func])
        return func(*args, **kwargs or {})


def _count(found: Counter, name: str) -> None:
    """Note a read with the line that made it.

    Reads of the data loader do not count, nor those of the label check, which
    runs before the copy to the device: their tensors are on the host.
    """
    stack = [(frame.f_code.co_filename, number)
             for frame, number in traceback.walk_stack(sys._getframe(2))]
    if any(host in file for file, _ in stack for host in ON_HOST):
        return
    for file, number in stack:
        parts = Path(file).parts
        package = next((part for part in OURS if part in parts), None)
        if package and file != __file__:
            place = '/'.join(parts[parts.index(package):])
            found[f'{name} in {place}:{number}'] += 1
            return
    found[f'{name} elsewhere'] += 1


@contextmanager
def reads(device: str) -> Iterator[Counter]:
    """Count what makes the host wait for the device, by its line.

    On a GPU, torch itself reports it. On the CPU, the operators and methods
    that would wait on a GPU are counted.
    """
    found = Counter()
    with ExitStack() as stack:
        if device == 'cpu':
            stack.enter_context(_Operators(found))
            stack.enter_context(_Methods(found))
        else:
            stack.callback(torch.cuda.set_sync_debug_mode, 'default')
            stack.enter_context(warnings.catch_warnings())
            # the first time, torch warns that this mode is a prototype
            warnings.simplefilter('ignore')
            torch.cuda.set_sync_debug_mode('warn')
            warnings.simplefilter('always')
            warnings.showwarning = lambda *args, **kwargs: _count(
                found, 'synchronization')
        yield found


def count(cfg, dtype: str, ours: bool, device: str) -> Counter:
    """Reads of a run between two log lines."""
    context = nullcontext()
    if dtype == 'bfloat16' and device == 'cpu':
        # MMEngine has no such wrapper for a CPU
        context = torch.autocast('cpu', dtype=torch.bfloat16)
    elif dtype == 'bfloat16':
        cfg = copy.deepcopy(cfg)
        cfg.optim_wrapper.update(
            type='DeferredAmpOptimWrapper' if ours else 'AmpOptimWrapper',
            dtype=dtype)
    with started(dict(run=cfg)) as trainers, context:
        trainer = trainers['run']
        # past the step that checks the recorders, and on to a log line
        while trainer.runner.iter % INTERVAL:
            trainer()
        with reads(device) as found:
            for _ in range(BETWEEN):
                trainer()
    return found


def run(options) -> Result:
    result = Result(
        'sync', 'Between two log lines neither the loss nor the step makes '
        'the host wait for the device.')
    for method in METHODS[:1] if options.tiny else METHODS:
        config = f'demo/{method}' if options.tiny else f'sdd/{method}_{PAIR}'
        cfg, name = configure(f'{config}.py', options), method.upper()
        # reads do not depend on the size of the batch
        cfg.train_dataloader.batch_size = 2
        cfg.default_hooks.logger.interval = INTERVAL
        for title, one in ((name, cfg), (f'{name}, {STOCK}', stock(cfg))):
            ours = one is cfg
            for dtype in ('float32', 'bfloat16'):
                found = count(one, dtype, ours, options.device)
                result.samples[f'{title}, {dtype}'] = dict(found)
                result.claim(
                    f'{title}, {dtype}',
                    0 if ours else None,
                    sum(found.values()),
                    unit=f'reads in {BETWEEN} steps')
                if ours or method == METHODS[0]:
                    result.notes += [
                        f'{title}, {dtype}: {times} x {place}'
                        for place, times in sorted(found.items())
                    ]
    return result

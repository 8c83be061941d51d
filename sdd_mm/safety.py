# Copyright (c) sdd_mm contributors. All rights reserved.
"""Refusing files that could run code.

torch reads weights only, and so no code, since 2.6. What MMEngine does beside
it is not as careful:

- a checkpoint from a URL is read by ``torch.hub``, which runs what a pickle
  asks for, and is not compared with the hash in its name;
- onedl-mmengine, its maintained fork, reads a file that holds more than
  weights once more, with code and a warning;
- the config that a checkpoint holds is text, which the runner that resumes
  and the inferencer that is given a checkpoint alone run as Python;
- a YAML file may name functions to call.

:func:`load_checkpoint` reads a checkpoint without any of it, and is what this
package reads checkpoints with. :func:`guard` makes MMEngine itself as careful
for the rest of the process: the command lines of this package call it,
``import sdd_mm`` does not. Scripts of your own call it for files that they do
not trust::

    from sdd_mm import safety
    safety.guard()
"""
import ast
import builtins
import hashlib
import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional
from urllib.parse import urlparse

import torch
import yaml
from mmengine.fileio.handlers import yaml_handler
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader

from .errors import SDDError

HASH = re.compile(r'-([a-f0-9]{8,})\.')
# where checkpoints of MMEngine hold the text of a config
CONFIGS = (('meta', 'config'), ('meta', 'cfg'), ('message_hub', 'runtime_info',
                                                 'cfg'))
# what the text of a plain config consists of
PLAIN = (ast.Module, ast.Assign, ast.Name, ast.Attribute, ast.Store, ast.Load,
         ast.Constant, ast.Dict, ast.List, ast.Tuple, ast.Set, ast.Call,
         ast.keyword, ast.UnaryOp, ast.USub)


class UnsafeFileError(SDDError, RuntimeError):
    """A file that could run code, or is not what its name says."""


def load_checkpoint(filename: str, logger: str = 'current') -> Any:
    """Read a checkpoint to the CPU without running anything of it.

    Args:
        filename (str): A path, a URL, or a name that MMEngine knows, such as
            ``torchvision://resnet50``.
        logger (str): Where MMEngine says that it reads, 'silent' for nowhere.
            Defaults to 'current'.

    Returns:
        Any: What the file holds, mostly a dict.

    Raises:
        UnsafeFileError: If the file is not what its name says, or if a config
            in it is code.
        pickle.UnpicklingError: If it asks for more than weights and what
            MMEngine's checkpoints hold.
    """
    with _careful_reading():
        content = CheckpointLoader.load_checkpoint(filename, 'cpu', logger)
    refuse_code(content, filename)
    return content


def guard() -> None:
    """Let MMEngine refuse files that could run code, in this process.

    Checkpoints that are downloaded, configs in checkpoints, and YAML. A second
    call changes nothing.
    """
    vars(mmengine_checkpoint).update(_careful_functions())
    yaml_handler.Loader = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
    original = CheckpointLoader.load_checkpoint
    if getattr(original, '_sdd_mm', False):
        return

    def guarded(cls, filename, map_location=None, logger='current'):
        content = original(filename, map_location, logger)
        refuse_code(content, filename)
        return content

    guarded._sdd_mm = True
    CheckpointLoader.load_checkpoint = classmethod(guarded)


def _careful_functions() -> Dict[str, Callable]:
    """What takes the place of functions that MMEngine reads files with."""
    functions = dict(load_url=load_url)
    if hasattr(mmengine_checkpoint, '_safe_torch_load'):
        functions['_safe_torch_load'] = _load_weights  # of onedl-mmengine
    return functions


@contextmanager
def _careful_reading() -> Iterator[None]:
    """Let MMEngine read checkpoints by our functions."""
    functions = _careful_functions()
    originals = {
        name: getattr(mmengine_checkpoint, name)
        for name in functions
    }
    vars(mmengine_checkpoint).update(functions)
    try:
        yield
    finally:
        vars(mmengine_checkpoint).update(originals)


def _load_weights(file: Any,
                  map_location: Any = None,
                  weights_only: Any = None) -> Any:
    """Read weights only, whatever is asked for."""
    return torch.load(file, map_location=map_location, weights_only=True)


def load_url(url: str,
             model_dir: Optional[str] = None,
             map_location: Any = None,
             progress: bool = True) -> Any:
    """Read a checkpoint from a URL, weights only, as its name says.

    OpenMMLab's names, as torch's own, end in the first digits of the file's
    SHA-256: ``resnet50_8xb32_in1k_20210831-ea4938fc.pth``.

    Args:
        url (str): Where it is.
        model_dir (str, optional): Where it is kept. Defaults to None, torch's
            folder of checkpoints.
        map_location (Any): As in ``torch.load``. Defaults to None.
        progress (bool): Whether to show a progress bar. Defaults to True.

    Raises:
        RuntimeError: If the file, downloaded now or before, has another hash
            than its name; an ``UnsafeFileError`` if before.
    """
    name = os.path.basename(urlparse(url).path)
    check = names_hash(name)
    cached = Path(
        model_dir or os.path.join(torch.hub.get_dir(), 'checkpoints'), name)
    if check and cached.is_file():  # which torch would take as it is
        compare_hash(cached)
    return torch.hub.load_state_dict_from_url(
        url,
        model_dir=model_dir,
        map_location=map_location,
        progress=progress,
        check_hash=check,
        weights_only=True)


def names_hash(name: str) -> bool:
    """Whether a file's name ends in a hash, and not in a date."""
    found = HASH.search(name)
    return found is not None and (not re.fullmatch(r'20\d{6}', found[1]) or
                                  re.search(r'\d{8}-\w+\.', name) is not None)


def compare_hash(path: Path) -> None:
    """Refuse a file whose SHA-256 is not the one in its name."""
    wanted = HASH.search(path.name)[1]
    with open(path, 'rb') as file:
        found = hashlib.sha256()
        while part := file.read(1 << 20):
            found.update(part)
    if not found.hexdigest().startswith(wanted):
        raise UnsafeFileError(
            f'{path}: checksum mismatch: the file name says {wanted}, its '
            f'SHA-256 begins with {found.hexdigest()[:len(wanted)]}. Remove '
            'it, and it will be downloaded again')


def refuse_code(content: Any, filename: str) -> None:
    """Refuse a checkpoint whose config is more than data.

    Args:
        content (Any): What the checkpoint holds.
        filename (str): What the error calls it.
    """
    for place in CONFIGS:
        text = content
        for key in place:
            text = text.get(key) if isinstance(text, dict) else None
        if isinstance(text, str) and not is_plain(text):
            raise UnsafeFileError(
                f'{filename}: its {".".join(place)} is no plain config but '
                'code, which MMEngine would run: the checkpoint is refused')


def is_plain(config: str) -> bool:
    """Whether running the text of a config can only fill its variables.

    As the dump of any config does. Beside what Python runs, MMEngine runs a
    ``_base_``, and puts variables of the environment in place of braces. It
    also imports what ``custom_imports`` names, which is installed.
    """
    if '{{' in config:
        return False
    try:
        parts = list(ast.walk(ast.parse(config)))
    except (SyntaxError, ValueError):  # it cannot run at all
        return True
    except (MemoryError, RecursionError):  # nested beyond what a config is
        return False
    names = [part for part in parts if isinstance(part, ast.Name)]
    own = {part.id for part in names if isinstance(part.ctx, ast.Store)}
    # a name that nobody knows cannot be called
    known = own | set(dir(builtins)) - {'dict', 'set', 'range', 'slice'}
    return '_base_' not in own and all(
        isinstance(part, PLAIN) and
        (not isinstance(part, ast.Call)
         or isinstance(part.func, ast.Name) and part.func.id not in known) and
        (not isinstance(part, ast.Attribute) or isinstance(part.ctx, ast.Load))
        for part in parts)

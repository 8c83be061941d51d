# Copyright (c) sdd_mm contributors. All rights reserved.
"""Config files, those with ``_base_`` and those with imports."""
from functools import lru_cache
from pathlib import Path
from typing import Iterator, Optional, Union

import mmengine.registry
from mmengine.config import Config
from mmengine.registry import Registry

SCOPES = ('mmcv', 'mmengine', 'mmpretrain', 'mmrazor')


def project_root() -> Path:
    """The folder that holds ``configs`` and ``model-index.yml``.

    Inside the installed package, or in a checkout around it.
    """
    package = Path(__file__).resolve().parent
    return next(
        path for path in (package / '.mim', package.parent)
        if (path / 'model-index.yml').is_file())


def load_config(path: Union[str, Path]) -> Config:
    """Read a config file and replace classes by their names.

    Args:
        path (str | Path): The file.

    Returns:
        Config: The config, see :func:`named`.

    Raises:
        Exception: Whatever the file raises when it runs.
    """
    return named(Config.fromfile(path))


def run_config(meta: dict, path: Optional[str] = None) -> Config:
    """The config of a run, from a file or from a checkpoint of the run.

    Args:
        meta (dict): The checkpoint's meta.
        path (str, optional): A config file, as given by ``--config``.
            Defaults to None: the config in the meta.

    Returns:
        Config: The config, see :func:`named`.

    Raises:
        ValueError: If there is no config, or it cannot be read.
    """
    text = meta.get('cfg')
    if path is None and not isinstance(text, str):
        raise ValueError('it holds no config of its run: pass the config with '
                         '--config')
    try:
        if path is not None:
            return load_config(path)
        return named(Config.fromstring(text, '.py'))
    except Exception as error:  # a config may raise anything
        title = ('its config cannot be read: pass the config of its run with '
                 '--config' if path is None else f'--config {path}')
        raise ValueError(f'{title} ({type(error).__name__}: '
                         f'{error})') from error


def is_new_style(path: Union[str, Path]) -> bool:
    """Whether a config file imports the classes it uses."""
    return Config._is_lazy_import(str(Path(path).expanduser()))


def named(cfg: Config) -> Config:
    """A config whose types are names in registries.

    In MMEngine's new style of configs types are classes, and in the dump of
    such a config they are the paths of classes.

    Args:
        cfg (Config): Any config.

    Returns:
        Config: ``cfg`` itself if its types are names already.
    """
    plain = cfg.to_dict()  # classes become paths
    if not any(kind.count('.') > 1 for kind in _types(plain)):
        return cfg
    return Config(_name_types(plain), cfg.text, cfg.filename)


def _types(value) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get('type'), str):
            yield value['type']
        value = value.values()
    if not isinstance(value, str) and hasattr(value, '__iter__'):
        for inner in value:
            yield from _types(inner)


def _name_types(value):
    if isinstance(value, dict):
        return {
            key:
            _name(inner)
            if key == 'type' and isinstance(inner, str) else _name_types(inner)
            for key, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        return type(value)(map(_name_types, value))
    return value


@lru_cache(maxsize=None)
def _name(path: str) -> str:
    """'mmpretrain.CustomDataset' of 'mmpretrain.datasets.CustomDataset'."""
    if path.count('.') < 2:
        return path
    first, *_, last = path.split('.')
    name = f'{first}.{last}' if first in SCOPES else last
    registries = [
        registry for registry in vars(mmengine.registry).values()
        if isinstance(registry, Registry)
    ]
    for registry in registries:
        wanted = registry.get(path)
        if wanted is not None:
            break
    else:
        return path
    found = any(
        child.get(name) is wanted for registry in registries
        for child in (registry, *registry.children.values()))
    return name if found else path

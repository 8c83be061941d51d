# Copyright (c) sdd_mm contributors. All rights reserved.
"""What fails while a part of a config is built, with its config key."""
import inspect
import re
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, Iterator, List

import mmengine.registry
from mmengine.registry import Registry

from .config_values import items
from .errors import PreflightError

ROOTS = [
    value for value in vars(mmengine.registry).values()
    if isinstance(value, Registry)
]


@contextmanager
def building(key: str, config: Any, function=None) -> Iterator[None]:
    """Turn an error in this block into a sentence that names the config key.

    Args:
        key (str): The dotted key of what is built.
        config (Any): Its config.
        function (callable, optional): What takes the arguments of a config
            without ``type``. Defaults to None.

    Raises:
        PreflightError: Instead of any other exception.
    """
    try:
        yield
    except PreflightError:
        raise
    except Exception as error:  # constructors may raise anything
        raise PreflightError(_sentence(key, config, error,
                                       function)) from error


def says(error: BaseException) -> str:
    """An exception on one line."""
    text = error.args[0] if isinstance(error, KeyError) else error
    return f'{type(error).__name__}: {" ".join(str(text).split())}'


def _sentence(key: str, config: Any, error: Exception, function) -> str:
    text = says(error)
    absent = re.search(r"(\S+) is not in the (?:\w+::)?(.+?) registry", text)
    if absent:
        return _no_such_type(key, config, absent[1], absent[2])
    unknown = re.search(
        r"(?:(\w+)(?:\.__init__)?\(\) )?got an unexpected keyword argument "
        r"'(\w+)'", text)
    if unknown:
        return _no_such_argument(key, config, function or unknown[1],
                                 unknown[2])
    if isinstance(error, KeyError) and text.split(': ')[1].isidentifier():
        return f'{key} has no key {text.split(": ")[1]!r}'
    return f'{_suspects(key, config, text)}: {text}'


def _no_such_type(key: str, config: Any, name: str, registry: str) -> str:
    known = {
        known
        for root in ROOTS if any(one.name == registry
                                 for one in _family(root))
        for one in _family(root) for known in one.module_dict
    }
    suffix = 'Recorder'  # MMRazor appends it
    names = (name, name.removesuffix(suffix))
    where = [
        dotted for dotted, value in items({key: config})
        if dotted.endswith('.type') and value in names
    ]
    near = get_close_matches(name.split('.')[-1], known, n=1)
    if where and name.endswith(suffix):
        name = name.removesuffix(suffix)
        near = [one.removesuffix(suffix) for one in near]
    return (f'{", ".join(where) or key}: there is no {name!r} in the registry '
            f'{registry!r}{_hint(near)}')


def _no_such_argument(key: str, config: Any, function: Any,
                      argument: str) -> str:
    where, known = [], parameters(function)
    entries = dict(items({key: config}))
    for dotted in entries:
        parent, _, last = dotted.rpartition('.')
        if last != argument or not isinstance(entries.get(parent), dict):
            continue
        kind = entries[parent].get('type')
        takes = parameters(kind)
        if argument not in takes:
            where.append(dotted)
            known, function = takes or known, kind or function
    near = get_close_matches(argument, known, n=1)
    name = getattr(function, '__name__', function)
    return (f'{", ".join(where) or key}: {name} takes no {argument!r}'
            f'{_hint(near)}')


def _hint(near: List[str]) -> str:
    return f'. Did you mean {near[0]!r}?' if near else ''


def _suspects(key: str, config: Any, text: str) -> str:
    """The entries of a config that an error seems to speak of."""
    if not isinstance(config, (dict, list, tuple)):
        return f'{key}={config!r}'
    named = {
        dotted: value
        for dotted, value in items({key: config})
        if re.search(rf'\b{re.escape(dotted.split(".")[-1])}\b', text)
        and not isinstance(value, dict) and not dotted.endswith('.type')
    }
    exact = [name for name in named if repr(named[name]) in text]
    where = exact or [n for n in named if '_' in n.rpartition('.')[2]]
    return ', '.join(f'{name}={named[name]!r}' for name in where[:3]) or key


def _family(registry: Registry) -> Iterator[Registry]:
    """A registry and those of other packages below it."""
    yield registry
    for child in registry.children.values():
        yield from _family(child)


def parameters(function: Any) -> set:
    """Names of the arguments of a function, a class, or a class by its name.

    Args:
        function (callable | str): What is called. Classes that hand
            ``**kwargs`` on also have the arguments of their base classes.

    Returns:
        set[str]: The names; none if no class has the name.
    """
    if isinstance(function, str):
        name = function.split('.')[-1]
        function = next((one.module_dict[name] for root in ROOTS
                         for one in _family(root) if name in one.module_dict),
                        None)
    inits = [
        base.__init__ for base in inspect.getmro(function)
        if base is not object and '__init__' in vars(base)
    ] if inspect.isclass(function) else [function]
    names: set = set()
    for init in filter(callable, inits):
        parameters = inspect.signature(init).parameters
        names.update(parameters)
        if all(parameter.kind is not inspect.Parameter.VAR_KEYWORD
               for parameter in parameters.values()):
            break  # it hands nothing on to the next
    return names - {'self', 'args', 'kwargs'}

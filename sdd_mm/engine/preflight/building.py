# Copyright (c) sdd_mm contributors. All rights reserved.
"""What fails while a part of a config is built, with its config key."""
import inspect
import re
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, Iterator, Optional

import mmengine.registry
from mmengine.registry import Registry

from ..errors import PreflightError
from .values import items

ROOTS = [
    value for value in vars(mmengine.registry).values()
    if isinstance(value, Registry)
]
ABSENT = re.compile(r'(\S+) is not in the (?:\w+::)?(.+?) registry')
UNKNOWN = re.compile(r"(?:(\w+)(?:\.__init__)?\(\) )?got an unexpected "
                     r"keyword argument '(\w+)'")


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
        entries, own = dict(items({key: config})), _own(error)
        text = says(own or error)
        absent, unknown = ABSENT.search(text), UNKNOWN.search(text)
        if own is not None:
            text = f'{key}: {" ".join(str(own).split())}'
        elif absent:
            text = _no_such_type(key, entries, absent[1], absent[2])
        elif unknown:
            text = _no_such_argument(key, entries, function or unknown[1],
                                     unknown[2])
        else:
            text = f'{_suspects(key, entries, text)}: {text}'
        raise PreflightError(text) from error


def _own(error: BaseException) -> Optional[BaseException]:
    """The first error of this package that names keys itself."""
    found = None
    while error is not None:
        if getattr(error, 'names_keys', False):
            found = error  # MMEngine raises it again, with a class and a file
        error = error.__cause__ or error.__context__
    return found


def says(error: BaseException) -> str:
    """An exception on one line."""
    text = error.args[0] if isinstance(error, KeyError) else error
    return f'{type(error).__name__}: {" ".join(str(text).split())}'


def _no_such_type(key: str, entries: dict, name: str, registry: str) -> str:
    families = [_family(root) for root in ROOTS]
    known = {
        known
        for family in families if any(one.name == registry for one in family)
        for one in family for known in one.module_dict
    }
    near = get_close_matches(name.split('.')[-1], known, n=1)
    short = name.removesuffix('Recorder')  # MMRazor appends it
    where = [
        dotted for dotted, value in entries.items()
        if dotted.endswith('.type') and value in (name, short)
    ]
    if where and entries[where[0]] == short:
        name, near = short, [one.removesuffix('Recorder') for one in near]
    return (f'{", ".join(where) or key}: there is no {name!r} in the registry '
            f'{registry!r}{_hint(near)}')


def _no_such_argument(key: str, entries: dict, function: Any,
                      argument: str) -> str:
    where, known = [], parameters(function)
    for dotted in entries:
        parent, _, last = dotted.rpartition('.')
        if last == argument and isinstance(entries.get(parent), dict):
            kind = entries[parent].get('type', function)
            if argument not in parameters(kind):
                where.append(dotted)
                known, function = parameters(kind) or known, kind
    name = getattr(function, '__name__', function)
    near = get_close_matches(argument, known, n=1)
    return (f'{", ".join(where) or key}: {name} takes no {argument!r}'
            f'{_hint(near)}')


def look_up(registry: Registry, name: Any) -> Any:
    """The class of a type in the scope of the config."""
    with registry.switch_scope_and_registry(None) as scoped:
        found = scoped.get(name) if isinstance(name, str) else name
    if found is None:
        raise KeyError(f'{name} is not in the {registry.name} registry')
    return found


def _hint(near: list) -> str:
    return f'. Did you mean {near[0]!r}?' if near else ''


def _suspects(key: str, entries: dict, text: str) -> str:
    """The entries that an error seems to speak of, or else the key."""
    if not isinstance(entries[key], (dict, list, tuple)):
        return f'{key}={entries[key]!r}'
    named = {
        dotted: value
        for dotted, value in entries.items()
        if re.search(rf'\b{re.escape(dotted.split(".")[-1])}\b', text)
        and not isinstance(value, dict) and not dotted.endswith('.type')
    }
    where = [name for name in named if repr(named[name]) in text
             ] or [name for name in named if '_' in name.rpartition('.')[2]]
    return ', '.join(f'{name}={named[name]!r}' for name in where[:3]) or key


def _family(registry: Registry) -> list:
    """A registry and those of other packages below it."""
    return [
        registry, *(one for child in registry.children.values()
                    for one in _family(child))
    ]


def parameters(function: Any) -> set:
    """Names that a function, a class, or a class of this name takes."""
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
        found = inspect.signature(init).parameters
        names.update(found)
        if all(one.kind is not inspect.Parameter.VAR_KEYWORD
               for one in found.values()):
            break  # it hands nothing on to its base class
    return names - {'self', 'args', 'kwargs'}

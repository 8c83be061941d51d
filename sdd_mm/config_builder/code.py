# Copyright (c) sdd_mm contributors. All rights reserved.
"""Values as the source code of a config."""
from typing import Any

from yapf.yapflib.yapf_api import FormatCode

STYLE = dict(
    based_on_style='pep8', split_before_expression_after_opening_paren=True)


class Code(str):
    """Source code that is written as it is."""


def to_code(value: Any) -> str:
    """A value as a config file writes it, on one line."""
    if isinstance(value, Code):
        return value
    if isinstance(value, dict):
        if all(isinstance(key, str) and key.isidentifier() for key in value):
            items = [f'{key}={to_code(item)}' for key, item in value.items()]
            return f'dict({", ".join(items)})'
        items = [f'{key!r}: {to_code(item)}' for key, item in value.items()]
        return f'{{{", ".join(items)}}}'
    if isinstance(value, list):
        return f'[{", ".join(map(to_code, value))}]'
    if isinstance(value, tuple):
        comma = ',' if len(value) == 1 else ''
        return f'({", ".join(map(to_code, value))}{comma})'
    if isinstance(value, str) and len(value) > 60 and '/' in value:
        # OpenMMLab's configs split long URLs like this
        folder, _, name = value.rpartition('/')
        return f'{folder + "/"!r} {name!r}'
    return repr(value)


def format_code(text: str) -> str:
    """Source code in the style of OpenMMLab's configs."""
    return FormatCode(text, style_config=STYLE)[0]

# Copyright (c) sdd_mm contributors. All rights reserved.
"""Reads the dump of a config, as in a checkpoint, without running it."""
import ast


def read_config(text: str) -> dict:
    """The variables of a dumped config.

    ``Config.fromstring`` would run the text and import what it names.

    Args:
        text (str): The ``pretty_text`` of a config.

    Returns:
        dict: Values by the names of their variables; None where a value is
        not a plain one.

    Raises:
        ValueError: If the text is not Python.

    Examples:
        >>> read_config("model = dict(type='ResNet', depth=18)")
        {'model': {'type': 'ResNet', 'depth': 18}}
    """
    try:
        lines = ast.parse(text).body
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f'it is not a config: {error}') from error
    return {
        target.id: _value(line.value)
        for line in lines if isinstance(line, ast.Assign)
        for target in line.targets if isinstance(target, ast.Name)
    }


def _value(node: ast.AST):
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _value(node.operand)
        return -value if isinstance(value, (int, float)) else None
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item) for item in node.elts)
    if isinstance(node, ast.Dict):
        return {
            key.value: _value(value)
            for key, value in zip(node.keys, node.values)
            if isinstance(key, ast.Constant)
        }
    if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'dict':
        return {
            keyword.arg: _value(keyword.value)
            for keyword in node.keywords if keyword.arg
        }
    return None

# Copyright (c) sdd_mm contributors. All rights reserved.
"""The text of a config, as checkpoints hold it, read without running it."""
import ast


def read_config(text: str) -> dict:
    """The variables of a dumped config.

    MMEngine would run the text, and import what it names.

    Args:
        text (str): What ``Config.pretty_text`` gave.

    Raises:
        ValueError: If the text is not the dump of a config. What is no plain
            value in it is None.

    Returns:
        dict: Plain values by the names of their variables.
    """
    try:
        lines = ast.parse(text).body
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f'it is no config: {error}') from error
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

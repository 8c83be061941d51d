# Copyright (c) sdd_mm contributors. All rights reserved.
"""Every command answers --help and wrong arguments at once."""
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[1] / 'tools'
COMMANDS = sorted(
    str(path.relative_to(TOOLS)) for path in TOOLS.rglob('*.py')
    if '__main__' in path.read_text())
# one process: --help, then an argument that no command has
CODE = '''
import contextlib, io, os, runpy, sys
path = sys.argv[1]
sys.path.insert(0, os.path.dirname(path))
for argument, code, said in (('--help', 0, 'usage: '),
                             ('--nonsense', 2, 'error: ')):
    sys.argv = [path, argument]
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            with contextlib.redirect_stderr(text):
                runpy.run_path(path, run_name='__main__')
        raise AssertionError('it went on')
    except SystemExit as error:
        assert error.code == code, (error.code, text.getvalue())
    assert said in text.getvalue()
slow = {'torch', 'mmengine', 'matplotlib', 'numpy'} & set(sys.modules)
assert not slow, slow
'''


@pytest.mark.parametrize('name', COMMANDS)
def test_arguments_are_parsed_before_anything_slow_is_imported(name):
    result = subprocess.run([sys.executable, '-c', CODE, TOOLS / name],
                            capture_output=True,
                            text=True,
                            timeout=30)
    assert result.returncode == 0, result.stderr

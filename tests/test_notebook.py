# Copyright (c) sdd_mm contributors. All rights reserved.
"""demo/sdd_mm.ipynb, its cells one after the other."""
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / 'demo' / 'sdd_mm.ipynb'


def cells():
    content = json.loads(NOTEBOOK.read_text())
    return [
        ''.join(cell['source']) for cell in content['cells']
        if cell['cell_type'] == 'code'
    ]


def test_the_cells_are_code_and_few():
    assert 5 <= len(cells()) <= 10
    for cell in cells():
        compile(cell, 'cell', 'exec')
        assert max(map(len, cell.splitlines())) < 80


@pytest.mark.long
def test_the_notebook_runs(tmp_path):
    """Headless; the value of a last line is what a notebook would show."""
    lines = []
    for cell in cells():
        *first, last = cell.splitlines()
        if last.startswith(('Image.', 'sorted(')):
            last = f'print(repr({last}))'
        lines += [*first, last, '']
    script = tmp_path / 'cells.py'
    script.write_text('\n'.join(lines))
    found = subprocess.run([sys.executable, script],
                           cwd=tmp_path,
                           capture_output=True,
                           text=True)
    assert found.returncode == 0, found.stderr
    for said in ('teacher: ', 'sd-kd: ', "type='ScaleDecoupledLoss'",
                 'PngImageFile', 'sd-kd against kd: ', 'student.int8.onnx'):
        assert said in found.stdout, found.stdout

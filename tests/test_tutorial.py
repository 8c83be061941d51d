# Copyright (c) sdd_mm contributors. All rights reserved.
"""The tutorial does what it says, from the first command to the last."""
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.visualization import Visualizer

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / 'docs' / 'en' / 'tutorial.md'
# so little of it that it takes seconds
SHORT = {
    "'train', 3000": "'train', 200",
    "'test', 500": "'test', 60",
    'batch_size=64': 'batch_size=16',
    'num_workers=2': 'num_workers=0',
    'max_epochs=8': 'max_epochs=2',
    'T_max=8': 'T_max=2',
    'epoch_8': 'epoch_2',
}


def blocks(text):
    """Language and text of the code blocks."""
    return re.findall(r'```(\w+)\n(.*?)```', text, flags=re.S)


def in_this_process(arguments, monkeypatch):
    """The exit code of a command, without importing everything anew."""
    assert arguments[0] == 'python'
    monkeypatch.setattr(sys, 'argv', arguments[1:])
    monkeypatch.setattr(sys, 'path',
                        [str(Path(arguments[1]).parent), *sys.path])
    # what a process has once
    for kind in (MMLogger, Visualizer):
        kind._instance_dict.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(sys.modules, 'common', raising=False)
        try:
            if arguments[1] == '-m':
                patch.setattr(sys, 'argv', arguments[2:])
                runpy.run_module(arguments[2], run_name='__main__')
            else:
                runpy.run_path(arguments[1], run_name='__main__')
        except SystemExit as error:
            return error.code or 0
    return 0


def in_its_own(arguments, monkeypatch):
    """The exit code of a command, run as a reader does."""
    return subprocess.run([sys.executable, *arguments[1:]]).returncode


@pytest.mark.parametrize('run, changes', [
    (in_this_process, SHORT),
    pytest.param(in_its_own, {}, marks=pytest.mark.long),
])
def test_every_command(tmp_path, monkeypatch, capfd, run, changes):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    (tmp_path / 'tools').symlink_to(ROOT / 'tools')
    (tmp_path / 'mine').mkdir()
    text = PAGE.read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    said = {}
    for language, code in blocks(text):
        if language == 'python':
            name = re.match(r'# (mine/\w+\.py)\n', code)
            if name:
                Path(name[1]).write_text(code)
            else:  # what the config before it gets
                with Path('mine/sd-kd.py').open('a') as config:
                    config.write(code)
        elif language == 'shell':
            for line in code.splitlines():
                code = run(shlex.split(line), monkeypatch)
                name = ' '.join(line.split()[1:3])
                said[name] = capfd.readouterr().out
                # a teacher of seconds is hardly better than guessing
                short = bool(changes) and 'doctor' in name
                assert code == short, f'{line}\n{code}\n{said[name]}'
    assert re.findall(
        r'error    (\w+)',
        said['-m sdd_mm.doctor']) == (['teacher'] if changes else [])
    epochs = 2 if changes else 8
    # what MMPretrain finds with the exported student is what was validated
    accuracy = re.search(r'top-1 (.*) %', said['mine/use_it.py'])[1]
    tested = re.search(r'accuracy/top1: (\S+)',
                       said['tools/test.py mine/sd-kd.py'])[1]
    assert float(accuracy) == pytest.approx(float(tested), abs=0.01)
    assert re.search(r'class \d', said['mine/use_onnx.py'])
    page = Path('report/report.html').read_text()
    assert page.count('data:image/png') == 10
    assert cv2.imread('report/verdicts.png') is not None
    exported = torch.load('mine/exported.pth', weights_only=True)
    assert exported['meta']['epoch'] == epochs
    assert 'sdd_mm' not in Path('mine/exported.py').read_text()

# Copyright (c) sdd_mm contributors. All rights reserved.
"""Files that could run code are refused, where that is asked for."""
import hashlib
import os
import pickle
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import mmengine
import pytest
import torch
import toy
import yaml
from mmengine.fileio.handlers import yaml_handler
from mmengine.runner import Runner
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader

from sdd_mm import safety
from sdd_mm.models.algorithms import TeacherError
from sdd_mm.models.algorithms.teacher import load_teacher

ROOT = Path(__file__).resolve().parents[1]
READS_YAML = '''
import mmengine
from mmpretrain.registry import DATASETS
from sdd_mm.datasets import DigitScenes


@DATASETS.register_module()
class ReadsYaml(DigitScenes):

    def load_data_list(self):
        mmengine.load("{}/evil.yaml")
        return super().load_data_list()
'''


@pytest.fixture
def guarded(monkeypatch):
    """A process that is on its guard, until the test ends."""
    for owner in (mmengine_checkpoint, CheckpointLoader, yaml_handler):
        for name, value in list(vars(owner).items()):
            if not name.startswith('__'):  # to be put back
                monkeypatch.setattr(owner, name, value)
    for _ in range(2):
        safety.guard()


@pytest.fixture(params=['alone', 'guarded'])
def download(request):
    """Our own reading of a checkpoint, or MMEngine's that is on its guard."""
    if request.param == 'guarded':
        request.getfixturevalue('guarded')
        return partial(CheckpointLoader.load_checkpoint, map_location='cpu')
    return safety.load_checkpoint


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder, and the address at which it is served."""
    folder = tmp_path / 'served'
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    server = ThreadingHTTPServer(('127.0.0.1', 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    yield folder, f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    server.server_close()


def test_downloads_are_what_their_names_say(served, download):
    folder, address = served
    path = folder / 'weights.pth'
    torch.save(dict(a=torch.ones(2)), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for name in (f'net_20210831-{digest[:8]}x.pth', 'net-50.pth',
                 'net-20210831.pth', f'net-{digest[:8]}.pth'):
        path.rename(folder / name)
        path = folder / name
        assert download(f'{address}/{name}')['a'].tolist() == [1, 1]
    path.rename(folder / 'net-0badc0de.pth')
    with pytest.raises(RuntimeError, match='invalid hash value'):
        download(f'{address}/net-0badc0de.pth')


@pytest.mark.parametrize('name, expected', [
    ('resnet50_8xb32_in1k_20210831-ea4938fc.pth', True),
    ('wide-resnet50_3rdparty_8xb32_in1k_20220304-66678344.pth', True),
    ('wide-resnet50_3rdparty_8xb32_in1k_20220304-20220304.pth', True),
    ('resnet50-19c8e357.pth', True),
    ('resnet50-66678344.pth', True),
    ('net-20210831.pth', False),
    ('net-50.pth', False),
    ('net.pth', False),
])
def test_names_that_end_in_a_hash(name, expected):
    assert safety.names_hash(name) == expected


def test_a_download_that_is_there_is_compared_too(served, download):
    folder, address = served
    torch.save(dict(a=torch.ones(2)), folder / 'net.pth')
    digest = hashlib.sha256((folder / 'net.pth').read_bytes()).hexdigest()
    name = f'net-{digest[:8]}.pth'
    (folder / 'net.pth').rename(folder / name)
    download(f'{address}/{name}')
    cached = Path(torch.hub.get_dir(), 'checkpoints', name)
    cached.write_bytes(cached.read_bytes() + b'x')
    with pytest.raises(RuntimeError, match='checksum mismatch'):
        download(f'{address}/{name}')


def test_yaml_holds_data_only(tmp_path, guarded):
    path, ran = tmp_path / 'annotations.yaml', tmp_path / 'ran'
    path.write_text(f'a: !!python/object/apply:os.system ["touch {ran}"]')
    with pytest.raises(yaml.YAMLError):
        mmengine.load(path)
    assert not ran.exists()
    # it would have
    yaml.load(path.read_text(), yaml.UnsafeLoader)
    assert ran.exists()
    path.write_text('a: [1, 2.5, text]')
    assert mmengine.load(path) == dict(a=[1, 2.5, 'text'])


@pytest.mark.parametrize('place', ['meta.config', 'message_hub.runtime_info'])
def test_the_config_in_a_checkpoint_does_not_run(tmp_path, guarded, place):
    """As a checkpoint of text and numbers only, which any reader takes."""
    path, ran = tmp_path / 'epoch_1.pth', tmp_path / 'ran'
    code = f'a = __import__("os").system("touch {ran}")'
    content = dict(meta=dict(epoch=1, iter=1), state_dict={}, message_hub={})
    if place == 'meta.config':
        content['meta']['config'] = code
    else:
        content['message_hub']['runtime_info'] = dict(cfg=code)
    torch.save(content, path)
    runner = Runner(
        torch.nn.Identity(),
        str(tmp_path),
        experiment_name=f'evil_{place}',
        train_dataloader=dict(),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict())
    with pytest.raises(RuntimeError, match=f'{place}.* is no plain config'):
        runner.resume(str(path))
    with pytest.raises(RuntimeError, match=f'{place}.* is no plain config'):
        safety.load_checkpoint(str(path))
    assert not ran.exists()
    # it would have
    mmengine.Config.fromstring(code, '.py')
    assert ran.exists()


@pytest.mark.parametrize('code', [
    'a = __import__("os")', 'a = eval\nb = a("1")',
    'dict = eval\nb = dict("1")', '_base_ = "other.py"',
    'a = "{{$NOBODY:\'+eval(\'1\')+\'}}"', 'a = [x for x in (1, )]',
    'a = dict(b=dict(c=set(print())))', 'print()', 'a = dict.fromkeys((1, ))',
    'a = lambda: 1', 'dict.a = 1', 'a = f"{print()}"', 'def a():\n    pass',
    'from mmengine import Config'
])
def test_code_is_not_plain(code):
    assert not safety.is_plain(code)


def test_configs_are_plain():
    paths = sorted((ROOT / 'configs').glob('*/*.py'))
    assert len(paths) > 100
    for path in paths[::20]:
        assert safety.is_plain(mmengine.Config.fromfile(path).pretty_text)
    for unusual in ('a = dict(b=PosixPath("c"), d=-1.5, e=inf, f=torch.half)',
                    'a = <function f at 0x7f>', ''):
        assert safety.is_plain(unusual)


@pytest.mark.parametrize('remote', [False, True])
def test_pickles_do_not_run(served, tmp_path, download, remote):
    folder, address = served

    class Malicious:

        def __reduce__(self):
            return os.system, (f'touch {tmp_path / "ran"}', )

    torch.save(dict(a=Malicious()), folder / 'net.pth')
    with pytest.raises(pickle.UnpicklingError):
        download(f'{address if remote else folder}/net.pth')
    assert not (tmp_path / 'ran').exists()
    # it would have
    torch.hub.load_state_dict_from_url(f'{address}/net.pth')
    assert (tmp_path / 'ran').exists()


def test_reading_safely_changes_nothing_of_mmengine(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(dict(a=1), path)
    owners = mmengine_checkpoint, CheckpointLoader, yaml_handler
    before = [dict(vars(owner)) for owner in owners]
    assert safety.load_checkpoint(str(path)) == dict(a=1)
    assert before == [dict(vars(owner)) for owner in owners]


def test_a_teacher_whose_config_is_code_is_refused(tmp_path):
    path, ran = tmp_path / 'teacher.pth', tmp_path / 'ran'
    model = toy.build_classifier()
    torch.save(
        dict(
            state_dict=model.state_dict(),
            meta=dict(cfg=f'a = __import__("os").system("touch {ran}")')),
        path)
    with pytest.raises(TeacherError, match='meta.cfg is no plain config'):
        load_teacher(model, str(path))
    assert not ran.exists()


def test_training_is_on_its_guard(tmp_path):
    """A data set of the config's own reads YAML that would run code."""
    ran = tmp_path / 'ran'
    (tmp_path / 'evil.yaml'
     ).write_text(f'a: !!python/object/apply:os.system ["touch {ran}"]')
    (tmp_path / 'reads_yaml.py').write_text(READS_YAML.format(tmp_path))
    config = tmp_path / 'config.py'
    config.write_text(
        f'_base_ = "{ROOT}/configs/demo/student.py"\n'
        'custom_imports = dict(imports=["sdd_mm", "reads_yaml"])\n' +
        'train_dataloader = dict(dataset=dict(type="ReadsYaml"))')
    result = subprocess.run(
        [sys.executable, ROOT / 'tools' / 'train.py', config],
        cwd=ROOT,
        env=dict(os.environ, PYTHONPATH=f'{ROOT}:{tmp_path}'),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True)
    assert result.returncode != 0
    assert 'could not determine a constructor' in result.stdout
    assert not ran.exists()


def test_every_command_line_is_on_its_guard():
    """Those that read a checkpoint, or a config's data."""
    paths = [
        ROOT / 'sdd_mm/doctor/__main__.py', *ROOT.glob('tools/*.py'),
        *ROOT.glob('tools/analysis/*.py'),
        *ROOT.glob('tools/model_converters/*.py')
    ]
    parses = [path for path in paths if '.parse_args()' in path.read_text()]
    unguarded = {
        path.name
        for path in parses if 'safety.guard()' not in path.read_text()
        and 'common import' not in path.read_text()  # whose load_config() is
    }
    assert len(parses) > 8 and unguarded == {'demo.py'}  # runs the others

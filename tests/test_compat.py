# Copyright (c) sdd_mm contributors. All rights reserved.
"""Every repair of the stack, and that the stack fails without it."""
import importlib.util
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.model import BaseModel
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS
from mmrazor.registry import MODELS as RAZOR_MODELS
from PIL import Image
from torch import nn

from sdd_mm import compat

ROOT = Path(__file__).resolve().parents[1]


def python(code, *args, **environ):
    """Run code in a fresh interpreter that sees this checkout."""
    return subprocess.run([sys.executable, '-c', code, *args],
                          cwd=ROOT,
                          env=dict(
                              os.environ, PYTHONPATH=str(ROOT), **environ),
                          capture_output=True,
                          text=True)


def test_mmrazor_does_not_import_by_itself():
    alone = python('import mmrazor.models')
    assert alone.returncode != 0 and 'ImportError' in alone.stderr


def test_mmrazor_refuses_mmcv_22_and_does_not_with_us():
    newer = 'import mmcv; mmcv.__version__ = "2.2.0"; '
    alone = python(f'{newer}import mmrazor')
    assert 'MMCV==2.2.0 is used but incompatible' in alone.stderr
    repaired = python(f'{newer}import sdd_mm, mmrazor.models; '
                      'print(mmcv.__version__)')
    assert repaired.stdout.strip() == '2.2.0', repaired.stderr


def test_without_mmcv_the_error_names_the_remedy():
    result = python('import sys; sys.modules["mmcv"] = None; '
                    'import importlib.util as u; find = u.find_spec; '
                    'u.find_spec = lambda n, *a: '
                    'None if n == "mmcv" else find(n, *a); import sdd_mm')
    assert 'pip install mmcv-lite==2.1.0' in result.stderr


@pytest.mark.parametrize('registry, name',
                         [('MODELS', 'OpenVINOQuantizer'),
                          ('MODELS', 'LSQObserver'),
                          ('MODELS', 'LearnableFakeQuantize'),
                          ('MODELS', 'MMArchitectureQuant'),
                          ('LOOPS', 'PTQLoop')])
def test_quantizers_say_why_they_are_absent(registry, name):
    import mmrazor.registry
    with pytest.raises(RuntimeError, match=f'{name} belongs to the quantiz'):
        getattr(mmrazor.registry, registry).build(dict(type=name))


def history():
    """The log history and state of a run, as mmengine saves it."""
    hub = MessageHub('test_compat')
    hub.update_scalar('train/loss', 1.0)
    hub.update_scalar('train/loss', np.float32(2.0).item(), 2)
    hub.update_info('iter', 3)
    hub.update_info('array', np.arange(3, dtype=np.float32))
    hub.update_info('scalar', np.float64(0.5))
    return dict(message_hub=hub.state_dict(), meta=dict(epoch=1))


def test_log_history_loads_under_weights_only(tmp_path):
    path = tmp_path / 'checkpoint.pth'
    torch.save(history(), path)
    # without the repair: a fresh interpreter that only has mmengine
    alone = python(f'import torch, mmengine; torch.load({str(path)!r})')
    assert 'UnpicklingError' in alone.stderr
    loaded = torch.load(path, weights_only=True)['message_hub']
    buffer = loaded['log_scalars']['train/loss']
    assert isinstance(buffer, HistoryBuffer)
    assert buffer.mean() == 1.0 and buffer.statistics('max') == 2.0
    assert loaded['runtime_info']['array'].tolist() == [0, 1, 2]
    assert loaded['runtime_info']['scalar'] == 0.5


class Attack:
    """Pickles to a call of ``getattr``."""

    def __init__(self, owner, name):
        self.call = getattr, (owner, name)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize('owner, name', [
    (HistoryBuffer, '__init__'),
    (HistoryBuffer, '__subclasses__'),
    (HistoryBuffer, 'register_statistics'),
    (torch.Tensor, 'tolist'),
])
def test_no_other_attribute_can_be_reached(tmp_path, owner, name):
    path = tmp_path / 'attack.pth'
    torch.save(Attack(owner, name), path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)


@pytest.mark.parametrize('name', ['current', 'max', 'mean', 'min'])
def test_statistics_of_the_history_can_be_reached(name):
    assert compat.checkpoint_attr(HistoryBuffer,
                                  name) == getattr(HistoryBuffer, name)


SCHEDULERS = [
    dict(type='ConstantLR'),
    dict(type='CosineAnnealingLR', T_max=5),
    dict(type='CosineRestartLR', periods=[5], restart_weights=[1], eta_min=0.),
    dict(type='ExponentialLR', gamma=0.9),
    dict(type='LinearLR', start_factor=0.1),
    dict(type='MultiStepLR', milestones=[2, 3]),
    dict(type='OneCycleLR', eta_max=0.1, total_steps=5),
    dict(
        type='OneCycleLR',
        eta_max=0.1,
        total_steps=5,
        anneal_strategy='linear'),
    dict(type='PolyLR'),
    dict(type='ReduceOnPlateauLR', monitor='loss'),
    dict(type='StepLR', step_size=2),
]


@pytest.mark.parametrize('config', SCHEDULERS, ids=lambda c: c['type'])
def test_states_of_every_scheduler_load_under_weights_only(tmp_path, config):
    weight = torch.nn.Parameter(torch.zeros(1))

    def build():
        optimizer = torch.optim.SGD([weight], 0.1)
        return PARAM_SCHEDULERS.build(
            config, default_args=dict(optimizer=optimizer))

    scheduler = build()
    path = tmp_path / 'scheduler.pth'
    torch.save(scheduler.state_dict(), path)
    build().load_state_dict(torch.load(path))


def test_real_getattr_is_not_on_the_allow_list():
    entries = torch.serialization.get_safe_globals()
    functions = [e[0] if isinstance(e, tuple) else e for e in entries]
    assert getattr not in functions and eval not in functions


def test_repairs_are_in_no_other_file():
    words = ('add_safe_globals', 'meta_path', '__version__ =',
             'weights_only=False')
    for path in (ROOT / 'sdd_mm').rglob('*.py'):
        if path.name in ('compat.py', 'version.py') or '.mim' in path.parts:
            continue
        text = path.read_text()
        assert not [word for word in words if word in text], path


@pytest.mark.skipif(torch.cuda.is_available(), reason='needs no GPU')
def test_torchrun_starts_without_a_gpu():
    launch = ('from mmengine.dist import init_dist, get_world_size; '
              'init_dist("pytorch", backend="gloo"); print(get_world_size())')
    environ = dict(
        RANK='0',
        LOCAL_RANK='0',
        WORLD_SIZE='1',
        MASTER_ADDR='127.0.0.1',
        MASTER_PORT='29518')
    assert python(launch, **environ).returncode != 0
    repaired = python(f'import sdd_mm; {launch}', **environ)
    assert repaired.stdout.strip() == '1', repaired.stderr


IMPORTED = '''
import os, sys
from pathlib import Path
import mmengine
from mmengine.fileio import LocalBackend
from mmengine.fileio.handlers import yaml_handler
before = {**vars(LocalBackend), **vars(yaml_handler)}
import sdd_mm
import mmcv.cnn, mmrazor.engine, mmrazor.models
mmcv.cnn.HSigmoid()  # warns of what nobody can mend
after = {**vars(LocalBackend), **vars(yaml_handler)}
print([name for name in before if before[name] is not after[name]])
root = Path(sys.argv[1])
(root / 'link.json').symlink_to(root / 'target.json')
os.mkfifo(root / 'fifo.json')
reader = os.open(root / 'fifo.json', os.O_RDONLY | os.O_NONBLOCK)
for name in ('link', 'fifo'):
    mmengine.dump(dict(a=1), root / f'{name}.json')
print((root / 'link.json').is_symlink(), (root / 'target.json').read_text())
print((root / 'fifo.json').is_fifo(), os.read(reader, 9).decode())
(root / 'a.yaml').write_text('a: !!python/tuple [1, 2]')
print(mmengine.load(root / 'a.yaml'))
'''


def test_importing_repairs_and_changes_nothing_that_worked(tmp_path):
    """MMRazor imports, nothing is said, MMEngine's file backend is its own."""
    result = python(IMPORTED, str(tmp_path))
    assert (result.returncode, result.stderr) == (0, '')
    assert result.stdout.splitlines() == [
        '[]', 'True {"a": 1}', 'True {"a": 1}', "{'a': (1, 2)}"
    ]


def test_a_jpeg_that_is_cut_off_is_no_image(tmp_path):
    """OpenCV 4 would fill it with gray, OpenCV 5 give None."""
    pixels = np.arange(48 * 48 * 3, dtype=np.uint8).reshape(48, 48, 3)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, 'jpeg')
    whole = buffer.getvalue()
    image = mmcv.imfrombytes(whole)
    assert image.shape == (48, 48, 3)
    # what follows the image is of no concern
    assert np.array_equal(mmcv.imfrombytes(whole + b'more'), image)
    for backend in ('cv2', 'pillow'):
        with pytest.raises(OSError, match='truncated'):
            mmcv.imfrombytes(whole[:-100], backend=backend)
    # MMCV's own option still leaves such images out
    path = tmp_path / 'cut.jpg'
    path.write_bytes(whole[:-100])
    lenient = LoadImageFromFile(ignore_empty=True)
    assert lenient(dict(img_path=str(path))) is None


class Inspected(BaseModel):
    """Batch norm, then an activation that works in place."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.BatchNorm2d(2), nn.ReLU(inplace=True))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.net(inputs)


def test_what_comes_before_an_activation_is_recorded():
    algorithm = RAZOR_MODELS.build(
        dict(
            type='SingleTeacherDistill',
            architecture=Inspected(),
            teacher=Inspected(),
            teacher_trainable=False,
            distiller=dict(
                type='ConfigurableDistiller',
                student_recorders=dict(
                    bn=dict(type='ModuleOutputs', source='net.0')))))
    recorders = algorithm.distiller.student_recorders
    with recorders:
        algorithm.student(torch.randn(4, 2, 3, 3))
    recorded = recorders.get_recorder('bn').get_record_data()
    assert recorded.min() < 0
    assert not algorithm.teacher.net[1].inplace


def test_deterministic_runs_may_multiply_matrices_on_a_gpu(monkeypatch):
    monkeypatch.delenv('CUBLAS_WORKSPACE_CONFIG', raising=False)
    run = object.__new__(Runner)
    try:
        run.set_randomness(0)
        assert 'CUBLAS_WORKSPACE_CONFIG' not in os.environ
        run.set_randomness(0, deterministic=True)
        assert os.environ.pop('CUBLAS_WORKSPACE_CONFIG') == ':4096:8'
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic = False


def test_a_subset_has_the_pipeline_of_its_data_set():
    dataset = DATASETS.build(
        dict(type='DigitScenes', split='train', num_scenes=4, pipeline=[]))
    subsets = [dataset.get_subset([0])]
    dataset.pipeline.transforms.append(len)
    subsets.append(dataset.get_subset([1]))
    found = [one.pipeline.transforms for one in subsets]
    assert found == [[], [len]]
    assert subsets[0].metainfo is not subsets[1].metainfo


PACKAGES = ('mmaction', 'mmaction/models', 'mmaction/models/localizers')


@pytest.mark.parametrize('whole', [False, True])
def test_a_missing_package_of_mmaction2_gets_a_stand_in(tmp_path, whole):
    for package in (*PACKAGES, f'{PACKAGES[-1]}/drn')[:3 + whole]:
        (tmp_path / package).mkdir()
        (tmp_path / package / '__init__.py').write_text('')
    place = tmp_path / PACKAGES[-1]
    (place / '__init__.py').write_text('from .drn.drn import DRN')
    if whole:
        (place / 'drn/drn.py').write_text('class DRN:\n    real = True')
    code = ('import sys; sys.path.insert(0, sys.argv[1])\n{}\n'
            'assert "mmaction" not in sys.modules\n'
            'from mmaction.models.localizers import DRN\n'
            'print(getattr(DRN, "real", False))\n'
            'DRN()')
    alone, ours = (
        python(code.format(line), str(tmp_path))
        for line in ('', 'import sdd_mm'))
    assert ours.stdout.strip() == str(whole), ours.stderr
    if whole:
        assert (alone.returncode, ours.returncode) == (0, 0)
    else:
        assert 'No module named' in alone.stderr
        assert 'DRN is not in the wheel of mmaction2 1.2.0' in ours.stderr


def test_where_mmaction2_is_absent_nothing_is_put_in_the_way():
    if importlib.util.find_spec('mmaction') is None:
        assert compat.stub_drn not in compat.repairs()
        assert compat.DRN not in sys.meta_path


def test_a_wrapped_model_loads_what_it_saves_within_another():
    pytest.importorskip('timm')

    def build():
        wrapped = dict(
            type='TimmClassifier',
            model_name='test_resnet',
            num_classes=10,
            loss=dict(type='CrossEntropyLoss'))
        return nn.ModuleDict(
            dict(
                architecture=RAZOR_MODELS.build(
                    dict(wrapped, _scope_='mmpretrain')),
                connector=nn.Linear(2, 2)))

    one, other = build(), build()
    other.load_state_dict(one.state_dict(), strict=True)
    for name, value in one.named_parameters():
        assert torch.equal(value, other.get_parameter(name)), name

# Copyright (c) sdd_mm contributors. All rights reserved.
"""Metafiles name every config, and the pages show what they say."""
import importlib.util
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from modelindex.load_model_index import load

ROOT = Path(__file__).resolve().parents[1]
SPEC = importlib.util.spec_from_file_location(
    'write_tables', ROOT / 'tools' / 'benchmark' / 'write_tables.py')
TOOL = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(TOOL)


@pytest.fixture(scope='module')
def models():
    index = load(str(ROOT / 'model-index.yml'))
    assert index.check(silent=True) == []
    return index.models


def test_every_run_is_in_the_model_index(models):
    found = [ROOT / model.config for model in models]
    runs = {
        path
        for directory in ('sdd', 'vanilla', 'mmpretrain', 'demo')
        for path in (ROOT / 'configs' / directory).glob('*.py')
    }
    assert set(found) == runs and len(found) == len(runs)
    assert [model.name for model in models] == [path.stem for path in found]


def test_only_released_nkd_stands_beside_published_numbers(models):
    published = {
        model.name
        for model in models if model.metadata and {'Paper', "Authors' log"}
        & set(model.metadata.data.get('Published', ()))
    }
    released = {
        model.name
        for model in models if model.name.startswith('sd-nkd-released')
    }
    assert len(released) == 18 and released <= published
    assert not [
        name for name in published - released
        if 'nkd' in name and not name.startswith('nkd-released')
    ]


def test_teacher_and_student_are_those_of_the_name(models):
    names = {model.name for model in models}
    for model in models:
        data = model.metadata.data if model.metadata else {}
        if 'Teacher' in data:
            assert {data['Teacher'], data['Student']} <= names
            assert model.name.split('_')[1:4] == [
                data['Teacher'].split('_')[0], *data['Student'].split('_')
            ]


def test_every_run_is_on_its_page(models):
    for model in models:
        config = ROOT / model.config
        page = (config.parent / 'README.md').read_text()
        assert page.count(f']({config.name})') == 1, model.name


def test_pages_agree_with_the_metafiles(capsys):
    code = TOOL.main(['--check'])
    assert code == 0, capsys.readouterr().out


@pytest.fixture
def checkout(tmp_path):
    """The configs, with one pair a data set: all that are told are read."""
    shutil.copytree(ROOT / 'configs', tmp_path / 'configs')
    shutil.copy(ROOT / 'model-index.yml', tmp_path)
    path = tmp_path / 'configs' / 'sdd' / 'metafile.yml'
    names = re.compile('.*_(res32x4_shuv1_cifar100|res50_shuv1_cub200|'
                       'res50_mbv1_imagenet)$')
    _, *runs = re.split('(?m)^(?=  - Name: )', path.read_text())
    path.write_text('Models:\n' + ''.join(
        run for run in runs if names.match(run.split('\n')[0])))
    (tmp_path / 'benchmarks').mkdir()
    return tmp_path


def measure(checkout, *accuracies, options=(), diverged=()):
    row = dict(
        diverged=list(diverged),
        config='configs/sdd/sd-kd_res32x4_shuv1_cifar100.py',
        options=dict(options),
        runs=[dict(last=accuracy) for accuracy in accuracies])
    (checkout / 'benchmarks' / 'suite.json').write_text(
        json.dumps(dict(rows=[row], teachers=[])))


@pytest.mark.parametrize('old, new, message', [
    ('<!-- end of table -->\n\n### CUB', '### CUB',
     '3 tables begin and 2 end'),
    ('table: results CUB', 'table: result CUB', "no table 'result'"),
    ('table: results CIFAR-100', 'table: results CIFAR100', 'has no rows'),
])
def test_a_broken_page_is_left_as_it_is(checkout, old, new, message):
    page = checkout / 'configs' / 'sdd' / 'README.md'
    text = page.read_text()
    assert old in text
    page.write_text(text.replace(old, new))
    with pytest.raises(SystemExit, match=message):
        TOOL.main(['--root', str(checkout)])
    assert page.read_text() == text.replace(old, new)


@pytest.mark.parametrize('accuracies, told', [
    ((12.3, ), '12.30'),
    ((12.3, 12.5, 12.7), '12.50 ± 0.20 (3)'),
])
def test_what_was_measured_shows_up(checkout, accuracies, told):
    arguments = ['--root', str(checkout)]
    page = checkout / 'configs' / 'sdd' / 'README.md'
    metafile = page.with_name('metafile.yml')
    assert TOOL.main(arguments) == 0  # the pages of the fixture
    before = page.read_text(), metafile.read_text()
    measure(checkout, *accuracies)
    assert TOOL.main([*arguments, '--check']) == 1
    assert (page.read_text(), metafile.read_text()) == before
    assert TOOL.main(arguments) == 0
    assert TOOL.main([*arguments, '--check']) == 0
    row, = [line for line in page.read_text().splitlines() if told in line]
    assert row.startswith('| ResNet32x4 79.42 → ShuffleNetV1 70.50 |')
    assert row.endswith(f'| 76.30 | 76.44, 75.98 | {told} |')
    result, = [
        model['Results']
        for model in yaml.safe_load(metafile.read_text())['Models']
        if 'Results' in model
    ]
    assert result[0]['Metrics']['Top 1 Accuracy'] == pytest.approx(
        sum(accuracies) / len(accuracies))
    measure(checkout, *accuracies, diverged=[1, 4])
    assert TOOL.main(arguments) == 0
    assert f'{told}, 2 diverged |' in page.read_text()
    # of a config that was changed nothing is told
    measure(checkout, *accuracies, options={'model.student_loss_weight': 1})
    assert TOOL.main(arguments) == 0
    assert (page.read_text(), metafile.read_text()) == before

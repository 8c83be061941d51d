# Copyright (c) sdd_mm contributors. All rights reserved.
"""Metafiles name every config, and the pages show what they say."""
import importlib.util
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
        if directory != 'sdd' or 'xb' not in path.stem  # an alias
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


def test_a_result_shows_up(tmp_path):
    shutil.copytree(ROOT / 'configs', tmp_path / 'configs')
    shutil.copy(ROOT / 'model-index.yml', tmp_path)
    path = tmp_path / 'configs' / 'sdd' / 'metafile.yml'
    # one pair, since every config of the tables is read
    pair = [
        model for model in yaml.safe_load(path.read_text())['Models']
        if model['Name'].endswith('_res32x4_shuv1_cifar100')
    ]
    run, = [model for model in pair if model['Name'].startswith('sd-kd_')]
    run['Results'] = [dict(Metrics={'Top 1 Accuracy': 12.3})]
    path.write_text(yaml.safe_dump(dict(Models=pair)))
    arguments = ['--root', str(tmp_path)]
    assert TOOL.main([*arguments, '--check']) == 1
    assert TOOL.main(arguments) == 0
    assert TOOL.main([*arguments, '--check']) == 0
    page = (tmp_path / 'configs' / 'sdd' / 'README.md').read_text()
    row, = [line for line in page.splitlines() if '12.30' in line]
    assert row.startswith('| ResNet32x4 79.42 → ShuffleNetV1 70.50 |')
    assert row.endswith('| 76.30 | 76.44, 75.98 | 12.30 |')

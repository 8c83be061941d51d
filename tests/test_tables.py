# Copyright (c) sdd_mm contributors. All rights reserved.
"""Metafiles name every config, and the pages show what they say."""
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from modelindex.load_model_index import load

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks.markdown import PageError, fill, table  # noqa: E402
from benchmarks.metafiles import measured  # noqa: E402
from benchmarks.pages import update  # noqa: E402


@pytest.fixture(scope='module')
def models():
    index = load(str(ROOT / 'model-index.yml'))
    assert index.check(silent=True) == []
    return index.models


def test_every_run_is_in_the_model_index(models):
    found = [ROOT / model.config for model in models]
    runs = {
        path
        for directory in ('sdd', 'baselines', 'vanilla', 'mmpretrain', 'demo')
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


def test_pages_and_metafiles_say_what_was_measured():
    assert update(ROOT, check=True) == []


@pytest.fixture
def checkout(tmp_path):
    """The configs, with one pair per data set."""
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
    runs = [
        dict(last=one, mean_of_last_10=one, best=one, seed=seed)
        for seed, one in enumerate(accuracies)
    ]
    row = dict(
        title='a row',
        config='configs/sdd/sd-kd_res32x4_shuv1_cifar100.py',
        options=dict(options),
        paper=None,
        log=[],
        diverged=list(diverged),
        runs=runs)
    (checkout / 'benchmarks' / 'suite.json').write_text(
        json.dumps(dict(rows=[row], teachers=[], notes=[])))


def test_a_broken_page_is_left_as_it_is(tmp_path):
    page = tmp_path / 'page.md'
    writers = dict(results=lambda page, subject: [subject])
    whole = ('<!-- table: results A -->\n<!-- end of table -->\n\ntext\n'
             '<!-- table: results B C -->\nold\n<!-- end of table -->\n')
    page.write_text(whole)
    assert fill(page,
                writers) == whole.replace('A -->',
                                          'A -->\nA').replace('old', 'B C')
    for old, new, message in (
        ('<!-- end of table -->\n\ntext', 'text', '2 tables begin and 1 end'),
        ('results A', 'result A', "no table 'result'"),
    ):
        page.write_text(whole.replace(old, new))
        with pytest.raises(PageError, match=message):
            fill(page, writers)


def test_a_column_without_entries_is_left_out():
    rows = [['', 'paper', 'ours'], ['a', '', '1'], ['b', '', '']]
    assert table(rows, ['paper']) == [
        '|  | ours |', '|---|---|', '| a | 1 |', '| b |  |'
    ]
    assert table(rows)[0] == '|  | paper | ours |'


def test_of_two_suites_that_of_the_folder_counts(checkout):
    measure(checkout, 70.)
    first = checkout / 'benchmarks' / 'suite.json'
    name = 'configs/sdd/sd-kd_res32x4_shuv1_cifar100.py'
    first.rename(first.with_name('another.json'))
    measure(checkout, 71.)
    with pytest.raises(PageError, match=f'two results of {name}'):
        measured(checkout)
    first.rename(first.with_name('sdd.json'))
    assert measured(checkout)[name] == ([71.], 0)


def test_what_was_measured_shows_up(checkout):
    page = checkout / 'configs' / 'sdd' / 'README.md'
    metafile = page.with_name('metafile.yml')
    update(checkout)  # the pages of the fixture
    before = page.read_text(), metafile.read_text()

    def told(number, metrics):
        """Whether page and metafile have it after one call, not before."""
        stale = update(checkout, check=True)
        assert str(page.relative_to(checkout)) in stale
        assert update(checkout) == stale
        row, = [one for one in page.read_text().splitlines() if number in one]
        assert row.startswith('| ResNet32x4 79.42 → ShuffleNetV1 70.50 |')
        assert row.endswith(f'| 76.30 | 76.44, 75.98 | {number} |')
        result, = [
            model['Results'][0]['Metrics']
            for model in yaml.safe_load(metafile.read_text())['Models']
            if 'Results' in model
        ]
        assert result == metrics

    measure(checkout, 12.3)
    assert update(checkout, check=True)
    assert (page.read_text(), metafile.read_text()) == before
    told('12.30', {'Top 1 Accuracy': 12.3})
    measure(checkout, 12.3, 12.5, 12.7, diverged=[1, 4])
    told(
        '12.50 ± 0.20 (3), 2 diverged', {
            'Top 1 Accuracy': 12.5,
            'Standard Deviation': 0.2,
            'Seeds': 3,
            'Diverged': 2
        })
    # of a config that was changed nothing is told
    measure(checkout, 12.3, options={'model.student_loss_weight': 1})
    update(checkout)
    assert (page.read_text(), metafile.read_text()) == before
    page.write_text(page.read_text().replace('results CUB', 'results CUP'))
    with pytest.raises(PageError, match='has no rows'):
        update(checkout)

# Copyright (c) sdd_mm contributors. All rights reserved.
"""Figures of a trained run, and the numbers in them."""
import dataclasses
import json
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from matplotlib.text import Text
from mmengine.config import Config
from mmengine.runner import Runner
from mmrazor.registry import MODELS

from sdd_mm.analysis import (cell_figures, drawing, figures, load_run,
                             validation_loader)
from sdd_mm.analysis.report import Report, logged
from sdd_mm.datasets import DigitScenes
from sdd_mm.engine.errors import PreflightError
from sdd_mm.functional import local_logits
from sdd_mm.functional.scale_decoupled import complementary_cells

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Checkpoints of a short SD-KD and of a short KD."""
    root, found = tmp_path_factory.mktemp('runs'), {}
    for name in ('sd-kd', 'kd'):
        cfg = Config.fromfile(ROOT / 'configs' / 'demo' / f'{name}.py')
        cfg.merge_from_dict({
            'work_dir':
            str(root / name),
            'model.teacher_ckpt':
            str(root / 'teacher.pth'),
            'train_dataloader.dataset.num_scenes':
            128,
            'val_dataloader.dataset.num_scenes':
            120,
            'val_dataloader.batch_size':
            50,
            'default_hooks.logger.interval':
            1,
            'visualizer.vis_backends':
            [dict(type='LocalVisBackend'),
             dict(type='TensorboardVisBackend')],
            'train_cfg.max_epochs':
            1,
            'param_scheduler': [],
            'optim_wrapper.optimizer.lr':
            0.02,
            'experiment_name':
            f'analysis_{name}'
        })
        if not found:
            torch.save(
                MODELS.build(cfg.model.teacher).state_dict(),
                root / 'teacher.pth')
        Runner.from_cfg(cfg).train()
        found[name] = root / name / 'epoch_1.pth'
    return found


@pytest.fixture(scope='module')
def seen(runs):
    """The SD-KD run, its images, and what both networks say of them."""
    run = load_run(str(runs['sd-kd']))
    batches = list(validation_loader(run.cfg))
    return run, batches, *(
        run.classify(role, batches) for role in ('teacher', 'student'))


def test_outputs_are_those_of_the_networks(seen):
    run, batches, *both = seen
    inputs = torch.cat([batch['inputs'] for batch in batches]).float()
    assert run.grid == ((1, 2, 4), 'hierarchical')
    for network, outputs in zip((run.model.teacher, run.model.architecture),
                                both):
        images = (inputs - 64) / 64
        with torch.no_grad():
            feature, = network.backbone(images)
            logits = network(images)
            local = local_logits(feature, network.head.fc.weight,
                                 network.head.fc.bias)
        assert torch.allclose(outputs.logits, logits, atol=1e-5)
        assert torch.equal(outputs.cells, local.argmax(dim=-1))
        assert torch.allclose(
            outputs.features, feature.mean(dim=(2, 3)), atol=1e-5)
        labels = [scene['gt_label'] for scene in DigitScenes('test', 120)]
        assert outputs.labels.tolist() == labels
        assert outputs.at(4).shape == (16, 120)
    assert run.names == list('0123456789')
    assert np.array_equal(
        run.picture(batches[0]['inputs'][0]),
        DigitScenes('test', 120)[0]['img'])


def test_cases_add_up(seen):
    teacher = seen[2]
    _, found = figures.cases(teacher)
    for scale, shares in found['shares'].items():
        assert sum(shares) == pytest.approx(1)
        right = (teacher.at(scale) == teacher.labels).float().mean().item()
        assert shares[0] + shares[2] == pytest.approx(right)
        assert shares[0] + shares[1] == pytest.approx(
            teacher.right.float().mean().item())


def test_chosen_images(seen):
    _, _, teacher, student = seen
    for index in cell_figures.choose_misclassified(teacher, 5).tolist():
        assert not teacher.right[index]
        assert (teacher.cells[:, index] == teacher.labels[index]).any()
    for index in cell_figures.choose_won(student, teacher, teacher,
                                         5).tolist():
        assert student.right[index] and not teacher.right[index]
    assert not len(cell_figures.choose_won(teacher, teacher, teacher, 5))


def test_correlations_of_equal_networks_do_not_differ(seen):
    _, _, teacher, student = seen
    _, found = figures.correlations(teacher, dict(a=teacher, b=student),
                                    list('0123456789'))
    assert found['a']['mean'] < 1e-12 < found['b']['mean']
    wanted = np.abs(
        np.corrcoef(student.logits.T) - np.corrcoef(teacher.logits.T))
    np.testing.assert_allclose(
        found['b']['difference'], wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize('consistency', ['label', 'class'])
def test_consistent_cells_are_those_of_the_loss(seen, consistency):
    run, batches, teacher, _ = seen
    inputs = torch.cat([batch['inputs'] for batch in batches]).float()
    with torch.no_grad():
        feature, = run.model.teacher.backbone((inputs - 64) / 64)
        head = run.model.teacher.head.fc
        local = local_logits(feature, head.weight, head.bias)
    wanted = ~complementary_cells(local, teacher.labels, consistency)
    found = teacher.consistent(consistency)
    assert torch.equal(found, wanted)
    _, drawn = cell_figures.samples('', [np.zeros((8, 6, 3), np.uint8)] * 2,
                                    torch.tensor([5, 7]), teacher, teacher,
                                    run.names, consistency)
    for sample in drawn['samples']:
        assert sample['consistent'] == wanted[5:, sample['image']].tolist()
    _, drawn = cell_figures.explain(
        np.zeros((8, 6, 3), np.uint8),
        dataclasses.replace(teacher.only(5), labels=torch.tensor([0])),
        run.names, teacher.labels[5].item(), consistency)
    assert drawn['consistent'][4] == wanted[5:, 5].tolist()


LONG = [f'black footed albatross number {number}' for number in range(10)]
DRAWN = dict(
    explain=lambda outputs, image: cell_figures.explain(
        image, outputs.only(0), LONG, 3),
    samples=lambda outputs, image: cell_figures.samples(
        'Right by one, wrong by another', [image] * 2, torch.arange(2),
        outputs, outputs, LONG, 'label'),
    correlations=lambda outputs, image: figures.correlations(
        outputs, {name * 30: outputs
                  for name in 'ab'}, LONG),
    features=lambda outputs, image: figures.tsne(dict(a=outputs), LONG),
    cases=lambda outputs, image: figures.cases(outputs))


@pytest.mark.parametrize('name, shape', [
    *((name, (30, 30, 3)) for name in DRAWN), ('explain', (30, 90, 3)),
    ('explain', (90, 30, 3)), ('samples', (30, 90, 3)),
    ('samples', (90, 30, 3))
])
def test_figures_are_legible(seen, name, shape):
    """Whole texts that are large enough and do not lie upon each other."""
    figure, _ = DRAWN[name](seen[3], np.zeros(shape, np.uint8))
    picture = cv2.imdecode(np.frombuffer(drawing.png(figure), np.uint8), 1)
    for edge in (picture[:3], picture[-3:], picture[:, :3], picture[:, -3:]):
        assert (edge == 255).all()  # nothing goes on there
    figure.canvas.draw()
    ticks = {
        text
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for text in axis.findobj(Text)
    }
    texts = [
        text for text in figure.findobj(Text)
        if text.get_text() and text not in ticks
    ]
    boxes = [text.get_window_extent().padded(-1) for text in texts]
    for text, box in zip(texts, boxes):
        assert text.get_fontsize() >= 5, text
        assert sum(box.count_overlaps([other]) for other in boxes) == 1, text


def test_characters_that_no_font_has(monkeypatch):
    assert drawing.wrap('café α', 9) == 'café α'
    monkeypatch.setattr(drawing, '_drawable', lambda: set(map(ord, 'abc ')))
    assert drawing.wrap('ab猫', 9) == 'ab<732b>'


def test_names_are_wrapped_and_never_cut():
    assert drawing.wrap('Black_footed Albatross',
                        9) == 'Black\nfooted\nAlbatross'
    for name in (*LONG, 'a', 'x' * 50):
        for width in (1, 5, 40):
            whole = drawing.wrap(name, width)
            assert whole.replace('\n',
                                 '').replace(' ', '') == name.replace(' ', '')
            assert max(map(len, whole.split('\n'))) <= width


def test_logged_parts_add_up(runs):
    folder = runs['sd-kd'].parent
    (steps, whole), = logged(folder, 'distill.loss_sdd').values()
    scales = logged(folder, 'sdd/part_scale')
    assert list(scales) == ['1', '2', '4'] and steps == [1, 2]
    total = np.sum([values for _, values in scales.values()], axis=0)
    # MMEngine writes the mean of the last ten losses
    np.testing.assert_allclose(np.cumsum(total) / [1, 2], whole, rtol=1e-4)


def test_cases_over_training(runs):
    shares = logged(runs['sd-kd'].parent, 'sdd/')
    _, found = figures.cases_over_training(shares)
    total = np.sum([line['values'] for line in found.values()], axis=0)
    np.testing.assert_allclose(total, 1, rtol=1e-5)
    divided = np.add(*(found[case]['values']
                       for case in ('image right, cell wrong',
                                    'image wrong, cell right')))
    np.testing.assert_allclose(divided, shares['complementary'][1], rtol=1e-5)


def test_tensorboard_gets_what_the_log_has(runs):
    folder = runs['sd-kd'].parent
    events = tensorboard(folder)
    names = set(events.Tags()['scalars'])
    lines = logged(folder, 'sdd/')
    assert {'part_scale4', 'complementary', 'both_right'} <= set(lines)
    for name, (steps, values) in lines.items():
        found = events.Scalars(f'sdd/{name}')
        assert [event.step for event in found] == steps
        np.testing.assert_allclose([event.value for event in found],
                                   values,
                                   rtol=1e-6)
    assert {'accuracy/top1', 'distill.loss_sdd'} <= names


def tensorboard(folder):
    """What TensorBoard would show of a folder."""
    from tensorboard.backend.event_processing import event_accumulator
    path, = folder.rglob('events.out.tfevents.*')
    events = event_accumulator.EventAccumulator(
        str(path), size_guidance=dict(scalars=0, images=0))
    return events.Reload()


@pytest.fixture
def command(monkeypatch):
    """Runs a tool in this process, which has imported everything."""

    def run(name, *arguments):
        path = str(ROOT / 'tools' / 'analysis' / name)
        monkeypatch.setattr(sys, 'argv', [path, *map(str, arguments)])
        runpy.run_path(path, run_name='__main__')

    return run


def test_a_report(runs, tmp_path, command):
    command('report.py', runs['sd-kd'], '--against', runs['kd'], '--out',
            tmp_path, '--images', '100', '--backends', 'LocalVisBackend',
            'TensorboardVisBackend')
    names = [
        'accuracy', 'cases', 'cases-over-training', 'correlations', 'features',
        'loss-by-kind', 'loss-by-scale', 'misclassified', 'verdicts', 'won'
    ]
    assert sorted(tensorboard(tmp_path).Tags()['images']) == names
    for name in names:
        assert cv2.imread(str(tmp_path / f'{name}.png')).std() > 5, name
        json.loads((tmp_path / f'{name}.json').read_text())
        assert list(tmp_path.glob(f'vis_data/vis_image/{name}_*.png')), name
    page = (tmp_path / 'report.html').read_text()
    assert page.count('src="data:image/png;base64,') == len(names)
    assert '://' not in page.split('<pre>')[0]  # it needs nothing else
    assert 'ScaleDecoupledLoss' in page
    assert '<th>top-1 (95 % interval)</th>' in page


def test_wandb_gets_the_figures(tmp_path, monkeypatch):
    pytest.importorskip('wandb', reason='needs wandb: pip install wandb')
    monkeypatch.setenv('WANDB_MODE', 'offline')
    page = Report('a page', tmp_path, ['WandbVisBackend'])
    found = figures.curves('accuracy', 'top-1 (%)', dict(a=([1, 2], [3, 4])))
    page.figure('accuracy', found, 'accuracy')
    import wandb
    wandb.finish()
    assert list(
        tmp_path.glob('vis_data/wandb/offline-run-*/files/media/'
                      'images/accuracy_*.png'))


def test_of_several_attempts_the_last_counts(tmp_path):

    def attempt(name, *rows):
        path = tmp_path / name / 'vis_data' / 'scalars.json'
        path.parent.mkdir(parents=True)
        path.write_text(''.join(
            json.dumps(dict(a=value, step=step)) + '\n'
            for step, value in rows))

    attempt('1', (1, 10.), (2, 20.), (3, 30.))
    assert logged(tmp_path, 'a') == {'': ([1, 2, 3], [10., 20., 30.])}
    assert logged(tmp_path, 'a', until=2) == {'': ([1, 2], [10., 20.])}
    attempt('2', (3, 31.), (4, 41.))  # resumed after 2
    assert logged(tmp_path, 'a')[''] == ([1, 2, 3, 4], [10., 20., 31., 41.])
    attempt('3', (1, 12.), (2, 22.))  # begun anew
    assert logged(tmp_path, 'a')[''] == ([1, 2], [12., 22.])


@pytest.mark.parametrize('interval, attempts, wanted', [
    (4, ['2 4 v 6 8 v 10 12 v', 'v 14 16 v 18 20 v'], [4, 8, 12, 16, 20]),
    (4, ['2 4 v 6 8 v 10', '10 12 v'], [4, 8, 12]),
    (4, ['10 v v', '20 v'], [12, 16, 20]),
    (4, ['v v 10 v v 20 v'], [4, 8, 12, 16, 20]),
    (100, ['10 20 v', '30'], [100]),
    (5, ['v v', 'v'], [5, 10]),
    (4, ['4 v 8 v 12 v 16 v', '12 v'], [4, 8, 12]),
])
def test_validations_of_a_run_that_counts_iterations(tmp_path, interval,
                                                     attempts, wanted):
    """MMEngine logs all of them as step 0."""
    for number, lines in enumerate(attempts):
        path = tmp_path / str(number) / 'vis_data' / 'scalars.json'
        path.parent.mkdir(parents=True)
        path.write_text(''.join(
            json.dumps(
                dict(accuracy=1., step=0) if line ==
                'v' else dict(loss=1., iter=int(line), step=int(line))) + '\n'
            for line in lines.split()))
    assert logged(tmp_path, 'accuracy', interval=interval)[''][0] == wanted
    assert logged(tmp_path, 'accuracy', wanted[0],
                  interval)[''][0] == wanted[:1]


def test_images_are_evenly_spaced(runs):
    cfg = load_run(str(runs['sd-kd'])).cfg
    whole, some = (
        torch.cat([batch['inputs'] for batch in validation_loader(cfg, count)])
        for count in (None, 7))
    assert len(some) == 7
    for place, image in zip(torch.linspace(0, 119, 7).round().long(), some):
        assert torch.equal(image, whole[place])


def changed(path, target, change):
    content = torch.load(path)
    change(content)
    torch.save(content, target)
    return target


@pytest.mark.parametrize('change, message', [
    (lambda content: content['meta'].update(teacher_sha256='0' * 64),
     'trained by the teacher with SHA-256 00000000.*--teacher-ckpt'),
    (lambda content: content['state_dict'].popitem(), 'does not fit'),
    (lambda content: content['meta'].update(cfg='a = ('),
     'config cannot be read.*--config'),
])
def test_checkpoints_that_do_not_fit_the_run_are_refused(
        runs, tmp_path, change, message):
    path = changed(runs['kd'], tmp_path / 'changed.pth', change)
    with pytest.raises(PreflightError, match=message):
        load_run(str(path))


def other_data(content):
    content['meta']['cfg'] = content['meta']['cfg'].replace(
        'num_scenes=120', 'num_scenes=110')


@pytest.mark.parametrize('change, arguments, message', [
    (other_data, [], 'another val_dataloader.dataset.num_scenes, 110'),
    (lambda content: content['meta']['dataset_meta'].update(
        classes=list('abcdefghij')), [], 'another classes'),
    (lambda content: None, ['--backends', 'TensorBoardVisBackend'],
     'no .TensorBoardVisBackend., only TensorboardVisBackend'),
    (lambda content: None, ['--images', '0'], 'must be positive'),
    (lambda content: None, ['--against', str(ROOT)], 'is a folder: pass'),
    (lambda content: None, ['--names', 'a', 'a'], '2 different names'),
])
def test_reports_that_are_refused(runs, tmp_path, command, change, arguments,
                                  message):
    other = changed(runs['kd'], tmp_path / 'other.pth', change)
    with pytest.raises(SystemExit, match=f'ERROR: .*{message}'):
        command('report.py', runs['sd-kd'], '--against', other, '--out',
                tmp_path / 'out', '--names', 'a', 'b', *arguments)
    assert not (tmp_path / 'out').exists()


def test_a_report_on_one_image_of_a_run_with_two_losses(
        runs, tmp_path, command):

    def two(content):
        cfg = Config.fromstring(content['meta']['cfg'], '.py')
        losses = cfg.model.distiller.distill_losses
        losses.loss_b = losses.loss_sdd
        content['meta']['cfg'] = cfg.pretty_text

    path = changed(runs['sd-kd'], tmp_path / 'two.pth', two)
    log = next(runs['sd-kd'].parent.glob('*/vis_data/scalars.json'))
    copy = tmp_path / '1' / 'vis_data' / 'scalars.json'
    copy.parent.mkdir(parents=True)
    copy.write_text(log.read_text().replace('"sdd/', '"sdd/b/'))
    command('report.py', path, '--images', '1', '--out', tmp_path / 'out')
    assert {'loss-by-scale-b.png', 'cases-over-training-b.png', 'report.html'
            } <= {one.name
                  for one in (tmp_path / 'out').iterdir()}


def test_one_of_several_losses_is_analyzed(runs, tmp_path):
    """Not the first one of a config whose keys MMEngine has sorted."""

    def two(content):
        cfg = Config.fromstring(content['meta']['cfg'], '.py')
        losses = cfg.model.distiller.distill_losses
        losses.a_loss = dict(losses.loss_sdd, scales=(2, ))
        content['meta']['cfg'] = cfg.pretty_text

    path = str(changed(runs['sd-kd'], tmp_path / 'two.pth', two))
    assert load_run(path).grid[0] == (1, 2, 4)
    assert load_run(path, loss='a_loss').grid[0] == (2, )
    with pytest.raises(PreflightError, match='are loss_sdd, a_loss'):
        load_run(path, loss='loss_b')
    with pytest.raises(PreflightError, match='are none'):
        load_run(str(runs['kd']), loss='loss_sdd')


def without_validation(content):
    cfg = Config.fromstring(content['meta']['cfg'], '.py')
    cfg.test_dataloader, cfg.val_dataloader = cfg.val_dataloader, None
    content['meta']['cfg'] = cfg.pretty_text


def test_images_of_the_test_where_there_is_no_validation(
        runs, tmp_path, command):
    path = changed(runs['sd-kd'], tmp_path / 'run.pth', without_validation)
    cv2.imwrite(str(tmp_path / 'a.png'), np.full((40, 50, 3), 99, np.uint8))
    command('explain_image.py', path, tmp_path / 'a.png', '--out',
            tmp_path / 'b.png')
    assert (tmp_path / 'b.png').is_file()
    assert len(validation_loader(load_run(str(path)).cfg, 7).dataset) == 7


def test_images_that_were_moved(runs, tmp_path, command):
    key = 'val_dataloader.dataset'
    moved = [f'{key}.type=CustomDataset', f'{key}.data_root=/nowhere']
    moved += [f'{key}.{name}=None' for name in ('split', 'num_scenes')]
    with pytest.raises(
            SystemExit, match='cannot be loaded.*--cfg-options val_dataload'):
        command('report.py', runs['sd-kd'], '--out', tmp_path, '--cfg-options',
                *moved)
    command('report.py', runs['sd-kd'], '--out', tmp_path, '--only', 'cases',
            '--cfg-options', f'{key}.num_scenes=30')
    assert 'On 30 validation images' in (tmp_path / 'report.html').read_text()


def test_a_student_with_the_same_outputs_for_all_images(
        runs, tmp_path, command):

    def dead(content):
        for name, value in content['state_dict'].items():
            if name.startswith('architecture.backbone'):
                value.zero_()

    path = changed(runs['sd-kd'], tmp_path / 'dead.pth', dead)
    command('report.py', path, '--images', '50', '--out', tmp_path / 'out')
    names = {one.stem for one in (tmp_path / 'out').glob('*.png')}
    assert 'cases' in names and not {'features', 'correlations'} & names


def test_pictures_of_gray_values_and_of_floats(seen):
    run = seen[0]
    grayscale = torch.arange(12, dtype=torch.uint8).view(1, 3, 4)
    assert (run.picture(grayscale) == grayscale.permute(1, 2, 0).numpy()).all()
    assert run.picture(grayscale).shape == (3, 4, 3)
    floats = torch.linspace(-2, 2, 12).view(3, 2, 2)
    assert run.picture(floats).min() == 0 and run.picture(floats).max() == 255


def test_one_figure_alone(runs, tmp_path, command):
    command('report.py', runs['sd-kd'], '--out', tmp_path, '--images', '20',
            '--only', 'cases')
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'cases.json', 'cases.png', 'report.html'
    ]
    assert '<h2>Features' not in (tmp_path / 'report.html').read_text()


@pytest.mark.parametrize('name, text, arguments, message', [
    ('a.png', 'no picture', [], 'cannot be read as an image'),
    ('a.png', None, [], 'there is no picture'),
    ('a.png', 'x', ['--out', 'x.json'], 'must end in .png'),
    ('a.png', 'x', ['--scales', '0'], 'scales must be'),
    ('a.png', 'x', ['--config', 'none.py'], '--config none.py'),
])
def test_pictures_that_are_refused(runs, tmp_path, command, name, text,
                                   arguments, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(SystemExit, match=f'ERROR: .*{message}'):
        command('explain_image.py', runs['sd-kd'], tmp_path / name, '--out',
                tmp_path / 'out.png', *arguments)
    assert not (tmp_path / 'out.png').exists()


def test_a_picture_is_explained(runs, seen, tmp_path, command):
    run, batches, teacher, _ = seen
    cv2.imwrite(
        str(tmp_path / 'picture.png'), run.picture(batches[0]['inputs'][3]))
    out = tmp_path / 'out' / 'verdicts.png'
    command('explain_image.py', runs['sd-kd'], tmp_path / 'picture.png',
            '--out', out)
    found = json.loads(out.with_suffix('.json').read_text())
    assert found['verdict'] == str(teacher.classes[3].item())
    assert [int(one)
            for one in found['cells']['4']] == teacher.at(4)[:, 3].tolist()
    assert cv2.imread(str(out)).std() > 5


def test_cells_have_one_name_of_each_class():
    names = ['tench, Tinca tinca', 'crane', 'crane, machine', 'jay']
    _, axes = drawing.plt.subplots()
    drawing.draw_cells(axes, np.zeros((8, 8, 3), np.uint8), [0, 1, 2, 3],
                       [True] * 4, names, 2., '', [0.996, 0., 0.004, 0.005])
    assert [text.get_text().split('\n')
            for text in axes.texts] == [['tench', '100%'], ['crane', '0%'],
                                        ['crane,', 'machine', '<1%'],
                                        ['jay', '<1%']]


def test_the_picture_of_the_readme_can_be_drawn(runs, tmp_path, monkeypatch):
    script = ROOT / 'docs' / 'en' / '_static' / 'draw_sdd.py'
    monkeypatch.setattr(sys, 'argv',
                        ['', str(runs['sd-kd']),
                         str(tmp_path / 'sdd.png')])
    runpy.run_path(str(script), run_name='__main__')
    assert cv2.imread(str(tmp_path / 'sdd.png')).std() > 5


def test_what_has_no_teacher_is_refused(runs, tmp_path):
    torch.save(dict(state_dict={}), tmp_path / 'bare.pth')
    with pytest.raises(PreflightError, match='bare.pth: .*no config.*--conf'):
        load_run(str(tmp_path / 'bare.pth'))
    with pytest.raises(PreflightError, match='none.pth does not exist'):
        load_run(str(tmp_path / 'none.pth'))
    with pytest.raises(PreflightError, match='has no teacher'):
        load_run(
            str(runs['kd']), str(ROOT / 'configs' / 'demo' / 'student.py'))

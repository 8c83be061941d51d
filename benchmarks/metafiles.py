# Copyright (c) sdd_mm contributors. All rights reserved.
"""Results in the metafiles, and the tables that the config pages have."""
import functools
import json
import re
import statistics
import string
from pathlib import Path
from typing import Dict, List, Optional

import yaml
from mmengine.config import Config

from . import markdown

# a model of a metafile, and what stands in it
MODEL = re.compile(r'^  - Name: .*?(?=^  - Name: |\Z)',
                   re.DOTALL | re.MULTILINE)
RESULTS = re.compile(r'^    Results:\n(?:      .*\n)*', re.MULTILINE)
CONFIG = re.compile(r'^    Config: (\S+)$', re.MULTILINE)
DATA = re.compile(r'^ +Training Data: (.+)$', re.MULTILINE)
LABELS = {
    'kd': 'KD',
    'dkd': 'DKD',
    'nkd': 'NKD',
    'nkd-released': 'NKD as released',
    'kd_paper': 'KD, `paper` preset',
}
BASELINES = {
    'fitnet': 'FitNet',
    'rkd': 'RKD',
    'sp': 'SP',
    'pkt': 'PKT',
    'crd': 'CRD',
    'semckd': 'SemCKD',
    'reviewkd': 'ReviewKD',
    'mgd': 'MGD',
    'sskd': 'SSKD',
    'sd-sskd': 'SD-SSKD',
}


def read(text: str) -> dict:
    """YAML, by the parser that is written in C if there is one."""
    return yaml.load(text, getattr(yaml, 'CSafeLoader', yaml.SafeLoader))


class Metafiles:
    """The models of all metafiles, in order, with what was measured.

    Args:
        root (Path): The folder of model-index.yml.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        index = read((root / 'model-index.yml').read_text())
        found = measured(root)
        self.texts = {
            root / path: record((root / path).read_text(), found)
            for path in index['Import']
        }
        self.models = {
            model['Name']: model
            for text in self.texts.values()
            for model in read(text)['Models']
        }

    @functools.lru_cache(maxsize=None)
    def loss(self, name: str):
        """The config of a model, and of its SDD loss."""
        config = Config.fromfile(
            self.root / self.models[name]['Config'],
            import_custom_modules=False)
        return config, config.model.distiller.distill_losses.loss_sdd

    def known(self, name: str) -> dict:
        """The metadata of a model."""
        return self.models[name].get('Metadata', {})

    def pairs(self) -> dict:
        """The runs of each (teacher, student), by method."""
        found: Dict[tuple, dict] = {}
        for name in self.models:
            data = self.known(name)
            if 'Teacher' in data:
                runs = found.setdefault((data['Teacher'], data['Student']), {})
                preset = '_paper' if name.endswith('_paper') else ''
                runs[name.split('_')[0] + preset] = name
        return found


def measured(root: Path) -> dict:
    """Accuracies after the last epoch and number of seeds that diverged.

    By config, of those that were trained as they are. Of two suites, on two
    machines, the one that is called as the config's folder counts.
    """
    found: dict = {}
    own: dict = {}
    twice = []
    for path in sorted((root / 'benchmarks').glob('*.json')):
        suite = json.loads(path.read_text())
        for row in suite['teachers'] + suite['rows']:
            if row['options'] or not row['runs']:
                continue
            value = ([run['last']
                      for run in row['runs']], len(row['diverged']))
            config = row['config']
            if Path(config).parent.name == path.stem:
                own[config] = value
            # one teacher may stand in several suites
            elif found.setdefault(config, value) != value:
                twice.append(config)
    for config in twice:
        if config not in own:
            raise markdown.PageError(
                f'benchmarks/*.json have two results of {config}')
    return {**found, **own}


def record(metafile: str, found: dict) -> str:
    """The text of a metafile whose Results are what was measured."""

    def write(match: re.Match) -> str:
        config = CONFIG.search(match[0])
        accuracies, diverged = found.get(config and config[1], ((), 0))
        if not accuracies:
            return match[0]
        # the model's own, or its collection's
        data = DATA.search(match[0]) or DATA.search(metafile)
        lines = [
            '    Results:', '      - Task: Image Classification',
            f'        Dataset: {data[1]}', '        Metrics:',
            f'          Top 1 Accuracy: {statistics.mean(accuracies):.2f}'
        ]
        if len(accuracies) > 1:
            lines += [
                '          Standard Deviation: '
                f'{statistics.stdev(accuracies):.2f}',
                f'          Seeds: {len(accuracies)}'
            ]
        if diverged:
            lines.append(f'          Diverged: {diverged}')
        return '\n'.join([match[0].rstrip('\n'), *lines, ''])

    return MODEL.sub(write, RESULTS.sub('', metafile))


class Notes(list):
    """Notes under a table, and the letters that refer to them."""

    def mark(self, note: Optional[str]) -> str:
        if note is None:
            return ''
        if note not in self:
            self.append(note)
        return f'<sup>{string.ascii_lowercase[self.index(note)]}</sup>'

    def under(self, rows: List[List[str]], *optional: str) -> List[str]:
        """A table with its notes."""
        foot = [f'- {self.mark(note)} {note}' for note in self]
        return [*markdown.table(rows, optional), '', *foot]


def pairs(metafiles: Metafiles, page: Path, data: str) -> List[str]:
    """The numbers of each pair, out of its configs."""
    rows = [['pair', 'data', 'lr', 'M', "DKD's beta, tau"]]
    for runs in metafiles.pairs().values():
        config, loss = metafiles.loss(runs['sd-dkd'])
        scales = _scales(metafiles, runs['sd-dkd'])
        other = _scales(metafiles, runs['sd-nkd'])
        if other != scales:
            scales += f'; SD-NKD {other}'
        rows.append([
            f'`{runs["kd"].split("_", 1)[1]}`',
            metafiles.known(runs['kd'])['Training Data'],
            f'{config.optim_wrapper.optimizer.lr:g}', scales,
            f'{loss.criterion.beta:g}, {loss.criterion.tau:g}'
        ])
    return Notes().under(rows)


def results(metafiles: Metafiles, page: Path, data: str) -> List[str]:
    """Published and measured accuracies of a data set's pairs."""
    rows = [[
        'teacher → student', 'without SDD', 'paper', "authors' log", 'ours',
        'with SDD', 'M', 'paper', "authors' log", 'ours'
    ]]
    notes = Notes()
    for networks, runs in metafiles.pairs().items():
        known = list(map(metafiles.known, networks))
        if known[0]['Training Data'] != data:
            continue
        title = ' → '.join(map(_network, known))
        for method, label in LABELS.items():
            plain, decoupled = runs.get(method), runs.get(f'sd-{method}')
            if plain or decoupled:
                first = _run(metafiles, plain, label, notes)
                second = _run(metafiles, decoupled, f'SD-{label}', notes)
                second.insert(1, _scales(metafiles, decoupled))
                rows.append([title, *first, *second])
                title = ''
    return notes.under(rows)


def baselines(metafiles: Metafiles, page: Path, data: str) -> List[str]:
    """Published and measured accuracies of the methods beside SDD."""
    rows, notes = [[
        'teacher → student', 'method', 'paper', 'original', 'ours'
    ]], Notes()
    for networks, runs in metafiles.pairs().items():
        known = list(map(metafiles.known, networks))
        if known[0]['Training Data'] != data:
            continue
        title = ' → '.join(map(_network, known))
        for method, label in BASELINES.items():
            if method in runs:
                link, paper, _, ours = _run(metafiles, runs[method], label,
                                            notes)
                published = metafiles.known(runs[method]).get('Published', {})
                original = (f'{published["Original"]:.2f}'
                            if 'Original' in published else '')
                rows.append([title, link, paper, original, ours])
                title = ''
    return notes.under(rows)


def configs(metafiles: Metafiles, page: Path, data: str) -> List[str]:
    """Every config of the page's directory."""
    optional = ('network', 'data', 'paper', "authors' log")
    rows, notes = [['config', *optional, 'ours']], Notes()
    for name, model in metafiles.models.items():
        if (metafiles.root / model['Config']).parent == page.parent:
            known = metafiles.known(name)
            link, *numbers = _run(metafiles, name, name, notes)
            rows.append([
                link,
                known.get('Architecture', ''),
                known.get('Training Data', ''), *numbers
            ])
    return notes.under(rows, *optional)


def _scales(metafiles: Metafiles, name: str) -> str:
    return ', '.join(map(str, metafiles.loss(name)[1].scales))


def _network(known: dict) -> str:
    """A network and its published accuracy."""
    paper = known.get('Published', {}).get('Paper')
    return known['Architecture'] + ('' if paper is None else f' {paper:.2f}')


def _run(metafiles: Metafiles, name: Optional[str], label: str,
         notes: Notes) -> List[str]:
    """Link, paper, authors' log, ours."""
    if name is None:
        return [''] * 4
    model = metafiles.models[name]
    published = metafiles.known(name).get('Published', {})
    paper = f'{published["Paper"]:.2f}' if 'Paper' in published else ''
    if 'README' in published:
        paper += f' (README {published["README"]:.2f})'
    ours = ''
    for result in model.get('Results') or ():
        metrics = result['Metrics']
        ours = f'{metrics["Top 1 Accuracy"]:.2f}'
        if 'Seeds' in metrics:
            ours += (f' ± {metrics["Standard Deviation"]:.2f} '
                     f'({metrics["Seeds"]})')
        if 'Diverged' in metrics:
            ours += f', {metrics["Diverged"]} diverged'
    link = f'[{label}]({Path(model["Config"]).name})'
    logs = (f'{log:.2f}' for log in published.get("Authors' log", ()))
    return [
        link + notes.mark(published.get('Note')), paper, ', '.join(logs), ours
    ]


KINDS = dict(
    pairs=pairs, results=results, baselines=baselines, configs=configs)

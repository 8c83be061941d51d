# Copyright (c) sdd_mm contributors. All rights reserved.
"""Writes what was measured into the metafiles, and the tables of the pages.

Measured is what benchmarks/*.json say of configs that were trained as they
are: it becomes the Results of the metafiles. A table stands between
`<!-- table: KIND [DATA SET] -->` and `<!-- end of table -->`; nothing else on
a page is touched.
"""
import argparse
import functools
import json
import re
import statistics
import string
import sys
from pathlib import Path

import yaml
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[2]
START, END = '<!-- table: ', '<!-- end of table -->'
MARKED = re.compile(rf'({START}(\w+) ?(.*?) -->\n)(?:(?!{START}).)*?({END})',
                    re.DOTALL)
# a model of a metafile, and the results in it
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


class TableError(ValueError):
    """A page or a metafile that no table can be made of."""


class Metafiles:
    """The models of all metafiles, in order, with what was measured.

    Args:
        root (Path): Where model-index.yml is.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        index = yaml.safe_load((root / 'model-index.yml').read_text())
        found = measured(root)
        self.texts = {
            root / path: record((root / path).read_text(), found)
            for path in index['Import']
        }
        self.models = {
            model['Name']: model
            for text in self.texts.values()
            for model in yaml.safe_load(text)['Models']
        }

    @functools.lru_cache(maxsize=None)
    def config(self, name: str) -> Config:
        """The config of a model."""
        path = self.root / self.models[name]['Config']
        return Config.fromfile(path, import_custom_modules=False)

    def pairs(self) -> dict:
        """The runs of each (teacher, student), by method."""
        found = {}
        for name, model in self.models.items():
            data = model.get('Metadata', {})
            if 'Teacher' in data:
                runs = found.setdefault((data['Teacher'], data['Student']), {})
                method, *_ = name.split('_')
                preset = '_paper' if name.endswith('_paper') else ''
                runs[method + preset] = name
        return found


def measured(root: Path) -> dict:
    """Accuracies after the last epoch, by the path of the config.

    Beside them the number of seeds that diverged.
    """
    suites = [
        json.loads(path.read_text())
        for path in sorted((root / 'benchmarks').glob('*.json'))
    ]
    found = {}
    for suite in suites:
        for row in suite['teachers'] + suite['rows']:
            if row['options'] or not row['runs']:
                continue
            value = ([run['last']
                      for run in row['runs']], len(row['diverged']))
            # one teacher may stand in several suites
            if found.setdefault(row['config'], value) != value:
                raise TableError(f'benchmarks/*.json measure {row["config"]} '
                                 'twice: which is to be told?')
    return found


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
                f'          Standard Deviation: '
                f'{statistics.stdev(accuracies):.2f}',
                f'          Seeds: {len(accuracies)}'
            ]
        if diverged:
            lines.append(f'          Diverged: {diverged}')
        return '\n'.join([match[0].rstrip('\n'), *lines, ''])

    return MODEL.sub(write, RESULTS.sub('', metafile))


class Notes(list):
    """Notes under a table, and the letters that refer to them."""

    def mark(self, note: str) -> str:
        if note is None:
            return ''
        if note not in self:
            self.append(note)
        return f'<sup>{string.ascii_lowercase[self.index(note)]}</sup>'


def pairs(metafiles: Metafiles, page: Path, data: str) -> list:
    """The numbers of each pair, out of its configs."""
    rows = [['pair', 'data', 'lr', 'M', "DKD's beta, tau"]]
    for runs in metafiles.pairs().values():
        config = metafiles.config(runs['sd-dkd'])
        loss = config.model.distiller.distill_losses.loss_sdd
        scales = _scales(metafiles, runs['sd-dkd'])
        other = _scales(metafiles, runs['sd-nkd'])
        if other != scales:
            scales += f'; SD-NKD {other}'
        rows.append([
            f'`{runs["kd"].split("_", 1)[1]}`',
            metafiles.models[runs['kd']]['Metadata']['Training Data'],
            f'{config.optim_wrapper.optimizer.lr:g}', scales,
            f'{loss.criterion.beta:g}, {loss.criterion.tau:g}'
        ])
    return _table(rows)


def results(metafiles: Metafiles, page: Path, data: str) -> list:
    """Published and measured accuracies of a data set's pairs."""
    rows = [[
        'teacher → student', 'without SDD', 'paper', "authors' log", 'ours',
        'with SDD', 'M', 'paper', "authors' log", 'ours'
    ]]
    notes = Notes()
    for (teacher, student), runs in metafiles.pairs().items():
        if metafiles.models[teacher]['Metadata']['Training Data'] != data:
            continue
        title = f'{_network(metafiles, teacher)} → ' \
                f'{_network(metafiles, student)}'
        for method, label in LABELS.items():
            plain, decoupled = runs.get(method), runs.get(f'sd-{method}')
            if plain or decoupled:
                rows.append([
                    title, *_run(metafiles, plain, label, notes),
                    *_run(metafiles, decoupled, f'SD-{label}', notes)
                ])
                rows[-1].insert(6, _scales(metafiles, decoupled))
                title = ''
    return _table(rows, notes)


def configs(metafiles: Metafiles, page: Path, data: str) -> list:
    """Every config of the page's directory."""
    rows = [['config', 'network', 'data', 'paper', "authors' log", 'ours']]
    notes = Notes()
    for name, model in metafiles.models.items():
        if (metafiles.root / model['Config']).parent == page.parent:
            known = model.get('Metadata', {})
            link, *numbers = _run(metafiles, name, name, notes)
            rows.append([
                link,
                known.get('Architecture', ''),
                known.get('Training Data', ''), *numbers
            ])
    kept = [
        column for column in range(len(rows[0]))
        if rows[0][column] == 'ours' or any(row[column] for row in rows[1:])
    ]
    return _table([[row[column] for column in kept] for row in rows], notes)


def _scales(metafiles: Metafiles, name: str) -> str:
    losses = metafiles.config(name).model.distiller.distill_losses
    return ', '.join(map(str, losses.loss_sdd.scales))


def _network(metafiles: Metafiles, name: str) -> str:
    """A network and its published accuracy."""
    data = metafiles.models[name]['Metadata']
    paper = data.get('Published', {}).get('Paper')
    return data['Architecture'] + ('' if paper is None else f' {paper:.2f}')


def _run(metafiles: Metafiles, name: str, label: str, notes: Notes) -> list:
    """Link, paper, authors' log, ours."""
    if name is None:
        return [''] * 4
    model = metafiles.models[name]
    published = model.get('Metadata', {}).get('Published', {})
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
    return [
        link + notes.mark(published.get('Note')), paper,
        _join(published.get("Authors' log", ())), ours
    ]


def _join(numbers) -> str:
    return ', '.join(f'{number:.2f}' for number in numbers)


def _table(rows: list, notes: Notes = ()) -> list:
    head, *body = [f'| {" | ".join(row)} |' for row in rows]
    foot = [f'- {notes.mark(note)} {note}' for note in notes]
    return [head, '|---' * len(rows[0]) + '|', *body, '', *foot]


KINDS = dict(pairs=pairs, results=results, configs=configs)


def update(root: Path, check: bool) -> list:
    """Write the metafiles and the tables of all pages, or only compare.

    Args:
        root (Path): A checkout.
        check (bool): Whether nothing is written.

    Returns:
        list[str]: The metafiles and pages that were not what they are to be.
    """
    metafiles = Metafiles(root)
    pages = {
        path: text
        for path, text in metafiles.texts.items() if text != path.read_text()
    }
    for pattern in ('configs/*/README.md', 'docs/en/*.md'):
        for page in sorted(root.glob(pattern)):
            text = page.read_text(encoding='utf-8')
            found = len(MARKED.findall(text))
            if not found == text.count(START) == text.count(END):
                raise TableError(
                    f'{page}: {text.count(START)} tables begin and '
                    f'{text.count(END)} end, not one after the other')
            new = MARKED.sub(lambda match: _write(metafiles, page, match),
                             text)
            if new != text:
                pages[page] = new
    for page, text in pages.items():
        if not check:
            page.write_text(text, encoding='utf-8')
    return [str(page.relative_to(root)) for page in pages]


def _write(metafiles: Metafiles, page: Path, match: re.Match) -> str:
    start, kind, data, end = match.groups()
    if kind not in KINDS:
        raise TableError(f'{page}: there is no table {kind!r}, only '
                         f'{", ".join(KINDS)}')
    lines = KINDS[kind](metafiles, page, data)
    if not lines[2]:
        raise TableError(f'{page}: the table {kind} {data} has no rows, the '
                         'metafiles know nothing of it')
    return start + '\n'.join([*lines, end])


def main(argv: list = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--check', action='store_true', help='write nothing, only compare')
    parser.add_argument(
        '--root', type=Path, default=ROOT, help='another checkout')
    args = parser.parse_args(argv)
    try:
        stale = update(args.root, args.check)
    except TableError as error:
        sys.exit(f'ERROR: {error}')
    verdict = 'not what was measured' if args.check else 'written'
    for name in stale:
        print(f'{name}: {verdict}')
    return int(args.check and bool(stale))


if __name__ == '__main__':
    sys.exit(main())

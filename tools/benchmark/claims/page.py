# Copyright (c) sdd_mm contributors. All rights reserved.
"""benchmarks/README.md: its tables, from the JSON files beside it."""
import json
from pathlib import Path
from typing import Dict, Optional, Sequence

START, END = '<!-- speed: begin -->\n', '<!-- speed: end -->'
DEVICES = dict(cpu='CPU', cuda='GPU')
PROCESSOR = 'processor time'
ABSENT = 'not measured'


class PageError(ValueError):
    """A page that no table can be written into."""


def update(folder: Path, rows: Sequence[str], check: bool = False) -> bool:
    """Write the tables, or only compare.

    Args:
        folder (Path): The page's folder.
        rows (Sequence[str]): Names of the rows, in order.
        check (bool): Whether nothing is written. Defaults to False.

    Returns:
        bool: Whether the page was what the results say.
    """
    page = folder / 'README.md'
    text = page.read_text(encoding='utf-8')
    if text.count(START) != 1 or text.count(END) != 1:
        raise PageError(f'{page} must have one {START.strip()} and one {END}')
    head, rest = text.split(START)
    _, foot = rest.split(END)
    new = head + START + tables(folder, rows) + END + foot
    if not check:
        page.write_text(new, encoding='utf-8')
    return new == text


def tables(folder: Path, rows: Sequence[str]) -> str:
    """Every row's table."""
    parts = []
    for row in rows:
        found = {
            device: _read(folder / device / f'{row}.json')
            for device in DEVICES
        }
        if any(found.values()):
            parts.append(_section(row, found))
    if not parts:
        raise PageError(f'there is no result under {folder}')
    return '\n'.join(parts)


def _read(path: Path) -> Optional[dict]:
    if not path.is_file():
        return None
    found = json.loads(path.read_text())
    if found['tiny']:
        raise PageError(f'{path} is a trial (--tiny), not a result')
    return found


def _section(row: str, found: Dict[str, Optional[dict]]) -> str:
    measured = {device: one for device, one in found.items() if one}
    first = next(iter(measured.values()))
    claims = {
        device: {
            name(one): one
            for one in result['claims']
        }
        for device, result in measured.items()
    }
    titles = dict.fromkeys(title for known in claims.values()
                           for title in known)
    columns = ['measured', 'at most', *DEVICES.values()]
    timed = any(one['processor'] is not None for known in claims.values()
                for one in known.values())
    if timed:
        columns.insert(3, PROCESSOR)
    lines = [
        f'### `{row}`', '', first['says'], '', f'| {" | ".join(columns)} |',
        '|---' * len(columns) + '|'
    ]
    for title in titles:
        known = [one[title] for one in claims.values() if title in one]
        goal = known[0]['goal']
        cells = [
            _cell(claims[device].get(title)) if device in claims else ABSENT
            for device in DEVICES
        ]
        if timed:
            cells.insert(1, _number(known[0]['processor']))
        lines.append(f'| {title} | {"" if goal is None else f"{goal:g}"} | '
                     f'{" | ".join(cells)} |')
    lines.append('')
    for device, result in measured.items():
        lines += [f'- {note}' for note in result['notes']]
        lines.append(f'- {DEVICES[device]}: {_facts(result)}')
        lines += ['', f'![{row}]({device}/{row}.png)', '']
    return '\n'.join(lines)


def name(one: dict) -> str:
    """What a claim speaks of, with its unit unless that is a ratio."""
    return one['title'] + ('' if one['unit'] == 'x' else f' ({one["unit"]})')


def _number(value: Optional[float]) -> str:
    return '' if value is None else f'{value:.3g}'


def _cell(one: Optional[dict]) -> str:
    if one is None:
        return ''
    text = _number(one['value'])
    if one['low'] is not None:
        text += f' ({one["low"]:.3g} to {one["high"]:.3g})'
    return text if one['met'] is not False else f'**{text}, not met**'


def _facts(result: dict) -> str:
    known = result['environment']
    machine = known['gpu'] or (f'{known["processor"]}, {known["cores"]} cores,'
                               f' {known["threads"]} threads')
    versions = ', '.join(f'{name} {known[name]}'
                         for name in ('torch', 'cuda', 'mmengine',
                                      'mmpretrain', 'mmrazor') if known[name])
    return (f'n = {result["rounds"]} rounds, ratios of medians (smallest to '
            f'largest round) of wall time; {machine}; Python '
            f'{known["python"]}, {versions}; commit {known["commit"]}; '
            f'{result["seconds"]} s, load {known["load"]}.')

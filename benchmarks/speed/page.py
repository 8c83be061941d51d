# Copyright (c) sdd_mm contributors. All rights reserved.
"""The tables of the speed rows, from their JSON files."""
import json
from pathlib import Path
from typing import Dict, List, Optional

from ..environment import versions
from ..markdown import PageError, table
from . import ROWS

DEVICES = dict(cpu='CPU', cuda='GPU')
ABSENT = 'not measured'


def tables(page: Path, subject: str = '') -> List[str]:
    """Every row's section, from the folders of devices beside the page."""
    lines: List[str] = []
    for row in ROWS:
        found = {
            device: _read(page.parent / device / f'{row}.json')
            for device in DEVICES
        }
        if any(found.values()):
            lines += [*[''] * bool(lines), *section(found)]
    if not lines:
        raise PageError(f'there is no speed result under {page.parent}')
    return lines


def _read(path: Path) -> Optional[dict]:
    if not path.is_file():
        return None
    found = json.loads(path.read_text())
    if found['tiny']:
        raise PageError(f'{path} is a trial (--tiny), not a result')
    return found


def section(found: Dict[str, Optional[dict]]) -> List[str]:
    """A row's table and notes, from its result on each device."""
    measured = {device: one for device, one in found.items() if one}
    first = next(iter(measured.values()))
    rows = [['measured', 'at most', 'CPU', 'processor time', 'GPU']]
    claims = {
        device: {
            name(one): one
            for one in result['claims']
        }
        for device, result in measured.items()
    }
    for title in dict.fromkeys(key for one in claims.values() for key in one):
        known = next(one[title] for one in claims.values() if title in one)
        cells = {
            device:
            _cell(claims[device].get(title)) if device in claims else ABSENT
            for device in DEVICES
        }
        rows.append([
            title, '' if known['goal'] is None else f'{known["goal"]:g}',
            cells['cpu'],
            _number(known['processor']), cells['cuda']
        ])
    lines = [f'### `{first["row"]}`', '', first['says'], '']
    lines += [*table(rows, ('processor time', )), '']
    for device, result in measured.items():
        if result.get('table'):
            lines += [f'{DEVICES[device]}:', '', *table(result['table']), '']
        lines += [f'- {note}' for note in result['notes']]
        lines += [
            f'- {DEVICES[device]}: {_facts(result)}', '',
            f'![{first["row"]}]({device}/{first["row"]}.png)', ''
        ]
    return lines[:-1]


def name(one: dict) -> str:
    """The title of a claim, with its unit unless that is a ratio."""
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
    return (f'n = {result["rounds"]} rounds, ratios of medians (smallest to '
            f'largest round) of wall time; {machine}; Python '
            f'{known["python"]}, {versions(known)}; commit {known["commit"]}; '
            f'{result["seconds"]} s, load {known["load"]}.')

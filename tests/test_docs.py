# Copyright (c) sdd_mm contributors. All rights reserved.
"""Pages lead where they say, and the design page shows the code as it is."""
import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted({
    *ROOT.glob('*.md'), *ROOT.glob('docs/en/*.md'),
    *ROOT.glob('configs/*/README.md'), *ROOT.glob('benchmarks/*.md')
})
DESIGN = ROOT / 'docs/en/design.md'


def without_code(path):
    """A page without its code blocks, whose comments look like headings."""
    return re.sub('```.*?```', '', path.read_text(), flags=re.S)


def anchors(path):
    """The anchors that GitHub and MyST make of the headings of a page."""
    headings = re.findall('^#+ (.*)', without_code(path), flags=re.M)
    return {
        re.sub(r'[^\w -]', '', heading.lower()).strip().replace(' ', '-')
        for heading in headings
    }


def test_every_link_to_a_file_or_a_heading_leads_there():
    broken = []
    for page in PAGES:
        for link in re.findall(r'\]\(([^)\s]+)\)', without_code(page)):
            if '://' in link:
                continue
            name, _, anchor = link.partition('#')
            target = (page.parent / name).resolve() if name else page
            if not target.exists() or anchor and anchor not in anchors(target):
                broken.append(f'{page.relative_to(ROOT)}: {link}')
    assert len(PAGES) > 15 and not broken, '\n'.join(broken)


def test_every_page_is_in_the_index():
    index = (ROOT / 'docs/en/index.md').read_text()
    trees = index.split('```{toctree}')[1:]
    listed = {name for tree in trees for name in tree.split('```')[0].split()}
    pages = {path.stem for path in ROOT.glob('docs/en/*.md')} - {'index'}
    assert pages <= listed


def test_the_design_page_shows_the_step_and_a_run_as_they_are():
    step, run = re.findall('```python\n(.*?)```', DESIGN.read_text(), re.S)
    folder = ROOT / 'sdd_mm/models/algorithms'
    assert step in (folder / 'frozen_teacher_distill.py').read_text()
    folder = ROOT / 'configs/sdd'
    assert run == (folder / 'sd-dkd_res32x4_res8x4_cifar100.py').read_text()


def test_every_path_of_the_design_page_exists():
    found = re.findall('`((?:sdd_mm|configs|tests|benchmarks)/[^` ]*)`',
                       DESIGN.read_text())
    missing = [path for path in found if not (ROOT / path).exists()]
    patterns = {path for path in missing if re.search('[A-Z]{3}', path)}
    assert len(found) > 20 and not {*missing} - patterns


def rooms():
    """The tables of rooms: what each is, from the lowest to the highest."""
    text = DESIGN.read_text().split('## The rooms')[1].split('Outside the')[0]
    tables = re.split(r'\n\*\*(?:Extras|The core|What stands alone)\*\*', text)
    rows = re.compile(r'^\| `([^`]+)` \|', re.M)
    return [rows.findall(table) for table in reversed(tables[1:])]


def level(name, tables):
    """How high a module stands; None for helpers that all rooms use."""
    for height, table in enumerate(tables):
        for room in table:
            if f'{name}/'.startswith(room.removesuffix('.py') + '/'):
                return height
    return None


def imported(path):
    """Modules of this package that a file imports, as paths inside it."""
    folder = path.relative_to(ROOT / 'sdd_mm').parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = folder[:len(folder) + 1 - node.level]
            if node.module:
                yield '/'.join([*base, *node.module.split('.')])
            else:
                yield from ('/'.join([*base, alias.name])
                            for alias in node.names)


def test_no_room_imports_one_that_stands_above_it():
    tables, levels = rooms(), set()
    assert [len(table) > 3 for table in tables] == [True] * 3
    assert all((ROOT / 'sdd_mm' / name).exists() for name in sum(tables, []))
    for path in (ROOT / 'sdd_mm').rglob('*.py'):
        name = path.relative_to(ROOT / 'sdd_mm').with_suffix('').as_posix()
        own = level(name, tables)
        for other in imported(path):
            theirs = level(other, tables)
            levels.add((own, theirs))
            assert None in (own, theirs) or theirs <= own, (name, other)
    assert {(2, 1), (1, 0), (2, 0), (1, 1)} <= levels


def test_a_core_room_imports_what_its_row_allows():
    text = DESIGN.read_text().split('**The core**')[1].split('\n\n**')[0]
    rows = re.findall(r'^\| `([^`]+)` \|.*\| ([^|]+) \|$', text, re.M)
    rooms = [name for name, _ in rows]
    short = {name.split('/')[-1].removesuffix('.py'): name for name in rooms}
    used = set()
    for place, (room, cell) in enumerate(rows):
        allowed = rooms[place:] if cell == 'all below' else [
            room, *(short[name]
                    for name in re.findall(r'\w+', cell) if name in short)
        ]
        path = ROOT / 'sdd_mm' / room
        for file in [path] if path.is_file() else path.rglob('*.py'):
            for other in imported(file):
                theirs = next(
                    (one for one in rooms
                     if f'{other}/'.startswith(one.removesuffix('.py') + '/')),
                    None)
                assert theirs in (None, *allowed), (room, other)
                used.add((room, theirs))
    assert ('models/losses', 'functional') in used

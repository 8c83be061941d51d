# Copyright (c) sdd_mm contributors. All rights reserved.
"""A page with the figures of a run, and their numbers as JSON."""
import base64
import html
import io
import json
from difflib import get_close_matches
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np
from matplotlib.figure import Figure
from mmengine.registry import VISBACKENDS
from mmengine.visualization import Visualizer
from PIL import Image

from ..engine.errors import PreflightError
from .drawing import png

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem
  auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
img { max-width: 100%; } figure { margin: 0; }
table { border-collapse: collapse; margin-bottom: 1.5rem; }
td, th { padding: .3rem .8rem; border-bottom: 1px solid #ddd; }
.numbers td, .numbers th { text-align: right; }
.numbers td { white-space: nowrap; }
.numbers td:first-child, .numbers th:first-child { text-align: left; }
.facts td { vertical-align: top; overflow-wrap: anywhere; }
.facts td:first-child { color: #555; white-space: nowrap; }
.scrolls { overflow-x: auto; }
pre { background: #f6f6f6; padding: 1rem; overflow-x: auto; font-size: 13px; }
.note { color: #555; }
"""


class Report:
    """A page of figures, tables and text.

    Args:
        title (str): The title of the page.
        folder (Path): Folder for the page and, for every figure, a PNG and
            its numbers as JSON.
        backends (list[str], optional): Visualizer backends of MMEngine that
            also get the figures, such as ``TensorboardVisBackend``. Defaults
            to None, no backend.

    Raises:
        PreflightError: If there is no such backend, or the folder cannot be
            created.
    """

    def __init__(self,
                 title: str,
                 folder: Path,
                 backends: Optional[List[str]] = None) -> None:
        self.title = title
        self.folder = folder
        for kind in backends or ():
            if kind not in VISBACKENDS:
                near = get_close_matches(kind, VISBACKENDS.module_dict)
                raise PreflightError(
                    f'--backends: there is no {kind!r}, only '
                    f'{", ".join(near or sorted(VISBACKENDS.module_dict))}')
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PreflightError(f'--out {folder}: {error}') from error
        self.visualizer = None
        if backends:
            self.visualizer = Visualizer(
                vis_backends=[dict(type=kind) for kind in backends],
                save_dir=str(folder))
        self._parts: List[str] = []

    def heading(self, text: str, note: str = '') -> None:
        """Add a heading and a sentence below it."""
        self._parts.append(f'<h2>{html.escape(text)}</h2>')
        if note:
            self._parts.append(f'<p class="note">{html.escape(note)}</p>')

    def list(self, lines: Sequence[str]) -> None:
        """Add a list of sentences."""
        items = ''.join(f'<li>{html.escape(line)}</li>' for line in lines)
        self._parts.append(f'<ul>{items}</ul>')

    def table(self, head: Sequence[str],
              rows: Sequence[Sequence[str]]) -> None:
        """Add a table of text; without a head, one of facts."""
        lines = [
            '<tr>' + ''.join(f'<{cell}>{html.escape(text)}</{cell}>'
                             for text in row) + '</tr>'
            for cell, row in [('th', head), *(('td', row) for row in rows)]
            if row
        ]
        kind = 'numbers' if head else 'facts'
        self._parts.append(f'<div class="scrolls"><table class="{kind}">'
                           f'{"".join(lines)}</table></div>')

    def figure(self, name: str, found: Tuple[Figure, dict], alt: str) -> None:
        """Add a figure, and write it as PNG and its numbers as JSON."""
        figure, numbers = found
        content = png(figure)
        (self.folder / f'{name}.png').write_bytes(content)
        (self.folder / f'{name}.json').write_text(json.dumps(numbers))
        if self.visualizer is not None:
            pixels = np.array(Image.open(io.BytesIO(content)).convert('RGB'))
            self.visualizer.add_image(name, pixels)
        data = base64.b64encode(content).decode()
        self._parts.append(f'<figure><img alt="{html.escape(alt)}" '
                           f'src="data:image/png;base64,{data}"></figure>')

    def code(self, title: str, text: str) -> None:
        """Add text that is folded away."""
        self._parts.append(f'<details><summary>{html.escape(title)}</summary>'
                           f'<pre>{html.escape(text)}</pre></details>')

    def write(self) -> Path:
        """Write ``report.html``, which needs no other file."""
        path = self.folder / 'report.html'
        title = html.escape(self.title)
        path.write_text(
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width">'
            f'<title>{title}</title><style>{STYLE}</style></head><body>'
            f'<h1>{title}</h1>{"".join(self._parts)}</body></html>\n',
            encoding='utf-8')
        return path


def logged(work_dir: Path,
           prefix: str,
           until: Optional[int] = None,
           interval: Optional[int] = None) -> Dict[str, Tuple[list, list]]:
    """The scalars of a run whose names have a prefix.

    If a run was started several times in one work dir, a later attempt
    replaces what earlier ones logged from its first step on.

    Args:
        work_dir (Path): The work dir, with the logs of all attempts.
        prefix (str): Prefix of the names, such as ``sdd/part_scale``.
        until (int, optional): Last step to read. Defaults to None: all.
        interval (int, optional): Iterations between two validations of a run
            that counts iterations, whose validations MMEngine logs as step 0.
            Defaults to None: the logged steps are right.

    Returns:
        dict: Steps and values, by names without the prefix.
    """
    found: Dict[str, List[Tuple[int, float]]] = {}
    trained = 0
    for scalars in sorted(work_dir.glob('*/vis_data/scalars.json')):
        # a killed process may have written half a line
        rows = [
            json.loads(line)
            for line in scalars.read_text().splitlines(keepends=True)
            if line.endswith('\n')
        ]
        steps = [row.get('step', row.get('iter')) for row in rows]
        if interval is not None:
            steps = _iterations(steps, interval, trained)
            trained = max([trained, *steps])
        attempt: Dict[str, List[Tuple[int, float]]] = {}
        for row, step in zip(rows, steps):
            for name, value in row.items():
                if name.startswith(prefix):
                    attempt.setdefault(name[len(prefix):], []).append(
                        (step, value))
        for name, points in attempt.items():
            kept = found.setdefault(name, [])
            kept[:] = [point for point in kept if point[0] < points[0][0]]
            kept += points
    series = {}
    for name, points in found.items():
        points = [
            point for point in points if until is None or point[0] <= until
        ]
        if points:
            series[name] = tuple(map(list, zip(*points)))
    return series


def _iterations(steps: List[int], interval: int, before: int) -> List[int]:
    """The iterations of log lines; validations are logged as step 0.

    Validations take place every ``interval`` iterations. The line of a
    training iteration precedes that of the validation after it.

    Args:
        steps (list[int]): The logged steps.
        interval (int): Iterations between two validations.
        before (int): The last iteration of the attempts before.
    """
    found: List[int] = []
    while len(found) < len(steps):
        start = len(found)
        count = next(
            (number for number, step in enumerate(steps[start:]) if step),
            len(steps) - start)
        if start:  # validations right after the previous line
            first = -(-found[-1] // interval)
        elif count < len(steps):  # validations right before the next line
            first = (steps[count] - 1) // interval - count + 1
        else:
            first = max(1, -(-before // interval))
        found += [(first + number) * interval for number in range(count)]
        found += steps[start + count:start + count + 1]
    return found

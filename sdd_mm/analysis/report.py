# Copyright (c) sdd_mm contributors. All rights reserved.
"""One page that holds the figures of a run, with their numbers beside it."""
import base64
import html
import io
import json
from difflib import get_close_matches
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import numpy as np
from matplotlib.figure import Figure
from mmengine.registry import VISBACKENDS
from mmengine.visualization import Visualizer
from PIL import Image

from ..engine.errors import PreflightError
from .figures import png

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem
  auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
img { max-width: 100%; } figure { margin: 0; }
table { border-collapse: collapse; margin-bottom: 1.5rem; }
td, th { padding: .3rem .8rem; border-bottom: 1px solid #ddd; text-align:
  right; } td:first-child, th:first-child { text-align: left; }
pre { background: #f6f6f6; padding: 1rem; overflow-x: auto; font-size: 13px; }
.note { color: #555; }
"""


class Report:
    """Figures, tables and text, one after the other.

    Args:
        title (str): The title of the page.
        folder (Path): Where the page, every figure as PNG, and its numbers as
            JSON go.
        backends (list[str]): Types of MMEngine's visualizer backends that get
            the figures, too, such as ``TensorboardVisBackend``. Defaults to
            [].

    Raises:
        PreflightError: If there is no such backend, or the folder cannot be
            made.
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
                    f'--backends: there is no {kind!r}. There are '
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
        """A heading, and a sentence under it."""
        self._parts.append(f'<h2>{html.escape(text)}</h2>')
        if note:
            self._parts.append(f'<p class="note">{html.escape(note)}</p>')

    def table(self, head: List[str], rows: List[List[str]]) -> None:
        """A table of text."""
        lines = [
            '<tr>' + ''.join(f'<{cell}>{html.escape(text)}</{cell}>'
                             for text in row) + '</tr>'
            for cell, row in [('th', head), *(('td', row) for row in rows)]
        ]
        self._parts.append(f'<table>{"".join(lines)}</table>')

    def figure(self, name: str, found: Tuple[Figure, dict], alt: str) -> None:
        """A figure: on the page, as a PNG, and its numbers as JSON."""
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
        """Text that is shown when asked for."""
        self._parts.append(f'<details><summary>{html.escape(title)}</summary>'
                           f'<pre>{html.escape(text)}</pre></details>')

    def write(self) -> Path:
        """Write the page; it needs no other file."""
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
    """What a run logged under names with a prefix: steps and values.

    Of several attempts in one work dir, a later one replaces what the earlier
    ones logged from its first step on.

    Args:
        work_dir (Path): Its work dir, with the logs of all its attempts.
        prefix (str): Such as ``sdd/part_scale``; the names come without it.
        until (int, optional): The last step that is asked for. Defaults to
            None: all.
        interval (int, optional): How many iterations lie between validations,
            of a run that counts iterations: MMEngine logs those as step 0.
            Defaults to None: lines have the steps that they say.
    """
    found: Dict[str, List[Tuple[int, float]]] = {}
    trained = 0
    for scalars in sorted(work_dir.glob('*/vis_data/scalars.json')):
        # a killed process may leave half a line
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
    """The iterations of lines, where those of validations say 0.

    Validations come every ``interval`` iterations. The line of a training
    iteration stands before that of a validation after it.
    """
    found: List[int] = []
    while len(found) < len(steps):
        start = len(found)
        count = next(
            (number for number, step in enumerate(steps[start:]) if step),
            len(steps) - start)
        if start:  # the first ones since the line before
            first = -(-found[-1] // interval)
        elif count < len(steps):  # the last ones until the line after
            first = (steps[count] - 1) // interval - count + 1
        else:
            first = max(1, -(-before // interval))
        found += [(first + number) * interval for number in range(count)]
        found += steps[start + count:start + count + 1]
    return found

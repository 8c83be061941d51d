# Copyright (c) sdd_mm contributors. All rights reserved.
"""One page that holds the figures of a run, with their numbers beside it."""
import base64
import html
import io
import json
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import numpy as np
from matplotlib.figure import Figure
from mmengine.visualization import Visualizer

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
    """

    def __init__(self,
                 title: str,
                 folder: Path,
                 backends: Optional[List[str]] = None) -> None:
        self.title = title
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
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
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=130)
        (self.folder / f'{name}.png').write_bytes(buffer.getvalue())
        (self.folder / f'{name}.json').write_text(json.dumps(numbers))
        if self.visualizer is not None:
            figure.canvas.draw()
            pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
            self.visualizer.add_image(name, np.ascontiguousarray(pixels))
        data = base64.b64encode(buffer.getvalue()).decode()
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


def logged(work_dir: Path, prefix: str) -> Dict[str, Tuple[list, list]]:
    """What a run logged under names with a prefix: steps and values.

    Args:
        work_dir (Path): Its work dir, with the logs of all its attempts.
        prefix (str): Such as ``sdd/part_scale``; the names come without it.
    """
    found: Dict[str, Dict[int, float]] = {}
    for scalars in sorted(work_dir.glob('*/vis_data/scalars.json')):
        # a killed process may leave half a line
        for line in scalars.read_text().splitlines(keepends=True):
            row = json.loads(line) if line.endswith('\n') else {}
            for name, value in row.items():
                if name.startswith(prefix):
                    step = row.get('step', row.get('iter'))
                    found.setdefault(name[len(prefix):], {})[step] = value
    return {
        name: (sorted(values), [values[step] for step in sorted(values)])
        for name, values in found.items()
    }

# Copyright (c) sdd_mm contributors. All rights reserved.
"""Markdown tables, and the pages that hold them.

A table stands between ``<!-- table: KIND [SUBJECT] -->`` and
``<!-- end of table -->``. Nothing else on a page is changed.
"""
import re
import statistics
from pathlib import Path
from typing import Callable, Dict, Iterable, List

START, END = '<!-- table: ', '<!-- end of table -->'
MARKED = re.compile(rf'({START}(\w+) ?(.*?) -->\n)(?:(?!{START}).)*?({END})',
                    re.DOTALL)


class PageError(ValueError):
    """A page or a result that no table can be made of."""


def table(rows: List[List[str]], optional: Iterable[str] = ()) -> List[str]:
    """Lines of a table; ``optional`` columns need an entry to be shown."""
    kept = [
        number for number, name in enumerate(rows[0])
        if name not in optional or any(row[number] for row in rows[1:])
    ]
    head, *body = [
        f'| {" | ".join(row[number] for number in kept)} |' for row in rows
    ]
    return [head, '|---' * len(kept) + '|', *body]


def spread(values: List[float], sign: str = '+-') -> str:
    """Mean and standard deviation; '' of no values."""
    if not values:
        return ''
    mean = f'{statistics.mean(values):.2f}'
    if len(values) == 1:
        return mean
    return f'{mean} {sign} {statistics.stdev(values):.2f}'


def fill(page: Path, writers: Dict[str, Callable]) -> str:
    """The text of a page with each of its tables written anew.

    Args:
        page (Path): The page.
        writers (dict[str, Callable]): By KIND, a function from the page and
            SUBJECT to the lines between the marks.

    Raises:
        PageError: If marks do not match or there is no such KIND.
    """

    def write(match: re.Match) -> str:
        start, kind, subject, end = match.groups()
        if kind not in writers:
            raise PageError(f'{page}: there is no table {kind!r}, only '
                            f'{", ".join(writers)}')
        return start + '\n'.join([*writers[kind](page, subject), end])

    text = page.read_text(encoding='utf-8')
    starts, ends = text.count(START), text.count(END)
    if not len(MARKED.findall(text)) == starts == ends:
        raise PageError(f'{page}: {starts} tables begin and {ends} end, not '
                        'one after the other')
    return MARKED.sub(write, text)

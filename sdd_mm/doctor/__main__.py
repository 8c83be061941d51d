# Copyright (c) sdd_mm contributors. All rights reserved.
"""The command line of the doctor."""
import argparse
import contextlib
import io
import logging
import sys
import textwrap
import warnings
from typing import Iterator, Optional

from . import BAD, ENOUGH, Finding


def parse_args(arguments: Optional[list] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='python -m sdd_mm.doctor',
        description='Look at what a config would train or, without one, at '
        'the installation. Nothing is written')
    parser.add_argument('config', nargs='?', help='config of a run')
    parser.add_argument(
        '--installation',
        action='store_true',
        help='with a config: look at the installation, too')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        metavar='KEY=VALUE',
        type=_setting,
        default=[],
        help='settings to override, as key=value')
    parser.add_argument(
        '--batches',
        type=int,
        help='validation batches that the teacher classifies, from all over '
        f'the set. By default ten, or as many as have {ENOUGH} images')
    parser.add_argument(
        '--steps', type=int, default=3, help='training steps to time')
    return parser.parse_args(arguments)


def _setting(text: str) -> str:
    if '=' not in text:
        raise argparse.ArgumentTypeError(f'{text!r} is not KEY=VALUE')
    return text


def main(arguments: Optional[list] = None) -> int:
    """Report on a config and, if asked or broken, on the installation.

    Args:
        arguments (list[str], optional): The command line. Defaults to None,
            that of the process.

    Returns:
        int: The exit code, 1 if there is an error.
    """
    args = parse_args(arguments)
    from .. import plugin  # noqa: F401  (first: it repairs the stack)
    from .. import safety
    from .installation import installation
    safety.guard()
    found, code = installation(), 0
    if args.config is not None and not args.installation:
        found = [one for one in found if one.mark == BAD]
    for finding in found:
        code = max(code, _show(finding))
    if args.config is not None:
        if found:
            print()
        code = max(code, *map(_show, _quietly(_findings(args))))
    return code


def _findings(args: argparse.Namespace) -> Iterator[Finding]:
    from mmengine.config import DictAction

    from ..config_file import load_config
    from ..engine.config_keys import check_options
    from .trial import set_up
    try:
        cfg = load_config(args.config)
        parsed = argparse.Namespace(options={})
        DictAction([], 'options')(None, parsed, args.cfg_options)
        check_options(cfg, parsed.options)
    except Exception as error:  # a config file may do anything
        yield Finding(BAD, 'config', f'{type(error).__name__}: {error}')
        return
    cfg.merge_from_dict(parsed.options)
    yield from set_up(cfg, args.batches, args.steps)


def _quietly(found: Iterator[Finding]) -> Iterator[Finding]:
    """Findings without what the stack prints on the way."""
    logging.disable(logging.WARNING)
    try:
        while True:
            with contextlib.redirect_stdout(
                    io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter('ignore')
                try:
                    finding = next(found)
                except StopIteration:
                    return
            yield finding
    finally:
        logging.disable(logging.NOTSET)


def _show(finding: Finding) -> int:
    """Print a finding, wrapped to the screen.

    Returns:
        int: 1 if it is an error, 0 if not.
    """
    first = True
    for line in finding.text.splitlines():
        for part in textwrap.wrap(line.strip(), 88) or ['']:
            head = (f'{finding.mark:7}  {finding.title:20} '
                    if first else ' ' * 30)
            print(f'{head}{part}', flush=True)
            first = False
    return int(finding.mark == BAD)


if __name__ == '__main__':
    sys.exit(main())

# Copyright (c) sdd_mm contributors. All rights reserved.
"""What the converters' command lines share."""
import argparse
import sys
from pathlib import Path
from typing import List

MODELS = Path(__file__).resolve().parents[2] / 'configs/_base_/models'


def run(origin: str, names: List[str], suffix: str = '') -> None:
    """Parse the command line and convert.

    Args:
        origin (str): Where the checkpoints come from.
        names (list[str]): The networks.
        suffix (str): What a network's name lacks of that of its config.
            Defaults to ''.
    """
    parser = argparse.ArgumentParser(
        description=f'Convert a checkpoint of {origin} to MMPretrain')
    parser.add_argument(
        'model',
        choices=names,
        metavar='MODEL',
        help=f'the network, one of {", ".join(names)}')
    parser.add_argument('source', help='the checkpoint')
    parser.add_argument('target', help='where to write')
    for name in ('mean', 'std'):
        parser.add_argument(
            f'--{name}',
            nargs=3,
            type=float,
            metavar=('R', 'G', 'B'),
            help=f'{name} of the images (0 to 255) that the network was '
            'trained on, if not those of the original code')
    args = parser.parse_args()
    from sdd_mm import safety
    from sdd_mm.converters import ConversionError, convert_file
    safety.guard()
    try:
        convert_file(args.source, args.target,
                     str(MODELS / f'{args.model}{suffix}.py'), args.mean,
                     args.std)
    except ConversionError as error:
        sys.exit(f'ERROR - {error}')
    print(f'{args.target} is a {args.model} of MMPretrain')

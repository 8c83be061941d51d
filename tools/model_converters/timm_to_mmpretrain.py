# Copyright (c) sdd_mm contributors. All rights reserved.
"""Convert a checkpoint of timm for a teacher `timm::MODEL`.

    python tools/model_converters/timm_to_mmpretrain.py \
        resnet50.a1_in1k model.safetensors resnet50.pth
"""
import argparse
import sys

if __name__ == '__main__':
    parser = argparse.ArgumentParser(
        description='Convert a checkpoint of timm to MMPretrain')
    parser.add_argument(
        'model',
        metavar='MODEL',
        help='name in timm, with the tag of the weights if they have one: it '
        'selects their normalization')
    parser.add_argument(
        'source',
        help='the checkpoint: .safetensors, or a state dict of '
        'torch')
    parser.add_argument('target', help='where to write')
    for name in ('mean', 'std'):
        parser.add_argument(
            f'--{name}',
            type=float,
            nargs='+',
            metavar='VALUE',
            help=f'{name} of its training, from 0 to 255, if you trained it '
            "with another than timm's")
    args = parser.parse_args()
    from sdd_mm import safety
    from sdd_mm.converters import ConversionError
    from sdd_mm.converters.timm_classifier import convert_timm_file
    safety.guard()
    try:
        convert_timm_file(args.model, args.source, args.target, args.mean,
                          args.std)
    except ConversionError as error:
        sys.exit(f'ERROR - {error}')
    print(f'{args.target} is a checkpoint of the teacher timm::{args.model}')

# Copyright (c) sdd_mm contributors. All rights reserved.
"""Convert an image classifier of Hugging Face to a checkpoint.

    python tools/model_converters/hugging_face_to_mmpretrain.py \
        FOLDER teacher.pth
"""
import argparse
import sys

if __name__ == '__main__':
    parser = argparse.ArgumentParser(
        description='Convert an image classifier of Hugging Face to a '
        'checkpoint of a ModuleClassifier')
    parser.add_argument(
        'folder',
        help='what save_pretrained wrote: config.json, '
        'preprocessor_config.json, and model.safetensors or '
        'pytorch_model.bin')
    parser.add_argument('target', help='where to write')
    args = parser.parse_args()
    from sdd_mm import safety
    from sdd_mm.converters import ConversionError
    from sdd_mm.converters.hugging_face import convert_hugging_face_folder
    safety.guard()
    try:
        convert_hugging_face_folder(args.folder, args.target)
    except ConversionError as error:
        sys.exit(f'ERROR - {error}')
    print(f'{args.target} is a checkpoint of the teacher hf::{args.folder}')

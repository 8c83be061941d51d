# Copyright (c) sdd_mm contributors. All rights reserved.
"""Export the student of a distillation.

    python tools/model_converters/export_student.py \\
        work_dirs/demo/sd-kd/epoch_12.pth student.pth --onnx

Writes student.pth for MMPretrain and its config student.py, optionally also
student.onnx and student.torchscript, and infer.py, which classifies pictures
by an ONNX file without this package.
"""
import argparse
import sys


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Write the student of a distillation for MMPretrain')
    parser.add_argument('checkpoint', help='a checkpoint of the run')
    parser.add_argument('target', help='where to write, .pth')
    parser.add_argument(
        '--config', help='config of the run, if not the one in the checkpoint')
    parser.add_argument(
        '--ema',
        action=argparse.BooleanOptionalAction,
        help='export the averaged weights, or with --no-ema those that were '
        'averaged (default: the averaged ones, if there are any)')
    parser.add_argument(
        '--publish',
        action='store_true',
        help='put the first 8 digits of the SHA-256 into the name')
    parser.add_argument(
        '--force', action='store_true', help='replace existing files')
    parser.add_argument(
        '--onnx',
        action='store_true',
        help='also write .onnx, whose logits are compared in onnxruntime')
    parser.add_argument(
        '--torchscript', action='store_true', help='also write .torchscript')
    parser.add_argument(
        '--int8',
        action='store_true',
        help='also write .onnx and .int8.onnx, in eight bits: calibrated on '
        'training images, both measured on validation images')
    parser.add_argument(
        '--image-size',
        type=int,
        nargs=2,
        metavar=('HEIGHT', 'WIDTH'),
        help='of the images that these two take (default: of the test images)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from sdd_mm import safety
    from sdd_mm.converters import ConversionError, export_student
    from sdd_mm.converters.graph import WRITERS
    from mmengine.config import Config  # isort: skip  (after the repairs)
    safety.guard()
    try:
        path, _ = export_student(
            args.checkpoint,
            args.target,
            args.config,
            args.ema,
            args.publish,
            args.force,
            graphs=[kind for kind in WRITERS if getattr(args, kind)],
            image_size=args.image_size,
            int8=args.int8)
        print(f'{path}: the student, {path.stat().st_size / 2**20:.2f} MiB\n'
              f'{path.with_suffix(".py")}: its config')
        cfg = Config.fromfile(path.with_suffix('.py'))
        imports = list(cfg.get('custom_imports', {}).get('imports', ()))
        module = cfg.model.get('module') or {}
        if '.' in str(module.get('type', '')):
            imports.append(module.type.rpartition('.')[0])
        if imports:
            print(f'{path.with_suffix(".py")} needs {", ".join(imports)}')
    except ConversionError as error:
        sys.exit(f'ERROR: {error}')


if __name__ == '__main__':
    main()

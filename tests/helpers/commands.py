# Copyright (c) sdd_mm contributors. All rights reserved.
"""Commands in processes of their own, without seconds of imports for each.

A server imports the stack once. Every command is a fork of it, with its own
arguments, folder and output, as if Python had just started.

    python tests/helpers/commands.py    # the server: a request per line
"""
import json
import os
import random
import runpy
import subprocess
import sys
import tempfile
import traceback
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(script, *args, cwd=ROOT) -> subprocess.CompletedProcess:
    """Run a script of this checkout, with its output as text."""
    with tempfile.NamedTemporaryFile('r', errors='replace') as out:
        request = dict(
            args=[str(script), *map(str, args)], cwd=str(cwd), out=out.name)
        server = _server()
        server.stdin.write(f'{json.dumps(request)}\n')
        server.stdin.flush()
        code = int(server.stdout.readline())
        return subprocess.CompletedProcess(request['args'], code, out.read())


@lru_cache(maxsize=None)
def _server() -> subprocess.Popen:
    paths = [str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])]
    return subprocess.Popen(
        [sys.executable, __file__],
        env=dict(
            os.environ,
            PYTHONPATH=os.pathsep.join(paths),
            # a fork cannot use a GPU
            CUDA_VISIBLE_DEVICES=''),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True)


def _serve() -> None:
    import sdd_mm  # noqa: F401  isort: skip
    import mmpretrain.apis  # noqa: F401
    import numpy
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child:
            status = os.waitpid(child, 0)[1]
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        random.seed()
        numpy.random.seed()
        os._exit(_execute(**request))


def _execute(args: list, cwd: str, out: str) -> int:
    file = os.open(out, os.O_WRONLY)
    for stream in (0, 1, 2):
        os.dup2(file if stream else os.open(os.devnull, os.O_RDONLY), stream)
    os.chdir(cwd)
    sys.argv = args
    sys.path[0] = str(Path(args[0]).parent)
    code = 0
    try:
        runpy.run_path(args[0], run_name='__main__')
    except SystemExit as end:
        code = end.code
        if not isinstance(code, (int, type(None))):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code or 0


if __name__ == '__main__':
    _serve()

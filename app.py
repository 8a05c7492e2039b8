"""A page in the browser: drive a face live with a camera, make videos, add people.

python app.py                                  # http://127.0.0.1:7860, only for this machine
python app.py --logdir result.work/runs        # also with decoders that were trained there
"""

from __future__ import annotations
from utils.ending import call_main

import argparse
import tempfile
from pathlib import Path

import uvicorn

from config import load_config
from people.targets import find_targets
from utils import cli
from utils.context import set_context
from utils.errors import ConfigError, ResourceError, WeightsError
from web.jpeg import MAX_IMAGE_BYTES
from web.learning import FOLDER
from web.server import build_application
from web.videos import Limits

LOCAL_HOST = "127.0.0.1"
MAX_MESSAGE_BYTES = 2 * MAX_IMAGE_BYTES
MAX_CONNECTIONS = 256


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=cli.whole(1, 65535), default=7860)
    help_logdir = "log folder with decoder runs, can be repeated (default: logdir of the configuration)"
    parser.add_argument("--logdir", type=cli.path, action="append", metavar="DIR", help=help_logdir)
    help_size = "maximum size of an upload in MB (default 200)"
    parser.add_argument("--max-mb", type=cli.whole(1, 4096), default=200, metavar="N", help=help_size)
    help_length = "maximum length of a video in seconds (default 120)"
    parser.add_argument("--max-seconds", type=cli.whole(1, 3600), default=120, metavar="N", help=help_length)
    cli.add_device_arguments(parser)
    args = parser.parse_args()
    for folder in args.logdir or ():
        if not folder.is_dir():
            raise ConfigError(f"--logdir {folder}: no such folder")
    return args


def main() -> None:
    args = parse_args()
    context = set_context(args.context or "auto", args.device_id or 0, must_have=args.context is not None)
    print(context.message)
    logdirs = args.logdir or [Path(load_config("decoder").logdir)]
    targets = find_targets(logdirs)
    if not targets:
        raise WeightsError("no decoder was found; restore the demo's weights with: git checkout demo/weights")
    with tempfile.TemporaryDirectory(prefix="reenactgan-") as folder:
        limits = Limits(args.max_mb, args.max_seconds)
        learned = logdirs[0] / FOLDER
        application = build_application(targets, context.name, Path(folder), learned, limits)
        print(f"page: http://{LOCAL_HOST}:{args.port} (press Ctrl-C to stop)", flush=True)
        settings = {"host": LOCAL_HOST, "port": args.port, "log_level": "warning", "server_header": False}
        settings |= {"ws_max_size": MAX_MESSAGE_BYTES, "ws_max_queue": 4, "limit_concurrency": MAX_CONNECTIONS}
        settings |= {"ws_per_message_deflate": False}  # JPEG images are compressed
        server = uvicorn.Server(uvicorn.Config(application, **settings))
        try:
            server.run()
        except SystemExit:  # raised by uvicorn if it cannot listen
            raise ResourceError(f"port {args.port}: cannot listen there; choose another --port") from None


if __name__ == "__main__":
    call_main(main)

"""A page in the browser: drive a face live with your camera, make videos, look at who can be shown.

python app.py                                  # http://127.0.0.1:7860, for this machine alone
python app.py --logdir result.work/runs        # also the people whose decoders were trained there
python app.py --host 0.0.0.0 --password FILE   # also for others who know the password in the file
"""

from __future__ import annotations

import utils.startup  # first: it reports what cannot be imported

import argparse
import os
from pathlib import Path

import uvicorn

from config import load_config
from inference.targets import find_targets
from utils import cli
from utils.context import set_context
from utils.ending import call_main
from utils.errors import ConfigError, ResourceError, WeightsError
from utils.files import temporary_folder
from web.jpeg import MAX_PICTURE_BYTES
from web.learning import FOLDER
from web.server import build_application
from web.videos import Limits

LOCAL_HOST = "127.0.0.1"
MIN_PASSWORD, MAX_PASSWORD = 8, 1000
PASSWORD_VARIABLE = "REENACTGAN_PASSWORD"
MAX_MESSAGE_BYTES = 2 * MAX_PICTURE_BYTES
MAX_CONNECTIONS = 256


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    help_host = f"address to listen on (default {LOCAL_HOST}: this machine alone); others need --password"
    parser.add_argument("--host", type=cli.text, default=LOCAL_HOST, help=help_host)
    parser.add_argument("--port", type=cli.whole(1, 65535), default=7860)
    help_password = f"a file with what visitors must know, {MIN_PASSWORD} letters at least (or {PASSWORD_VARIABLE})"
    parser.add_argument("--password", type=cli.path, metavar="FILE", help=help_password)
    help_logdir = "a log folder with decoder runs; may be given several times (default: the configuration's)"
    parser.add_argument("--logdir", type=cli.path, action="append", metavar="DIR", help=help_logdir)
    help_size = "largest upload in MB (default 200)"
    parser.add_argument("--max-mb", type=cli.whole(1, 4096), default=200, metavar="N", help=help_size)
    help_length = "longest video in seconds (default 120)"
    parser.add_argument("--max-seconds", type=cli.whole(1, 3600), default=120, metavar="N", help=help_length)
    cli.add_device_arguments(parser)
    args = parser.parse_args()
    args.password = read_password(args.password)
    if args.host != LOCAL_HOST and args.password is None:
        parser.error(f"--host {args.host}: others could use this machine; give a --password, too")
    for folder in args.logdir or ():
        if not folder.is_dir():
            raise ConfigError(f"--logdir {folder}: no such folder")
    return args


def read_password(path: Path | None) -> str | None:
    """Read what visitors must know: a file's first line, or the environment's; never the command line, which all see.

    Raises:
        ConfigError: the file cannot be read, or the password is too short.
    """
    words, where = os.environ.pop(PASSWORD_VARIABLE, None), PASSWORD_VARIABLE
    if path is not None:
        where = "--password"
        try:
            if not path.is_file():
                raise ConfigError(
                    "--password: no such file; write the password to a file that you alone can read, and name that "
                    f"(on the command line everybody on this machine could read it), or set {PASSWORD_VARIABLE}"
                )
            words = path.read_text(encoding="utf-8")[:MAX_PASSWORD].partition("\n")[0].rstrip("\r")
            if path.stat().st_mode & 0o044:
                print(f"note: {path}: others on this machine can read it; 'chmod 600' keeps it to you")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--password: {path} cannot be read ({error})") from None
    if words is not None and len(words) < MIN_PASSWORD:
        raise ConfigError(f"{where}: at least {MIN_PASSWORD} letters")
    return words


def main() -> None:
    args = parse_args()
    context = set_context(args.context or "auto", args.device_id or 0, must_have=args.context is not None)
    print(context.message)
    logdirs = args.logdir or [Path(load_config("decoder").logdir)]
    targets = find_targets(logdirs)
    if not targets:
        raise WeightsError("there is nobody to be shown; the demo's weights come back with: git checkout demo/weights")
    with temporary_folder() as folder:
        limits = Limits(args.max_mb, args.max_seconds)
        learned = logdirs[0] / FOLDER
        application = build_application(targets, context.name, folder, learned, limits, args.password)
        print(f"page: http://{args.host}:{args.port} (Ctrl-C ends it)", flush=True)
        settings = {"host": args.host, "port": args.port, "log_level": "warning", "server_header": False}
        settings |= {"ws_max_size": MAX_MESSAGE_BYTES, "ws_max_queue": 4, "limit_concurrency": MAX_CONNECTIONS}
        settings |= {"ws_per_message_deflate": False}  # JPEG is compressed already
        server = uvicorn.Server(uvicorn.Config(application, **settings))
        try:
            server.run()
        except SystemExit:  # what uvicorn makes of an address that it cannot have, after it said why
            raise ResourceError(f"{args.host}:{args.port}: cannot be listened on; choose another --port") from None


if __name__ == "__main__":
    call_main(main)

"""A page in the browser: drive a face live with a camera, make videos, add people.

python app.py                                  # prints its address, which only works on this machine
python app.py --logdir result.work/runs        # also with decoders that were trained there
"""

from __future__ import annotations
from utils.ending import call_main

import argparse
import os
import secrets
import stat
import tempfile
import threading
import time
import webbrowser
from contextlib import suppress
from pathlib import Path

import uvicorn

from config import load_config
from people.targets import find_targets
from utils import cli
from utils.context import set_context
from utils.errors import ConfigError, ResourceError, WeightsError
from utils.files import read_text
from web.server import build_application
from web.videos import Limits

LOCAL_HOST = "127.0.0.1"
MAX_MESSAGE_BYTES = 1 << 20
MAX_CONNECTIONS = 256
POLL_S = 0.05
DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME")
TOKEN_FILE, TOKEN_BYTES = ".page-token", 24


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=cli.whole(1, 65535), default=7860)
    parser.add_argument("--open", action="store_true", help="open the page in the browser, if there is a display")
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


def read_token(path: Path) -> str:
    """Return the token of an earlier server, with which open pages connect again, or a new one.

    The file can only be read by its owner.
    """
    with suppress(OSError, ValueError):
        about = path.lstat()
        if stat.S_ISREG(about.st_mode) and about.st_uid == os.getuid() and not about.st_mode & 0o077:
            token = read_text(path).strip()
            if len(token) == len(secrets.token_urlsafe(TOKEN_BYTES)):
                return token
    token = secrets.token_urlsafe(TOKEN_BYTES)
    with suppress(OSError):  # without the file, pages must be opened again
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(token)
    return token


def show(server: uvicorn.Server, address: str) -> None:
    """Open an address in the user's browser as soon as the server listens."""
    while not server.started:
        time.sleep(POLL_S)
    webbrowser.open(address)


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
        token, once = read_token(logdirs[0] / TOKEN_FILE), secrets.token_urlsafe(TOKEN_BYTES)
        guard = {"port": args.port, "token": token, "once": once}
        application = build_application(targets, context.name, Path(folder), logdirs[0], limits, **guard)
        address = f"http://{LOCAL_HOST}:{args.port}/?token="
        print(f"page: {address}{token} (press Ctrl-C to stop)", flush=True)
        settings = {"host": LOCAL_HOST, "port": args.port, "log_level": "warning", "server_header": False}
        settings |= {"ws_max_size": MAX_MESSAGE_BYTES, "ws_max_queue": 4, "limit_concurrency": MAX_CONNECTIONS}
        settings |= {"ws_per_message_deflate": False}  # JPEG images are compressed
        server = uvicorn.Server(uvicorn.Config(application, **settings))
        if args.open and any(map(os.environ.get, DISPLAYS)):  # otherwise a text browser would take the terminal
            threading.Thread(target=show, args=(server, address + once), daemon=True).start()
        try:
            server.run()
        except SystemExit:  # raised by uvicorn if it cannot listen
            raise ResourceError(f"port {args.port}: cannot listen there; choose another --port") from None


if __name__ == "__main__":
    call_main(main)

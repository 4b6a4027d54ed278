"""The code of docs/migrate.md, as it stands there."""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import requests

GUIDE = pathlib.Path(__file__).parents[2] / "docs" / "migrate.md"
UNPACKED = tempfile.TemporaryDirectory(prefix="rescind-guide-")  # gone with this process


def unpack():
    """Every block that names a file becomes that file, and can be imported."""
    place = pathlib.Path(UNPACKED.name)
    for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.S):
        name = re.match(r"# file: (\S+)\n", block)
        (place / name[1]).write_text(block)
    sys.path[:0] = [str(place), str(GUIDE.parents[1] / "examples" / "django")]


class Sidecar:
    """`rescind verifier` for audience api, ready."""

    def __init__(self, issuer):
        command = [os.environ["RESCIND_PROGRAM"], "verifier", "--json", "--issuer", issuer, "--audience", "api"]
        self.process = subprocess.Popen([*command, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
        self.url = json.loads(self.process.stdout.readline())["listen"]

    def ready(self, token):
        for _ in range(200):
            if requests.get(self.url, headers={"Authorization": f"Bearer {token}"}, timeout=5).status_code == 200:
                return
            time.sleep(0.05)
        sys.exit("FAILED: the sidecar is ready")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

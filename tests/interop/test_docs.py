"""The commands of docs/other-languages.md do what the page says, as it says."""

import os
import re
import subprocess
import unittest
from pathlib import Path

import nodes

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "other-languages.md"


class Docs(unittest.TestCase):
    def test_every_command_prints_what_stands_there(self):
        page = PAGE.read_text(encoding="utf-8")
        commands = re.findall(r"^```sh interop\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
        printed = re.findall(r"^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
        self.assertEqual((len(commands), len(printed)), (2, 1))
        cluster = nodes.Nodes(1)
        try:
            environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
            environment.update(DLOG_SERVER=cluster.servers, PYTHONIOENCODING="utf-8")
            script = "set -euo pipefail\n" + "".join(commands)
            ran = subprocess.run(["bash", "-c", script], cwd=ROOT, env=environment, capture_output=True, timeout=300, check=False)
        finally:
            cluster.stop()
        self.assertEqual(ran.returncode, 0, ran.stderr.decode(errors="replace"))
        self.assertEqual(ran.stdout.decode(), printed[0])


if __name__ == "__main__":
    unittest.main()

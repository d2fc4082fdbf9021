"""A cluster of real `dlog serve` processes on free ports of loopback, for as long as a test class runs."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

# The binary under test.
DLOG = os.environ["DLOG_BIN"]
# How long a cluster may take to be ready, in seconds: machines that run tests are slow.
READY_WITHIN = 120


def free_ports(count):
    """Ports that nobody has now. All are held until the last is found, so that none is given twice."""
    holders = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [holder.getsockname()[1] for holder in holders]
    for holder in holders:
        holder.close()
    return ports


class Nodes:
    """Starts `count` nodes that form a cluster. `addresses` is where they answer clients, by name."""

    def __init__(self, count):
        self.folder = Path(tempfile.mkdtemp(prefix="dlog-interop."))
        ports = free_ports(3 * count)
        names = [f"n{number + 1}" for number in range(count)]
        triples = {name: [f"127.0.0.1:{port}" for port in ports[3 * i : 3 * i + 3]] for i, name in enumerate(names)}
        self.addresses = {name: triple[0] for name, triple in triples.items()}
        members = ",".join(f"{name}={triple[1]}" for name, triple in triples.items())
        self.processes = {}
        # What the shell that runs the tests has set for its own nodes is not for these.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DLOG_")}
        for name, (clients, peers, ops) in triples.items():
            command = [DLOG, "serve", "--name", name, "--data-dir", self.folder / name, "--initial-cluster", members]
            command += ["--listen", clients, "--peer-listen", peers, "--ops-listen", ops]
            log = open(self.log(name), "wb")
            self.processes[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, stdout=log, env=environment)
            log.close()
        try:
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def log(self, name):
        return self.folder / f"{name}.log"

    def wait_until_ready(self):
        deadline = time.monotonic() + READY_WITHIN
        waiting = set(self.processes)
        while waiting:
            waiting -= {name for name in waiting if "ready" in self.log(name).read_text(errors="replace").splitlines()}
            ended = [name for name, process in self.processes.items() if process.poll() is not None]
            if ended or (waiting and time.monotonic() > deadline):
                logs = "\n".join(f"{name}: {self.log(name).read_text(errors='replace')}" for name in sorted(waiting))
                raise RuntimeError(f"not ready: {sorted(waiting)}, ended: {ended}\n{logs}")
            time.sleep(0.05)

    @property
    def servers(self):
        return ",".join(self.addresses.values())

    def stop(self):
        """Asks each node to stop, and says with which exit codes they did."""
        for process in self.processes.values():
            process.terminate()
        codes = {}
        for name, process in self.processes.items():
            try:
                codes[name] = process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                codes[name] = process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        return codes


def dlog(servers, *arguments, stdin=b""):
    """Runs a verb of the command line against these servers; what it printed on standard output."""
    command = [DLOG, *arguments, "--server", servers]
    ran = subprocess.run(command, input=stdin, capture_output=True, timeout=120, check=False)
    if ran.returncode != 0:
        raise AssertionError(f"{command} ended with {ran.returncode}: {ran.stderr.decode(errors='replace')}")
    return ran.stdout

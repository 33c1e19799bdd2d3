"""What the scripts of this folder start: children that are measured, and real servers. All are ended by pid."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
# How snapfold opens the stores that tests/servers/server starts.
STORES_ENV = {
    "AWS_ACCESS_KEY_ID": "snapfold",
    "AWS_SECRET_ACCESS_KEY": "secretsecret",
    "PEERS_CASSANDRA_PASSWORD": "cassandra",
}
# What a program says that has no such stores yet.
ABSENT = ("is not available in this version", "unrecognized subcommand 'migrate'")


class Failed(Exception):
    """Why there is no result; shown without a trace."""


class Skipped(Exception):
    """Why a contestant does not take part."""


class Process:
    """A child that is measured: seconds, processor seconds, peak MiB, all as the kernel has them at its end."""

    alive = set()

    def __init__(self, argv, log, env=None, out=None, servers=None):
        """With `servers`, their processor time while the child ran is measured as well."""
        self.log, self.servers = log, servers
        self.of_servers = -servers.cpu() if servers else 0.0
        self.begun, self.begun_at = time.monotonic(), time.time()
        with open(log, "ab") as sink:
            self.child = subprocess.Popen(
                [str(word) for word in argv],
                stdin=subprocess.DEVNULL,
                stdout=out or sink,
                stderr=sink,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        Process.alive.add(self)

    def has_ended(self):
        if self.child.returncode is None:
            pid, status, usage = os.wait4(self.child.pid, os.WNOHANG)
            if pid:
                self.seconds = time.monotonic() - self.begun
                self.cpu = usage.ru_utime + usage.ru_stime
                self.peak = usage.ru_maxrss / 1024
                self.child.returncode = os.waitstatus_to_exitcode(status)
                self.of_servers += self.servers.cpu() if self.servers else 0.0
                Process.alive.discard(self)
        return self.child.returncode is not None

    def end(self, name=signal.SIGTERM):
        if not self.has_ended():
            os.kill(self.child.pid, name)

    def wait(self, limit, doing):
        while not self.has_ended():
            if time.monotonic() - self.begun > limit:
                self.end(signal.SIGKILL)
                raise Failed(f"{doing} took longer than {limit:.0f} s; its log is {self.log}")
            time.sleep(0.02)
        if self.child.returncode != 0:
            text = Path(self.log).read_text(errors="replace").strip()
            for line in text.splitlines():
                if any(words in line for words in ABSENT):
                    raise Skipped(line)
            tail = "\n  ".join(text.splitlines()[-15:])
            raise Failed(f"{doing} ended with {self.child.returncode}:\n  {tail}")


class Servers:
    """Real servers of this checkout. Those that ran before go on, without their data being touched."""

    def __init__(self):
        self.address, self.ours = {}, []

    def start(self, name):
        if name not in self.address:
            if not self.pid(name):
                self.ours.append(name)
            done = subprocess.run([ROOT / "tests/servers/server", "start", name], capture_output=True, text=True)
            if done.returncode != 0:
                raise Failed(f"start {name}: {done.stderr.strip()}")
            self.address[name] = done.stdout.split()[0]
        return self.address[name]

    def pid(self, name):
        try:
            pid = int((ROOT / "target/servers" / name / "pid").read_text())
            os.kill(pid, 0)
            return pid
        except (OSError, ValueError):
            return None

    def cpu(self):
        """Processor seconds of those that run."""
        ticks = 0
        for pid in filter(None, map(self.pid, self.address)):
            stat = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(stat[11]) + int(stat[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def stop(self, *names):
        for name in names or list(self.ours):
            self.address.pop(name, None)
            if name in self.ours:
                self.ours.remove(name)
                subprocess.run([ROOT / "tests/servers/server", "stop", name], check=False)


def free_ports(count):
    held = [socket.socket() for _ in range(count)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports

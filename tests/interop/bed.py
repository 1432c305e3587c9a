"""The real binary in a directory of its own, and the account of the checks that are made against it."""

import asyncio
import contextlib
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback


class Tls:
    """A certificate for `localhost` and its authority, made on the spot."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        run = lambda *words: subprocess.run(
            ["openssl", *words], cwd=directory, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        run("req", "-x509", *key, "-days", "30", "-subj", "/CN=interop", "-keyout", "ca.key", "-out", "ca.crt")
        run("req", *key, "-subj", "/CN=localhost", "-keyout", "tls.key", "-out", "tls.csr")
        (self.directory / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
        sign = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names"]
        run("x509", "-req", "-in", "tls.csr", *sign, "-days", "30", "-out", "tls.crt")
        run("pkcs8", "-topk8", "-nocrypt", "-in", "tls.key", "-out", "tls.p8")

    def path(self, name):
        return str(self.directory / name)

    def read(self, name):
        return (self.directory / name).read_bytes()


class Weir:
    """A running Weir: a clear port and one with TLS, before one endpoint."""

    def __init__(self, tls, endpoint, protocol="http1", endpoint_tls=False, service="", top=""):
        self.directory = tempfile.mkdtemp(prefix="weir-interop-")
        secure = f"tls: {{ ca: {tls.path('ca.crt')}, sni: localhost }}" if endpoint_tls else ""
        lane = {"general": "false", "express": "true"}[os.environ.get("WEIR_TEST_LANE", "express")]
        config = f"""version: 1
listeners:
  - {{ name: clear, address: "127.0.0.1:0" }}
  - {{ name: tls, address: "127.0.0.1:0", tls: {{ cert: {tls.path('tls.crt')}, key: {tls.path('tls.p8')} }} }}
telemetry: {{ address: "127.0.0.1:0" }}
admin: {{ address: "unix:{self.directory}/admin.sock" }}
state: {{ directory: "{self.directory}/state" }}
shutdown: {{ deadline: 5s }}
runtime: {{ threads: 2, express_lane: {lane} }}
{top}
services:
  shop:
    versions: {{ v1: {{ endpoints: ["{endpoint}"] }} }}
    protocol: {protocol}
    {secure}
    {service}
    split: {{ v1: 100 }}
routes:
  - match: {{ path: / }}
    service: shop
"""
        path = pathlib.Path(self.directory) / "weir.yaml"
        path.write_text(config)
        self.log = open(f"{self.directory}/log", "wb")
        self.process = subprocess.Popen([os.environ["WEIR"], "run", "-c", str(path)], stdout=self.log, stderr=self.log)
        status = self._ready()
        ports = {found["name"]: found["address"].rsplit(":", 1)[1] for found in status["listeners"]}
        self.clear, self.tls = int(ports["clear"]), int(ports["tls"])
        self.telemetry = int(status["telemetry"].rsplit(":", 1)[1])

    def _ready(self):
        end = time.monotonic() + 20
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(pathlib.Path(f"{self.directory}/log").read_text())
            with contextlib.suppress(OSError):
                status = self._status()
                if status["state"] == "ready":
                    return status
            if time.monotonic() > end:
                raise RuntimeError("weir is not ready")
            time.sleep(0.02)

    def _status(self):
        connection = http.client.HTTPConnection("localhost", timeout=5)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(f"{self.directory}/admin.sock")
        with contextlib.closing(connection):
            connection.request("GET", "/api/v1/status")
            return json.load(connection.getresponse())

    def metric(self, name, **labels):
        """The sum of all series of this name that have these labels."""
        connection = http.client.HTTPConnection("127.0.0.1", self.telemetry, timeout=5)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            lines = connection.getresponse().read().decode().splitlines()
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        own = [line for line in lines if line.split("{")[0].split(" ")[0] == name]
        return sum(float(line.rsplit(" ", 1)[1]) for line in own if all(label in line for label in wanted))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=20)
        text = pathlib.Path(f"{self.directory}/log").read_text()
        if code != 0 or "panicked" in text:
            raise RuntimeError(f"weir ended with {code}: {text[-2000:]}")


class Account:
    """Checks by name, and how each ended."""

    def __init__(self, name):
        self.name, self.passed, self.faults, self.calls = name, 0, [], 0

    async def check(self, name, coroutine, limit=60):
        begun = time.monotonic()
        try:
            await asyncio.wait_for(coroutine, limit)
            self.passed += 1
            print(f"ok    {self.name}: {name} ({time.monotonic() - begun:.1f} s)", flush=True)
        except Exception as fault:  # all that can be wrong is to be told, and the next check made
            self.faults.append(name)
            print(f"FAULT {self.name}: {name}: {fault!r}", flush=True)
            if not isinstance(fault, AssertionError) or not str(fault):
                traceback.print_exc(limit=-3)

    def end(self):
        print(f"{self.name}: {self.passed} checks passed, {len(self.faults)} faults, {self.calls} calls", flush=True)
        return len(self.faults)


def child(script, *arguments):
    """A server in a process of its own, and the port that it tells in its first line."""
    here = pathlib.Path(__file__).with_name(script)
    process = subprocess.Popen([sys.executable, str(here), *arguments], stdout=subprocess.PIPE, text=True)
    return process, int(process.stdout.readline())


async def until(what, condition, limit=10):
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"{what}: not so after {limit} s"
        await asyncio.sleep(0.02)

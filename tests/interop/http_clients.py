"""HTTP/2 by httpx, h2, curl and Node.js, before an HTTP/1.1 endpoint."""

import asyncio
import hashlib
import json
import os
import pathlib
import shutil
import ssl
import sys
import tempfile

import h2.config
import h2.connection
import h2.events
import httpx

from bed import Account, Tls, Weir, child, until

UPLOAD = int(os.environ.get("INTEROP_UPLOAD", str(200_000_000)))


def equal(got, wanted):
    assert got == wanted, f"{got!r:.200} came, not {wanted!r:.200}"


def of(body):
    return f"{len(body)} {hashlib.sha256(body).hexdigest()}"


def httpx_client(tls, secure):
    context = ssl.create_default_context(cafile=tls.path("ca.crt")) if secure else False
    limits = httpx.Limits(max_connections=4)
    return httpx.AsyncClient(http1=False, http2=True, verify=context, limits=limits, timeout=60)


async def httpx_requests(account, client, base):
    body = os.urandom(5_000_000)

    async def sends():
        got = await client.get(f"{base}/bytes/1000")
        equal((got.status_code, got.http_version, len(got.content)), (200, "HTTP/2", 1000))
        equal((await client.head(f"{base}/bytes/1000")).headers["content-length"], "1000")
        equal((await client.get(f"{base}/chunked/3000000")).content, bytes(3_000_000))
        equal((await client.post(f"{base}/sink", content=body)).text, of(body))

    async def streams():
        async def pieces():
            for at in range(0, len(body), 7_001):
                yield body[at : at + 7_001]

        async with client.stream("POST", f"{base}/echo", content=pieces()) as got:
            echoed = b"".join([piece async for piece in got.aiter_bytes()])
        assert echoed == body

    async def at_once():
        async def one(number):
            got = await client.get(f"{base}/bytes/{number}")
            account.calls += 1
            equal((got.status_code, len(got.content)), (200, number))

        for _ in range(5):
            await asyncio.gather(*(one(number) for number in range(100)))

    await account.check("httpx: GET, HEAD, POST", sends())
    await account.check("httpx: a body that streams both ways", streams())
    await account.check("httpx: 500 requests, 100 at once", at_once())


async def h2_requests(account, port):
    """By the h2 library alone: what others do not let one choose."""

    async def small_windows():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        connection = h2.connection.H2Connection(h2.config.H2Configuration())
        connection.initiate_connection()
        connection.update_settings({4: 100, 1: 0, 6: 4_096})
        head = [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", "/bytes/20000")]
        for stream in (1, 3, 5):
            connection.send_headers(stream, head, end_stream=True)
        got, ended = {1: 0, 3: 0, 5: 0}, set()
        while len(ended) < 3:
            writer.write(connection.data_to_send())
            data = await reader.read(65_536)
            assert data, "the connection ended"
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    got[event.stream_id] += len(event.data)
                    if event.flow_controlled_length:
                        connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    ended.add(event.stream_id)
                else:
                    assert not isinstance(event, h2.events.ConnectionTerminated | h2.events.StreamReset), event
        equal(got, {1: 20_000, 3: 20_000, 5: 20_000})
        writer.close()

    await account.check("h2: windows of 100 bytes, no dynamic table", small_windows())


async def run(*words, limit=120):
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    out, err = await asyncio.wait_for(process.communicate(), limit)
    return process.returncode, out.decode(errors="replace"), err.decode(errors="replace")


async def curl_requests(account, tls, base, secure, directory):
    if not shutil.which("curl"):
        print("skipped: no curl on this machine")
        return
    common = ["curl", "-sS", "--max-time", "100", "-w", "\n%{http_version} %{http_code} %{size_upload} %{size_download}"]
    common += ["--http2", "--cacert", tls.path("ca.crt")] if secure else ["--http2-prior-knowledge"]

    async def curl(*words):
        code, out, err = await run(*common, *words)
        equal((code, err), (0, ""))
        body, _, told = out.rpartition("\n")
        return body, told.split()

    async def requests():
        _, told = await curl("-o", "/dev/null", f"{base}/bytes/1000")
        equal(told, ["2", "200", "0", "1000"])
        _, told = await curl("-I", "-o", "/dev/null", f"{base}/bytes/1000")
        equal(told[:2], ["2", "200"])
        body, told = await curl("-d", "abc", f"{base}/sink")
        equal((body, told[:3]), (of(b"abc"), ["2", "200", "3"]))
        body, _ = await curl("-H", "expect: 100-continue", "-d", "abc", f"{base}/sink")
        equal(body, of(b"abc"))

    async def upload():
        path, digest = pathlib.Path(directory) / "upload", hashlib.sha256()
        with open(path, "wb") as file:
            for number in range(UPLOAD // 1_000_000):
                piece = number.to_bytes(4, "big") * 250_000
                digest.update(piece)
                file.write(piece)
        size = path.stat().st_size
        body, told = await curl("-T", str(path), f"{base}/sink")
        equal((body, told[:3]), (f"{size} {digest.hexdigest()}", ["2", "200", str(size)]))
        path.unlink()

    async def download():
        _, told = await curl("-o", "/dev/null", f"{base}/bytes/{UPLOAD}")
        equal(told, ["2", "200", "0", str(UPLOAD)])

    async def slow():
        _, told = await curl("--limit-rate", "2M", "-o", "/dev/null", f"{base}/bytes/6000000")
        equal(told, ["2", "200", "0", "6000000"])

    await account.check("curl: GET, HEAD, POST, Expect", requests())
    await account.check(f"curl: {UPLOAD} bytes up", upload(), limit=150)
    await account.check(f"curl: {UPLOAD} bytes down", download(), limit=150)
    await account.check("curl: a slow reader", slow())


async def node_requests(account, tls, base, express):
    if not shutil.which("node"):
        print("skipped: no node on this machine")
        return

    async def client():
        script = str(pathlib.Path(__file__).with_name("node_client.mjs"))
        code, out, err = await run("node", script, base, tls.path("ca.crt"), json.dumps(express))
        print(out + err, end="")
        equal(code, 0)

    await account.check("node:http2", client(), limit=150)


async def main():
    faults = 0
    with tempfile.TemporaryDirectory(prefix="weir-interop-") as directory:
        tls = Tls(directory)
        endpoint, port = child("http_endpoint.py")
        weir = Weir(tls, f"127.0.0.1:{port}")
        for name, secure in (("h2c", False), ("h2 under TLS", True)):
            account = Account(name)
            base = f"https://localhost:{weir.tls}" if secure else f"http://127.0.0.1:{weir.clear}"
            async with httpx_client(tls, secure) as client:
                await httpx_requests(account, client, base)
            express = weir.metric("weir_lane_requests_total", lane="express") > 0
            if not secure:
                await h2_requests(account, weir.clear)
            await curl_requests(account, tls, base, secure, directory)
            await node_requests(account, tls, base, express)
            await account.check("nothing is left in flight", until("in flight", lambda: weir.metric("weir_requests_in_flight") == 0))
            faults += account.end()
        weir.stop()
        endpoint.kill()
    print(f"http: {faults} faults")
    return faults


sys.exit(1 if asyncio.run(main()) else 0)

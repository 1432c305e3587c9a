"""gRPC by grpcio on both sides of the real binary: all kinds of calls, over clear and TLS connections and endpoints."""

import asyncio
import json
import os
import sys
import tempfile

import grpc

from bed import Account, Tls, Weir, child, until

MANY = int(os.environ.get("INTEROP_CALLS", "10000"))
AT_ONCE = 200
PATTERN = bytes(range(256)) * 4096


class Client:
    """A channel, and calls over it that count."""

    def __init__(self, account, target, tls=None, options=()):
        self.account, self.target, self.tls = account, target, tls
        self.options = [
            ("grpc.max_receive_message_length", 64 << 20),
            ("grpc.max_send_message_length", 64 << 20),
            # A channel has connections of its own.
            ("grpc.use_local_subchannel_pool", 1),
            *options,
        ]

    async def __aenter__(self):
        if self.tls:
            credentials = grpc.ssl_channel_credentials(self.tls.read("ca.crt"))
            self.channel = grpc.aio.secure_channel(f"localhost:{self.target}", credentials, options=self.options)
        else:
            self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.target}", options=self.options)
        return self

    async def __aexit__(self, *_):
        await self.channel.close()

    def _path(self, method):
        self.account.calls += 1
        return f"/interop.Test/{method}"

    def unary(self, method, message, **options):
        return self.channel.unary_unary(self._path(method))(message, **options)

    def client_stream(self, method, messages, **options):
        return self.channel.stream_unary(self._path(method))(messages, **options)

    def server_stream(self, method, message, **options):
        return self.channel.unary_stream(self._path(method))(message, **options)

    def bidi(self, method, **options):
        return self.channel.stream_stream(self._path(method))(**options)

    async def seen(self):
        return json.loads(await self.unary("Seen", b""))


async def fails(call, code):
    """The error that a call ends with."""
    try:
        got = await call
    except grpc.aio.AioRpcError as error:
        assert error.code() == code, f"{error.code()}, not {code}: {error.details()}"
        return error
    raise AssertionError(f"{code} is wanted, and {got!r} came")


def equal(got, wanted):
    assert got == wanted, f"{got!r:.200} came, not {wanted!r:.200}"


async def unary(client):
    for size in (0, 1, 100, 16_379, 16_384, 65_535, 65_536, 1 << 20, 8 << 20):
        message = (PATTERN * 9)[:size]
        assert await client.unary("Unary", message) == message, f"{size} bytes came back otherwise"


async def client_streams(client):
    async def messages(count, size):
        for _ in range(count):
            yield bytes(size)

    for count, size in ((0, 0), (1, 0), (1_000, 10), (200, 50_000), (4, 1 << 20)):
        equal(json.loads(await client.client_stream("Client", messages(count, size))), [count, count * size])


async def server_streams(client):
    for count, size in ((0, 4), (1_000, 10), (200, 50_000), (4, 1 << 20)):
        numbers = []
        async for message in client.server_stream("Server", json.dumps([count, size]).encode()):
            equal(len(message), size)
            numbers.append(int.from_bytes(message[:4], "big"))
        equal(numbers, list(range(count)))


async def bidi_streams(client):
    call = client.bidi("Bidi")
    for number in range(300):
        await call.write(str(number).encode())
        equal(await call.read(), str(number).encode())
    for _ in range(4):
        await call.write(PATTERN)
        equal(await call.read() == PATTERN, True)
    await call.done_writing()
    equal(await call.read(), grpc.aio.EOF)
    equal(await call.code(), grpc.StatusCode.OK)


async def many_bidi_streams(client):
    async def talk(name):
        call = client.bidi("Bidi")
        for number in range(10):
            message = f"{name} {number}".encode()
            await call.write(message)
            equal(await call.read(), message)
        await call.done_writing()
        equal(await call.read(), grpc.aio.EOF)

    await asyncio.gather(*(talk(name) for name in range(100)))


async def deadlines(client):
    before = (await client.seen())["cancelled"]
    await asyncio.gather(*(fails(client.unary("Slow", b"20", timeout=0.3), grpc.StatusCode.DEADLINE_EXCEEDED) for _ in range(20)))
    await ends(client, before + 20)
    equal(await client.unary("Slow", b"0.2", timeout=10), b"late")


async def cancellation(client):
    calls = [client.bidi("Bidi") for _ in range(20)]
    for call in calls:
        await call.write(b"a")
        equal(await call.read(), b"a")
    equal((await client.seen())["open"], 20)
    for call in calls:
        assert call.cancel()
    await ends(client, 0)
    equal(await client.unary("Unary", b"after"), b"after")


async def ends(client, wanted):
    """The server has no call open, and so many were cancelled in all."""
    for _ in range(500):
        seen = await client.seen()
        if seen["cancelled"] >= wanted and seen["open"] == 0:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"the server does not know of it: {seen}, {wanted} wanted")


async def metadata(client):
    sent = [
        ("x-plain", "value"),
        ("x-plain", "another"),
        ("x-bytes-bin", bytes(range(256))),
        ("x-bytes-bin", b""),
        ("x-long", "a" * 6_000),
        ("authorization", "Bearer abc"),
    ]
    call = client.unary("Fields", b"", metadata=sent)
    seen = [(key, bytes.fromhex(value)) for key, value in json.loads(await call)]
    for key, value in sent:
        value = value if isinstance(value, bytes) else value.encode()
        assert (key, value) in seen, f"{key} has not come: {[found for found in seen if found[0] == key]}"
    first, last = list(await call.initial_metadata()), list(await call.trailing_metadata())
    equal([value for key, value in first if key == "x-first"], ["1", "2"])
    equal([value for key, value in first if key == "x-first-bin"], [b"\x00\x01\xff"])
    equal([value for key, value in last if key == "x-last"], ["1"])
    equal([value for key, value in last if key == "x-last-bin"], [bytes(range(256))])


async def statuses(client):
    for when in (b"late", b"early"):
        error = await fails(client.unary("Fails", when), grpc.StatusCode.FAILED_PRECONDITION)
        equal(error.details(), "not so: 100 % \u00fcber\n")
        last = dict(error.trailing_metadata())
        equal((last["x-last"], last["grpc-status-details-bin"]), ("1", b"\x08\x09details\x00"))
    got = []
    try:
        async for message in client.server_stream("FailsWithin", b""):
            got.append(message)
    except grpc.aio.AioRpcError as error:
        equal((error.code(), error.details(), got), (grpc.StatusCode.DATA_LOSS, "lost", [b"\0", b"\1", b"\2"]))
    else:
        raise AssertionError("no error came")


async def trailers_only(client):
    error = await fails(client.unary("Nothing", b""), grpc.StatusCode.UNIMPLEMENTED)
    assert error.details(), "without words"


async def compression(client):
    for algorithm in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        equal(await client.unary("Unary", PATTERN, compression=algorithm) == PATTERN, True)


async def keepalive(account, port, tls):
    """Pings, without calls too, end no connection: a call that waits outlives them, and the next goes over the same."""
    options = [
        ("grpc.keepalive_time_ms", 200),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_time_between_pings_ms", 200),
    ]
    async with Client(account, port, tls, options) as client:
        equal(await client.unary("Slow", b"3", timeout=20), b"late")
        await asyncio.sleep(3)
        equal(client.channel.get_state(), grpc.ChannelConnectivity.READY)
        equal(await client.unary("Unary", b"a"), b"a")


async def many(account, port, tls):
    """As many calls as that, so many at a time, over four connections."""
    outcomes = {}
    clients = [Client(account, port, tls) for _ in range(4)]
    for client in clients:
        await client.__aenter__()

    async def worker(number):
        while left[0] > 0:
            left[0] -= 1
            message = f"{number} {left[0]}".encode()
            try:
                answer = await clients[number % 4].unary("Unary", message, timeout=60)
                outcome = "ok" if answer == message else "another's"
            except grpc.aio.AioRpcError as error:
                outcome = f"{error.code()}: {error.details()}"
            outcomes[outcome] = outcomes.get(outcome, 0) + 1

    left = [MANY]
    await asyncio.gather(*(worker(number) for number in range(AT_ONCE)))
    for client in clients:
        await client.__aexit__()
    equal(outcomes, {"ok": MANY})


async def suite(account, weir, port, tls):
    async with Client(account, port, tls) as client:
        await account.check("unary calls up to 8 MB", unary(client))
        await account.check("client streams", client_streams(client))
        await account.check("server streams", server_streams(client))
        await account.check("a bidirectional stream", bidi_streams(client))
        await account.check("100 bidirectional streams at once", many_bidi_streams(client))
        await account.check("deadlines reach the server", deadlines(client))
        await account.check("cancellation reaches the server", cancellation(client))
        await account.check("metadata, -bin too", metadata(client))
        await account.check("status, words and details", statuses(client))
        await account.check("an answer of trailers only", trailers_only(client))
        await account.check("compressed messages", compression(client))
    await account.check("keepalive pings", keepalive(account, port, tls))
    await account.check(f"{MANY} calls, {AT_ONCE} at once", many(account, port, tls), limit=180)
    await account.check("nothing is left in flight", until("in flight", lambda: weir.metric("weir_requests_in_flight") == 0))


async def aging(tls):
    """Connections to the endpoint that it ends every half second by GOAWAY cost no call."""
    account = Account("max_connection_age")
    endpoint, port = child("grpc_endpoint.py", "plaintext", "500")
    weir = Weir(tls, f"127.0.0.1:{port}", "h2")

    async def calls():
        async with Client(account, weir.clear) as client:
            async def worker(number):
                for at in range(60):
                    message = f"{number} {at}".encode()
                    equal(await client.unary("Unary", message), message)
                    equal(await client.unary("Slow", b"0.03"), b"late")

            await asyncio.gather(*(worker(number) for number in range(20)))

    await account.check("no call is lost", calls())
    weir.stop()
    endpoint.kill()
    return account.end()


# What a stream ends with that is reset after its head, where the engine carries it (RFC 9113 error code: status).
ENGINE = {0: grpc.StatusCode.UNKNOWN, **dict.fromkeys((7, 8, 11, 12), grpc.StatusCode.INTERNAL)}


async def resets(tls):
    """A stream that the endpoint resets ends with the status that the client would see without a proxy."""
    account = Account("resets of the endpoint")
    endpoint, port = child("resetting_endpoint.py")
    weir = Weir(tls, f"127.0.0.1:{port}", "h2")

    async def status(target, path):
        async with Client(account, target) as client:
            account.calls += 1
            try:
                await client.channel.unary_unary(path)(b"", timeout=10)
            except grpc.aio.AioRpcError as error:
                return error.code()
        return grpc.StatusCode.OK

    async def after(code):
        got = await status(weir.clear, f"/after/{code}")
        express = weir.metric("weir_lane_requests_total", lane="express") > 0
        if not express and code in ENGINE:
            return equal(got, ENGINE[code])
        equal(got, await status(port, f"/after/{code}"))

    async def before(code):
        # Weir answers, and says by its status that the call may be made again.
        got = await status(weir.clear, f"/before/{code}")
        assert got in (grpc.StatusCode.UNAVAILABLE, await status(port, f"/before/{code}")), got

    for code in (0, 1, 2, 3, 7, 8, 11, 12):
        await account.check(f"code {code} after the head", after(code))
        await account.check(f"code {code} before the head", before(code))
    weir.stop()
    endpoint.kill()
    return account.end()


async def main():
    faults = 0
    with tempfile.TemporaryDirectory(prefix="weir-interop-") as directory:
        tls = Tls(directory)
        for name, secure in (("h2c", False), ("TLS", True)):
            endpoint, port = child("grpc_endpoint.py", directory if secure else "plaintext")
            weir = Weir(tls, f"127.0.0.1:{port}", "h2", endpoint_tls=secure)
            for client, target, own in (("clear", weir.clear, None), ("TLS", weir.tls, tls)):
                account = Account(f"{client} client, {name} endpoint")
                await suite(account, weir, target, own)
                faults += account.end()
            weir.stop()
            endpoint.kill()
        faults += await aging(tls)
        faults += await resets(tls)
    print(f"grpc: {faults} faults")
    return faults


sys.exit(1 if asyncio.run(main()) else 0)

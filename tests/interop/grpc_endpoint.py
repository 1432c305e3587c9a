"""A gRPC server by grpcio, without generated code: messages are bytes.

`grpc_endpoint.py PLAINTEXT_OR_DIRECTORY [MAX_AGE_MS]`: with a directory it speaks TLS by the `tls.key` and `tls.crt` there.
Prints its port. `Seen` tells what became of calls that ended early.
"""

import asyncio
import json
import pathlib
import sys

import grpc

ended = {"cancelled": 0, "open": 0}


async def unary(request, context):
    return request


async def client_stream(requests, context):
    count = total = 0
    async for message in requests:
        count, total = count + 1, total + len(message)
    return json.dumps([count, total]).encode()


async def server_stream(request, context):
    count, size = json.loads(request)
    for number in range(count):
        yield number.to_bytes(4, "big") + bytes(size - 4)


async def bidi(requests, context):
    ended["open"] += 1
    try:
        async for message in requests:
            yield message
    except asyncio.CancelledError:
        ended["cancelled"] += 1
        raise
    finally:
        ended["open"] -= 1


async def slow(request, context):
    ended["open"] += 1
    try:
        await asyncio.sleep(float(request))
        return b"late"
    except asyncio.CancelledError:
        ended["cancelled"] += 1
        raise
    finally:
        ended["open"] -= 1


async def fields(request, context):
    seen = [(key, value if isinstance(value, bytes) else value.encode()) for key, value in context.invocation_metadata()]
    await context.send_initial_metadata([("x-first", "1"), ("x-first-bin", b"\x00\x01\xff"), ("x-first", "2")])
    context.set_trailing_metadata([("x-last", "1"), ("x-last-bin", bytes(range(256)))])
    return json.dumps([[key, value.hex()] for key, value in seen]).encode()


async def fails(request, context):
    if request == b"late":
        await context.send_initial_metadata([("x-first", "1")])
    context.set_trailing_metadata([("x-last", "1"), ("grpc-status-details-bin", b"\x08\x09details\x00")])
    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not so: 100 % \u00fcber\n")


async def fails_within(request, context):
    for number in range(3):
        yield bytes([number])
    await context.abort(grpc.StatusCode.DATA_LOSS, "lost")


async def seen(request, context):
    return json.dumps(ended).encode()


HANDLERS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Client": grpc.stream_unary_rpc_method_handler(client_stream),
    "Server": grpc.unary_stream_rpc_method_handler(server_stream),
    "Bidi": grpc.stream_stream_rpc_method_handler(bidi),
    "Slow": grpc.unary_unary_rpc_method_handler(slow),
    "Fields": grpc.unary_unary_rpc_method_handler(fields),
    "Fails": grpc.unary_unary_rpc_method_handler(fails),
    "FailsWithin": grpc.unary_stream_rpc_method_handler(fails_within),
    "Seen": grpc.unary_unary_rpc_method_handler(seen),
}


async def main():
    options = [
        ("grpc.max_receive_message_length", 64 << 20),
        ("grpc.max_send_message_length", 64 << 20),
        ("grpc.so_reuseport", 0),
        # A client's pings are the proxy's affair; that it sends none of its own is tested elsewhere.
        ("grpc.http2.min_ping_interval_without_data_ms", 500),
    ]
    if len(sys.argv) > 2:
        options += [("grpc.max_connection_age_ms", int(sys.argv[2])), ("grpc.max_connection_age_grace_ms", 5_000)]
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("interop.Test", HANDLERS),))
    if sys.argv[1] == "plaintext":
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        directory = pathlib.Path(sys.argv[1])
        pair = ((directory / "tls.p8").read_bytes(), (directory / "tls.crt").read_bytes())
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


asyncio.run(main())

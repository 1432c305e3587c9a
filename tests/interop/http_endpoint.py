"""An HTTP/1.1 server: `/bytes/N`, `/chunked/N`, `/sink`, `/echo`, `/delay/MS`, `/trailers`, `/hints`; `/ws` echoes frames of a
WebSocket. Prints its port."""

import asyncio
import base64
import hashlib


async def head(reader):
    text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = text.strip().split("\r\n")
    method, target, _ = first.split(" ")
    return method, target, {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}


async def pieces(reader, fields):
    """The body, as it comes."""
    if fields.get("transfer-encoding") == "chunked":
        while size := int((await reader.readline()).split(b";")[0], 16):
            yield await reader.readexactly(size)
            await reader.readline()
        while (await reader.readline()).strip():
            pass
    else:
        left = int(fields.get("content-length", 0))
        while left:
            piece = await reader.read(min(left, 65_536))
            if not piece:
                return
            left -= len(piece)
            yield piece


async def websocket(reader, writer, fields):
    key = fields["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
    writer.write(
        f"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n".encode()
    )
    while True:
        first, second = await reader.readexactly(2)
        length = second & 127
        if length == 126:
            length = int.from_bytes(await reader.readexactly(2), "big")
        mask = await reader.readexactly(4)
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(await reader.readexactly(length)))
        size = bytes([length]) if length < 126 else bytes([126]) + length.to_bytes(2, "big")
        writer.write(bytes([first]) + size + payload)
        await writer.drain()
        if first & 15 == 8:
            return


async def answer(reader, writer):
    method, target, fields = await head(reader)
    writer_lines = ["HTTP/1.1 200 OK"]
    if fields.get("expect") == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    kind, _, argument = target.strip("/").partition("/")
    if kind == "ws":
        await websocket(reader, writer, fields)
        return False
    if kind == "echo":
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        async for piece in pieces(reader, fields):
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        return True
    length, digest = 0, hashlib.sha256()
    async for piece in pieces(reader, fields):
        length += len(piece)
        digest.update(piece)
    body = f"{length} {digest.hexdigest()}".encode()
    if kind == "delay":
        await asyncio.sleep(int(argument) / 1000)
    if kind in ("bytes", "chunked"):
        body = bytes(int(argument))
    if kind == "hints":
        writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n")
    if kind in ("chunked", "trailers"):
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-after\r\n\r\n")
        if method != "HEAD":
            for at in range(0, len(body), 10_000):
                piece = body[at : at + 10_000]
                writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                await writer.drain()
            writer.write(b"0\r\nx-after: all\r\n\r\n")
        return True
    writer_lines += [f"content-length: {len(body)}", f"x-method: {method}", f"x-cookie: {fields.get('cookie', '')}"]
    writer.write(("\r\n".join(writer_lines) + "\r\n\r\n").encode())
    if method != "HEAD":
        writer.write(body)
    return True


async def serve(reader, writer):
    try:
        while await answer(reader, writer):
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())

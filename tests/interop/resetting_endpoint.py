"""An HTTP/2 server that resets each stream after its head, or before it, with the code that its path says: `/after/CODE`,
`/before/CODE`. Prints its port."""

import asyncio

import h2.config
import h2.connection
import h2.events


async def serve(reader, writer):
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    connection.initiate_connection()
    writer.write(connection.data_to_send())
    try:
        while data := await reader.read(65_536):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    path = dict(event.headers)[b":path"].decode()
                    _, when, code = path.split("/")
                    if when == "after":
                        head = [(":status", "200"), ("content-type", "application/grpc")]
                        connection.send_headers(event.stream_id, head)
                        writer.write(connection.data_to_send())
                        await asyncio.sleep(0.1)
                    connection.reset_stream(event.stream_id, int(code))
            writer.write(connection.data_to_send())
    except (ConnectionError, h2.exceptions.ProtocolError):
        pass
    writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())

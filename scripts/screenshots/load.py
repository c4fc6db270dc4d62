"""Three backends and their clients, for the pictures: one backend dies and comes back, and some clients are denied."""

import asyncio
import random
import sys

BACKENDS = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
RINGWAY = ("10.0.0.100", 5432)


async def echo(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()


async def client(address, talk):
    while True:
        try:
            reader, writer = await asyncio.open_connection(*RINGWAY, local_addr=(address, 0))
            await talk(reader, writer)
            writer.close()
        except OSError:
            pass
        await asyncio.sleep(random.random())


async def requests(reader, writer):
    for _ in range(random.randint(1, 40)):
        writer.write(bytes(random.randint(100, 20000)))
        if not await reader.read(65536):
            return
        await asyncio.sleep(random.random() * 0.2)


async def denied(reader, _writer):
    await reader.read(1)
    await asyncio.sleep(random.random() * 4)


async def main(seconds):
    servers = [await asyncio.start_server(echo, address, 5432) for address in BACKENDS]
    clients = [client("10.0.0.7", requests) for _ in range(40)] + [client("10.9.0.1", denied)]
    tasks = [asyncio.create_task(one) for one in clients]
    await asyncio.sleep(seconds * 0.87)
    servers[1].close()
    await asyncio.sleep(seconds * 0.06)
    servers[1] = await asyncio.start_server(echo, BACKENDS[1], 5432)
    await asyncio.gather(*tasks)


asyncio.run(main(float(sys.argv[1])))

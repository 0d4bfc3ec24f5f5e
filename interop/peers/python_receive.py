"""Receives with the asyncio server of python3-hl7, acknowledges with its own create_ack, and prints each block.

python_receive.py PORT [CA CERTIFICATE KEY]: with the files TLS, and the sender must show a certificate of CA.
"""
import asyncio, base64, json, ssl, sys

import hl7
from hl7.mllp import start_hl7_server


async def talk(reader, writer):
    try:
        while not writer.is_closing():
            block = await reader.readblock()
            print(json.dumps({"block": base64.b64encode(block).decode()}), flush=True)
            # latin-1 keeps every byte, whatever MSH-18 says
            writer.encoding = "latin-1"
            writer.writemessage(hl7.parse(block.decode("latin-1")).create_ack())
            await writer.drain()
    except asyncio.IncompleteReadError:
        writer.close()


async def main(port, *tls):
    context = None
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tls[0])
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(tls[1], tls[2])
    async with await start_hl7_server(talk, "127.0.0.1", int(port), ssl=context, limit=1 << 24) as server:
        print(json.dumps({"ready": True}), flush=True)
        await server.serve_forever()


asyncio.run(main(*sys.argv[1:]))

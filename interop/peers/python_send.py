"""Sends the blocks of a JSON file with the asyncio client of python3-hl7, and prints each answer as a line of JSON.

python_send.py HOST PORT FILE [CA CERTIFICATE KEY]
"""
import asyncio, base64, json, ssl, sys

from hl7.mllp import open_hl7_connection


async def main(host, port, file, *tls):
    context = None
    if tls:
        context = ssl.create_default_context(cafile=tls[0])
        context.load_cert_chain(tls[1], tls[2])
    reader, writer = await open_hl7_connection(host, int(port), ssl=context, limit=1 << 24)
    with open(file) as f:
        blocks = [base64.b64decode(b) for b in json.load(f)]
    for block in blocks:
        writer.writeblock(block)
        await writer.drain()
        answer = await asyncio.wait_for(reader.readblock(), 10)
        print(json.dumps({"answer": base64.b64encode(answer).decode()}), flush=True)
    writer.close()


asyncio.run(main(*sys.argv[1:]))

// Receives with node-hl7-server, which acknowledges with AA, and prints each block.
// node node_hl7_receive.js PORT
const { Server } = require('node-hl7-server')

const inbound = new Server({ bindAddress: '127.0.0.1' })
  .createInbound({ port: Number(process.argv[2]) }, async (req, res) => res.sendResponse('AA'))
inbound.on('listen', () => console.log(JSON.stringify({ ready: true })))
inbound.on('data.raw', text => console.log(JSON.stringify({ block: Buffer.from(text, 'utf8').toString('base64') })))
inbound.on('data.error', err => console.error(err))
inbound.on('error', err => {
  console.error(err)
  process.exit(1)
})

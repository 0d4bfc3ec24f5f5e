// Sends the blocks of a JSON file with simple-hl7 over one connection, and prints each answer as a line of JSON.
// node simple_hl7_send.js HOST PORT FILE
const fs = require('node:fs')
const hl7 = require('simple-hl7')

const [host, port, file] = process.argv.slice(2)
const blocks = JSON.parse(fs.readFileSync(file)).map(b => Buffer.from(b, 'base64').toString('utf8'))
const client = hl7.Server.createTcpClient({ host, port: Number(port), keepalive: true })
const parser = new hl7.Parser({ segmentSeperator: '\r' })

step(0)

function step (i) {
  if (i === blocks.length) return client.close()
  client.send(parser.parse(blocks[i]), (err, ack) => {
    if (err) {
      console.error(err)
      process.exit(1)
    }
    console.log(JSON.stringify({ answer: Buffer.from(ack.toString(), 'utf8').toString('base64') }))
    setImmediate(step, i + 1)
  })
}

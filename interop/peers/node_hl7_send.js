// Sends the blocks of a JSON file with node-hl7-client, one after the other, and prints each answer as a line of JSON.
// node node_hl7_send.js HOST PORT FILE
const fs = require('node:fs')
const { Client, Message } = require('node-hl7-client')

const [host, port, file] = process.argv.slice(2)
const blocks = JSON.parse(fs.readFileSync(file)).map(b => Buffer.from(b, 'base64').toString('utf8'))
const client = new Client({ host })
let next = 0

const connection = client.createConnection({ port: Number(port) }, async res => {
  const answer = Buffer.from(res.getMessage().toString(), 'utf8').toString('base64')
  console.log(JSON.stringify({ answer }))
  await step()
})
connection.on('error', fail)
connection.on('client.error', fail)
connection.once('connect', () => step().catch(fail)) // sending before would dial a second time

async function step () {
  if (next === blocks.length) process.exit(0) // closing leaves its timers running
  await connection.sendMessage(new Message({ text: blocks[next++] }))
}

function fail (err) {
  console.error(err)
  process.exit(1)
}

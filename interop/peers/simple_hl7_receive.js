// Receives with simple-hl7, which makes the acknowledgement itself, and prints each block as it came, frame removed.
// node simple_hl7_receive.js PORT
const hl7 = require('simple-hl7')

const app = hl7.tcp()
app.use((req, res, next) => {
  console.log(JSON.stringify({ block: Buffer.from(req.raw.slice(1, -2), 'utf8').toString('base64') }))
  res.end()
})
app.use((err, req, res, next) => console.error(err))
app.start(Number(process.argv[2])).server.on('listening', () => console.log(JSON.stringify({ ready: true })))

// Package interop sends to and receives from HL7 implementations that are not ours, each started as a process of its
// own on the loopback interface: Debian's python3-hl7 (its tool mllp_send, its asyncio client and server), the npm
// packages node-hl7-client, node-hl7-server and simple-hl7, and OpenSSL's s_client.
//
// Senders and Receivers list the peers. The tests here point them at hl7/mllp alone; a test of the command can point the
// same lists at a running "lazaret serve". All of it needs the build tag interop. The npm packages are pinned in
// package.json and package-lock.json, and installed below the user's cache directory, never in the repository.
//
// Every message is invented.
package interop

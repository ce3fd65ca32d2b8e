// Opens and seals with @hpke/core what docs/sealing.md describes: a second implementation, in another language.
// Reads {opens: [...], refused: [...], seal: [...]} on standard input and prints the results in their order.
import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Aes256Gcm, CipherSuite, HkdfSha256 } from '@hpke/core'
import { DhkemX25519HkdfSha256 } from '@hpke/dhkem-x25519'

const suite = new CipherSuite({ kem: new DhkemX25519HkdfSha256(), kdf: new HkdfSha256(), aead: new Aes256Gcm() })
const derived = (master, info) => Buffer.from(hkdfSync('sha256', master, '', info, 32))
const bytes = (buffer) => new Uint8Array(buffer).buffer

async function open({ sealed, token_id: id, field, key_id: keyId, master_hex: hex }) {
  const [, named, text] = /^w1\.([\w-]{1,64})\.([\w-]+)$/.exec(sealed) ?? []
  if (named !== keyId || sealed.length > 16384) throw new Error('form')
  if (!['refresh_token', 'code', 'code_verifier'].includes(field)) throw new Error('field')
  const raw = Buffer.from(text, 'base64url')
  if (raw.toString('base64url') !== text || raw.length < 80) throw new Error('base64')
  const master = Buffer.from(hex, 'hex')
  const info = Buffer.from(`refreshd/w1\n${id}\n${field}`)
  const message = raw.subarray(0, -32)
  const mac = createHmac('sha256', derived(master, `refreshd/w1-mac/${field}`))
    .update(info).update('\n').update(message).digest()
  if (!timingSafeEqual(mac, raw.subarray(-32))) throw new Error('mac')
  const recipientKey = await suite.kem.importKey('raw', bytes(derived(master, `refreshd/w1/${field}`)), false)
  const opened = await suite.open({ recipientKey, enc: bytes(message.subarray(0, 32)), info: bytes(info) }, bytes(message.subarray(32)))
  return Buffer.from(opened).toString('utf8')
}

async function seal({ writer, token_id: id, text }) {
  const info = Buffer.from(`refreshd/w1\n${id}\n${writer.field}`)
  const recipientPublicKey = await suite.kem.importKey('raw', bytes(Buffer.from(writer.public_key, 'base64')), true)
  const { ct, enc } = await suite.seal({ recipientPublicKey, info: bytes(info) }, bytes(Buffer.from(text)))
  const message = Buffer.concat([Buffer.from(enc), Buffer.from(ct)])
  const mac = createHmac('sha256', Buffer.from(writer.mac_key, 'base64')).update(info).update('\n').update(message).digest()
  return `w1.${writer.key_id}.${Buffer.concat([message, mac]).toString('base64url')}`
}

const given = JSON.parse(readFileSync(0, 'utf8'))
const refusal = (why) => `refused: ${why.message}`
console.log(JSON.stringify({
  opens: await Promise.all(given.opens.map((one) => open(one).catch(refusal))),
  refused: await Promise.all(given.refused.map((one) => open(one).then(() => 'opened', () => 'refused'))),
  sealed: await Promise.all(given.seal.map(seal)),
}))

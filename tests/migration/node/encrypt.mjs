// Encrypts as applications do, with Node's own crypto and no library. Reads [{form, key, text, iv}] as JSON, prints the
// encrypted texts in their order. `iv`: bytes of the nonce.
import { createCipheriv, randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'

const forms = {
  // MongoDB documents: a JSON text of hexadecimal parts
  json: ({ iv, tag, data }) =>
    JSON.stringify({ encrypted: data.toString('hex'), iv: iv.toString('hex'), authTag: tag.toString('hex') }),
  // PostgreSQL rows: base64 with colons
  colons: ({ iv, tag, data }) => [iv, tag, data].map((part) => part.toString('base64')).join(':'),
  // one text of all bytes
  joined: ({ iv, tag, data }) => Buffer.concat([iv, data, tag]).toString('base64'),
  object: ({ iv, tag, data }) => ({
    encrypted: data.toString('hex'), iv: iv.toString('hex'), authTag: tag.toString('hex'),
  }),
}

function encrypt({ form, key, text, iv: bytes = 16 }) {
  const iv = randomBytes(bytes)
  const cipher = createCipheriv('aes-256-gcm', Buffer.from(key, 'hex'), iv)
  const data = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()])
  return forms[form]({ iv, tag: cipher.getAuthTag(), data })
}

console.log(JSON.stringify(JSON.parse(readFileSync(0, 'utf8')).map(encrypt)))

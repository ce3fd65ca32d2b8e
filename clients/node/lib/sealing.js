// Opens sealed access tokens with reader keys. The format is `v1.` of refreshd's page on sealing.
import { createDecipheriv, hkdfSync } from 'node:crypto'
import { readFileSync } from 'node:fs'

import { Unavailable } from './errors.js'

const FIELD = 'access_token'
const SEALED = /^v1\.([\w-]{1,64})\.([\w-]+)$/
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** The keys of a readers' file, which is read again when a token needs a key that it didn't hold. */
export class ReaderKeys {
  #file
  #keys

  constructor(file) {
    this.#file = file
    this.#keys = read(file)
  }

  /** The access token. Throws Unavailable without any part of it. */
  open(sealed, tokenId) {
    const form = typeof sealed === 'string' ? SEALED.exec(sealed) : null
    if (form === null) throw new Unavailable(`${tokenId}: the stored access token is not sealed text`)
    const [, keyId, text] = form
    const raw = Buffer.from(text, 'base64url')
    if (raw.length < 28 || raw.toString('base64url') !== text) {
      throw new Unavailable(`${tokenId}: the sealed text is damaged`)
    }
    const key = Buffer.from(hkdfSync('sha256', this.#key(keyId, tokenId), '', tokenId, 32))
    const cipher = createDecipheriv('aes-256-gcm', key, raw.subarray(0, 12), { authTagLength: 16 })
    cipher.setAAD(Buffer.from(`refreshd/v1\n${tokenId}\n${FIELD}`)).setAuthTag(raw.subarray(-16))
    try {
      return UTF8.decode(Buffer.concat([cipher.update(raw.subarray(12, -16)), cipher.final()]))
    } catch {
      throw new Unavailable(`${tokenId}: the sealed text does not open with key ${keyId}`)
    }
  }

  #key(keyId, tokenId) {
    if (!this.#keys.has(keyId)) {
      try {
        this.#keys = read(this.#file)
      } catch (error) {
        throw new Unavailable(`${tokenId}: ${error.message}`)
      }
    }
    const key = this.#keys.get(keyId)
    if (key === undefined) {
      throw new Unavailable(`${tokenId}: ${this.#file} has no key ${keyId}: run refreshd keys reader --all`)
    }
    return key
  }
}

function read(file) {
  const keys = new Map()
  readFileSync(file, 'utf8')
    .split('\n')
    .forEach((line, index) => {
      if (line.trim() === '') return
      let reader
      try {
        reader = JSON.parse(line)
      } catch {
        reader = null
      }
      if (typeof reader?.key_id !== 'string' || typeof reader?.key !== 'string') {
        throw new TypeError(`${file}, line ${index + 1}: not a line of refreshd keys reader`)
      }
      const key = Buffer.from(reader.key, 'base64')
      if (reader.field === FIELD && key.length === 32) keys.set(reader.key_id, key)
    })
  if (keys.size === 0) throw new TypeError(`${file}: it has no reader key`)
  return keys
}

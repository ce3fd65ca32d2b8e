// Consents that the application begins: the link for the owner's browser, and what has become of it.
import { createHash, randomBytes } from 'node:crypto'
import { inspect } from 'node:util'

/** A consent that has begun. Its link and its verifier print themselves nowhere. */
export class Link {
  #url
  #verifier

  constructor({ id, url, verifier, expiresAt }) {
    this.id = id
    this.expiresAt = expiresAt
    this.#url = url
    this.#verifier = verifier
    Object.freeze(this)
  }

  /** Where to send the browser of the account's owner. It works once, for 15 minutes. */
  get url() {
    return this.#url
  }

  /** Proves in `complete` that it is the same session: keep it there. */
  get verifier() {
    return this.#verifier
  }

  [inspect.custom]() {
    return `Link(${this.id})`
  }
}

/** A code verifier of 256 random bits. */
export function newVerifier() {
  return randomBytes(32).toString('base64url')
}

/** The challenge of a verifier (RFC 7636, S256). */
export function challengeOf(verifier) {
  return createHash('sha256').update(verifier, 'ascii').digest('base64url')
}

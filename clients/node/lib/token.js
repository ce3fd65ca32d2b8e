import { inspect } from 'node:util'

/** An access token and what the provider said about it. It never prints the access token. */
export class Token {
  #accessToken

  constructor({ accessToken, ...fields }) {
    this.#accessToken = accessToken
    this.provider = fields.provider
    this.account = fields.account
    this.version = fields.version // changes exactly when the access token does
    this.expiresAt = fields.expiresAt ?? null // a Date. Null: no end is known
    this.tokenType = fields.tokenType ?? 'Bearer'
    this.scope = fields.scope ?? null
    this.missingScopes = fields.missingScopes ?? []
    this.extra = fields.extra ?? {} // other fields of the provider's response, such as `api_domain`
    this.subject = fields.subject ?? null
    Object.freeze(this)
  }

  /** The text itself, which is a secret. */
  get accessToken() {
    return this.#accessToken
  }

  /** The value of an `Authorization` header. */
  get authorization() {
    return `Bearer ${this.#accessToken}`
  }

  get id() {
    return `${this.provider}:${this.account}`
  }

  toString() {
    const ends = this.expiresAt === null ? 'null' : this.expiresAt.toISOString()
    return `<Token ${this.id} version ${this.version} expiresAt ${ends}>`
  }

  [inspect.custom]() {
    return this.toString()
  }
}

import { Cache } from './cache.js'
import { Expired, NeedsReauth, NotConnected, Paused, ReaderError } from './errors.js'
import { HttpTransport } from './http-transport.js'
import { MongoTransport } from './mongo-transport.js'

const PROVIDER = /^[a-z0-9][a-z0-9_-]*$/
const CONTROL = /[\x00-\x1f\x7f-\x9f]/

/** Access tokens by provider and account. One instance serves the whole program. */
export class Tokens {
  #transport
  #cache
  #flights = new Map() // one request at a time for each token, and for each refused version

  constructor(transport, cache = new Cache()) {
    this.#transport = transport
    this.#cache = cache
  }

  /** Use REFRESHD_URL and REFRESHD_ACCESS_KEY, or else MONGODB_URI and REFRESHD_READERS. */
  static fromEnv(env = process.env) {
    if (env.REFRESHD_URL) {
      const accessKey = required(env, 'REFRESHD_ACCESS_KEY', 'REFRESHD_URL')
      return Tokens.overHttp({ url: env.REFRESHD_URL, accessKey })
    }
    if (env.MONGODB_URI) {
      const readers = required(env, 'REFRESHD_READERS', 'MONGODB_URI')
      return Tokens.overMongodb({ uri: env.MONGODB_URI, readers })
    }
    throw new TypeError('set REFRESHD_URL and REFRESHD_ACCESS_KEY, or MONGODB_URI and REFRESHD_READERS')
  }

  /** Ask `refreshd serve`. `wait`: seconds for a renewal; `timeout`: seconds that everything else may take. */
  static overHttp({ url, accessKey, wait = 10, timeout = 10 }) {
    return new Tokens(new HttpTransport({ url, accessKey, wait, timeout }))
  }

  /** Read MongoDB with the keys in the file `readers`. Needs the package `mongodb`. */
  static overMongodb({ uri, readers, database, collection = 'tokens', wait = 20, timeout = 10 }) {
    return new Tokens(new MongoTransport({ uri, readers, database, collection, wait, timeout }))
  }

  /** Resolve to a token that may be used now. */
  async get(provider, account) {
    const id = `${provider}:${account}`
    return this.#cache.get(id) ?? (await this.#read(id, provider, account))
  }

  /** Resolve to whether `get` finds a token. Rejects if that can't be found out. */
  async isValid(provider, account) {
    try {
      await this.get(provider, account)
      return true
    } catch (error) {
      if ([NeedsReauth, NotConnected, Paused, Expired].some((kind) => error instanceof kind)) return false
      throw error
    }
  }

  /** Resolve to the token that replaces `token`, which got a 401 from the provider. */
  async refused(token) {
    const kept = this.#cache.get(token.id)
    if (kept !== undefined && kept.version !== token.version) return kept
    this.#cache.drop(token.id)
    return this.#fly(`${token.id}\n${token.version}`, token.id, () => this.#transport.refused(token))
  }

  /**
   * `fetch` with the token. On a 401 it asks for a renewal and sends the request once more, if the body can be sent
   * twice.
   */
  async fetch(provider, account, url, init = {}) {
    const token = await this.get(provider, account)
    const first = await fetch(url, withToken(url, init, token))
    if (first.status !== 401 || !canRepeat(url, init) || wentElsewhere(url, first)) return first
    let newer
    try {
      newer = await this.refused(token)
    } catch (error) {
      if (error instanceof ReaderError && !(error instanceof NeedsReauth || error instanceof Paused)) return first
      throw error
    }
    if (newer.version === token.version) return first
    await first.body?.cancel()
    return fetch(url, withToken(url, init, newer))
  }

  /** Store a provider's token response after a consent. Resolves to whether the token is new. HTTP only. */
  async store(provider, account, response, { receivedAt, consentedAt, vars, meta, subject } = {}) {
    const grant = { response, receivedAt, consentedAt, vars, meta, subject }
    return this.#change(`${provider}:${account}`, () => this.#transport.store(provider, account, grant))
  }

  /** Remove the token; with `revoke` the daemon first revokes the grant at the provider. HTTP only. */
  async remove(provider, account, { revoke = true } = {}) {
    return this.#change(`${provider}:${account}`, () => this.#transport.remove(provider, account, revoke))
  }

  /** Remove all tokens of one user that this access key may see. HTTP only. */
  async removeAll(subject, { revoke = true } = {}) {
    return this.#change(null, () => this.#transport.removeAll(subject, revoke))
  }

  /**
   * Begin a consent of the account's owner. Send the browser to the link's `url`. Keep its `id` and `verifier` in the
   * session of the user. The browser returns to `returnUrl`, one of `access.return_urls`, with `connect` and
   * `connect_code`, or with `connect` and `error`. HTTP only.
   */
  async connect(provider, account, { returnUrl, scopes, vars, meta, subject, replace = false }) {
    return this.#transport.connect({ provider, account, returnUrl, scopes, vars, meta, subject, replace })
  }

  /**
   * Complete a consent with the `connect_code` that the browser has brought, and the verifier of its session. The token
   * is stored if the state is done. Otherwise a daemon is still busy: ask `consent` later.
   */
  async complete(id, connectCode, verifier) {
    return this.#change(null, () => this.#transport.complete(id, connectCode, verifier))
  }

  /** What has become of a consent. */
  async consent(id) {
    return this.#transport.consent(id)
  }

  /** Close the connections. */
  async close() {
    await this.#transport.close()
  }

  #read(id, provider, account) {
    if (!PROVIDER.test(provider)) throw new TypeError(`provider ${JSON.stringify(provider)}: use a to z, 0 to 9, _ and -`)
    if (typeof account !== 'string' || account === '' || CONTROL.test(account)) {
      throw new TypeError('account: must not be empty or contain control characters')
    }
    return this.#fly(id, id, () => this.#transport.read(provider, account))
  }

  /** Share one request. Its result is kept only if the token was not forgotten in the meantime. */
  #fly(flight, id, request) {
    const underway = this.#flights.get(flight)
    if (underway !== undefined) return underway.result
    const own = {}
    const isNews = () => {
      if (this.#flights.get(flight) !== own) return false
      return this.#flights.delete(flight)
    }
    const fly = async () => {
      const started = performance.now()
      try {
        const { token, secondsLeft } = await request()
        if (isNews()) this.#cache.put(id, token, secondsLeft, (performance.now() - started) / 1000)
        return token
      } catch (error) {
        if (isNews()) this.#cache.drop(id)
        throw error
      }
    }
    this.#flights.set(flight, own)
    own.result = fly()
    return own.result
  }

  async #change(id, request) {
    try {
      return await request()
    } finally {
      this.#forget(id)
    }
  }

  /** Forget a token, or all (null): also those that a request in flight is about to bring. */
  #forget(id) {
    if (id === null) {
      this.#flights.clear()
      this.#cache.clear()
      return
    }
    for (const flight of this.#flights.keys()) {
      if (flight === id || flight.startsWith(`${id}\n`)) this.#flights.delete(flight)
    }
    this.#cache.drop(id)
  }
}

function required(env, name, beside) {
  if (!env[name]) throw new TypeError(`${beside} is set: set ${name} too`)
  return env[name]
}

function withToken(url, init, token) {
  const headers = new Headers(init.headers ?? (url instanceof Request ? url.headers : undefined))
  headers.set('Authorization', token.authorization)
  return { ...init, headers }
}

/** Whether the body, if there is one, is in memory: a stream is spent after the first request. */
function canRepeat(url, init) {
  if (init.body === undefined || init.body === null) return !(url instanceof Request) || url.body === null
  const { body } = init
  return (
    typeof body === 'string' ||
    body instanceof URLSearchParams ||
    body instanceof FormData ||
    body instanceof Blob ||
    body instanceof ArrayBuffer ||
    ArrayBuffer.isView(body)
  )
}

/** Whether a redirect led to another origin, to which `fetch` doesn't send the token. */
function wentElsewhere(url, response) {
  const from = new URL(url instanceof Request ? url.url : url)
  return response.redirected && new URL(response.url).origin !== from.origin
}

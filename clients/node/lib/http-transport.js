// Tokens from `refreshd serve`, by Node's own HTTP client: `fetch` can't use a Unix socket.
import http from 'node:http'
import https from 'node:https'

import { challengeOf, Link, newVerifier } from './consent.js'
import {
  ConsentFailed,
  Expired,
  NeedsReauth,
  NotConnected,
  NotSupported,
  Paused,
  Rejected,
  Unavailable,
} from './errors.js'
import { Token } from './token.js'

const AGENT = 'refreshd-reader-node/0.1.0'
const PROBLEM = 'urn:refreshd:problem:'
const GRANT = 'application/vnd.refreshd.grant+json'
const LARGEST = 4 << 20 // bytes of an answer
const CONNECTIONS = 16
const IDLE = 20_000 // ms. Servers and proxies close idle connections, and a request may not race with that
const RENEWING = 15 // seconds to the daemon's next sweep, if the answer doesn't say

/** One access key at one `refreshd serve`. Follows no redirect, and uses no proxy. */
export class HttpTransport {
  #place
  #client
  #options
  #prefix
  #headers
  #prefer
  #deadline

  constructor({ url, accessKey, wait, timeout }) {
    const key = String(accessKey ?? '').trim()
    if (!/^[\x21-\x7e]+$/.test(key)) {
      throw new TypeError('the access key must be one that `refreshd access create` has printed')
    }
    this.#place = url
    this.#deadline = (wait + timeout) * 1000
    const settings = { keepAlive: true, maxFreeSockets: CONNECTIONS, timeout: IDLE }
    const socketPath = /^unix:(?:\/\/)?(\/.*)$/.exec(url)?.[1]
    if (socketPath !== undefined) {
      this.#client = http
      this.#prefix = ''
      this.#options = { socketPath, host: 'localhost', agent: new http.Agent(settings) }
    } else {
      const { protocol, hostname, port, pathname, username, search, hash } = parsed(url)
      if (username || search || hash) {
        throw new TypeError('REFRESHD_URL: a password or a query has no place here')
      }
      this.#client = protocol === 'https:' ? https : http
      this.#prefix = pathname.replace(/\/+$/, '')
      const host = hostname.replace(/^\[|\]$/g, '') // of an IPv6 address
      this.#options = { host, port: port || undefined, agent: new this.#client.Agent(settings) }
    }
    this.#headers = { Accept: 'application/json', Authorization: `Bearer ${key}`, 'User-Agent': AGENT }
    this.#prefer = { Prefer: `wait=${Math.max(0, Math.round(wait))}` }
  }

  /** The token. The service waits for a renewal in progress. */
  async read(provider, account) {
    const answer = await this.#request('GET', path(provider, account), this.#prefer)
    return this.#reading(provider, account, answer)
  }

  /** Request an early renewal of this version, and wait for it. */
  async refused(token) {
    const to = `${path(token.provider, token.account)}/refused`
    const answer = await this.#request('POST', to, this.#prefer, { version: token.version })
    if (answer.status === 202) throw new Expired(`${token.id}: not renewed yet`, answer.retryAfter ?? RENEWING)
    return this.#reading(token.provider, token.account, answer)
  }

  /** Store a provider's token response. Resolves to whether the token is new. */
  async store(provider, account, { response, receivedAt, consentedAt, vars, meta, subject }) {
    const more = {
      received_at: receivedAt?.toISOString(),
      consented_at: consentedAt?.toISOString(),
      vars,
      meta,
      subject,
    }
    const isMore = Object.values(more).some((value) => value !== undefined)
    const headers = { 'Content-Type': isMore ? GRANT : 'application/json' }
    const body = isMore ? { response, ...more } : response
    const answer = await this.#request('PUT', path(provider, account), headers, body)
    this.#done(`${provider}:${account}`, answer)
    return answer.status === 201
  }

  /** Remove the token, or have it revoked first. */
  async remove(provider, account, revoke) {
    const id = `${provider}:${account}`
    const answer = await this.#request('DELETE', `${path(provider, account)}?revoke=${revoke}`, {})
    this.#done(id, answer)
    return { id, state: answer.status === 202 ? 'revoking' : 'removed' }
  }

  /** Remove all tokens of this subject. The service removes some in each request, and says where it ended. */
  async removeAll(subject, revoke) {
    const to = `/v1/subjects/${segment(subject)}/tokens?revoke=${revoke}`
    const endings = []
    for (let next = null; ; ) {
      const answer = await this.#request('DELETE', next === null ? to : `${to}&after=${segment(next)}`, {})
      this.#done(`subject ${JSON.stringify(subject)}`, answer)
      const items = Array.isArray(answer.found) ? answer.found : (answer.body.items ?? [])
      endings.push(...items.map(({ id, result, state }) => ({ id, state: result ?? state })))
      const following = answer.body?.next ?? null
      if (following === null || following === next) return endings
      next = following
    }
  }

  /** Begin a consent. A request that is sent twice leaves a link that nobody uses. */
  async connect({ provider, account, returnUrl, scopes, vars, meta, subject, replace }) {
    const verifier = newVerifier()
    const body = {
      provider,
      account,
      return_url: returnUrl,
      code_challenge: challengeOf(verifier),
      scopes,
      vars,
      meta,
      subject,
      replace: replace || undefined,
    }
    const answer = await this.#request('POST', '/v1/connect', {}, body)
    this.#done(`${provider}:${account}`, answer)
    const { id, connect_url: url, expires_at: end } = answer.body
    if (typeof id !== 'string' || typeof url !== 'string') {
      throw new Unavailable(`${this.#place}: its answer is not a link`)
    }
    return new Link({ id, url, verifier, expiresAt: dateOf(end) })
  }

  /** Have the token stored. A daemon that needs longer leaves the consent as `asked`. */
  async complete(id, connectCode, verifier) {
    const proof = { connect_code: connectCode, code_verifier: verifier }
    return this.#consent(id, await this.#request('POST', `/v1/connect/${segment(id)}/complete`, {}, proof))
  }

  /** What has become of a consent. */
  async consent(id) {
    return this.#consent(id, await this.#request('GET', `/v1/connect/${segment(id)}`, {}))
  }

  #consent(id, answer) {
    const { body } = answer
    const failure = typeof body.failure?.kind === 'string' ? body.failure : null
    if (answer.problem === 'conflict' && failure !== null) {
      const text = `consent ${id}: ${body.detail ?? 'no token was stored'} (${failure.kind})`
      throw new ConsentFailed(text, failure.kind, failure.code ?? null)
    }
    this.#done(`consent ${id}`, answer)
    if (body.id !== id || typeof body.state !== 'string') {
      throw new Unavailable(`${this.#place}: its answer is not this consent`)
    }
    return {
      id,
      state: body.state,
      held: body.held === true,
      scope: body.scope ?? null,
      missingScopes: body.missing_scopes ?? [],
      expiresAt: dateOf(body.expires_at),
      failure: failure === null ? null : { kind: failure.kind, code: failure.code ?? null },
    }
  }

  async close() {
    this.#options.agent.destroy()
  }

  async #request(method, to, headers, body) {
    const sent = body === undefined ? undefined : Buffer.from(JSON.stringify(body))
    const declared = sent === undefined ? {} : { 'Content-Type': 'application/json', 'Content-Length': sent.length }
    const options = {
      ...this.#options,
      method,
      path: `${this.#prefix}${to}`,
      headers: { ...this.#headers, ...declared, ...headers },
    }
    try {
      return await this.#send(options, sent)
    } catch (error) {
      throw new Unavailable(`${this.#place}: ${error.code ?? error.message}`)
    }
  }

  /** Send a request, and again if the kept connection turns out to be closed: each of them can be sent twice. */
  async #send(options, sent) {
    for (;;) {
      const request = this.#client.request({ ...options, signal: AbortSignal.timeout(this.#deadline) })
      try {
        return await exchange(request, sent)
      } catch (error) {
        if (!request.reusedSocket || !['ECONNRESET', 'EPIPE'].includes(error.code)) throw error
      }
    }
  }

  #reading(provider, account, answer) {
    const id = `${provider}:${account}`
    this.#done(id, answer)
    const { body } = answer
    const isText = typeof body.access_token === 'string' && body.access_token !== ''
    if (body.id !== id || !isText || typeof body.version !== 'string') {
      throw new Unavailable(`${this.#place}: its answer is not this token`)
    }
    const expiresAt = dateOf(body.expires_at)
    const token = new Token({
      provider,
      account,
      accessToken: body.access_token,
      version: body.version,
      expiresAt,
      tokenType: body.token_type,
      scope: body.scope,
      missingScopes: body.missing_scopes,
      extra: body.extra,
      subject: body.subject,
    })
    const byDate = expiresAt === null ? null : (expiresAt.getTime() - Date.now()) / 1000
    return { token, secondsLeft: typeof body.expires_in === 'number' ? body.expires_in : byDate }
  }

  /** Throw the error that the answer is, if it is one. */
  #done(what, answer) {
    if (![200, 201, 202, 204].includes(answer.status)) throw errorOf(this.#place, what, answer)
  }
}

/** The error for an answer. An answer that doesn't come from refreshd says nothing about a token. */
function errorOf(place, what, { status, body, problem, retryAfter }) {
  const text = `${what}: ${body.detail ?? body.title ?? problem}`
  switch (problem) {
    case 'not-found':
    case 'revoking':
      return new NotConnected(text)
    case 'needs-reauth':
      return new NeedsReauth(text, body.reconnect_url ?? null)
    case 'paused':
      return new Paused(text)
    case 'renewing':
      return new Expired(text, retryAfter ?? RENEWING)
    case 'not-implemented':
    case 'method-not-allowed':
      return new NotSupported(text)
    case 'rate-limited':
    case 'unavailable':
    case 'internal':
      return new Unavailable(text, retryAfter)
    case null:
      return new Unavailable(`${place}: HTTP ${status}, and not from refreshd`, retryAfter)
    default:
      return new Rejected(`${text} (${problem})`, problem, status)
  }
}

function dateOf(text) {
  return typeof text === 'string' ? new Date(text) : null
}

function exchange(request, sent) {
  return new Promise((resolve, reject) => {
    request.on('error', reject)
    request.on('response', (response) => {
      const parts = []
      let size = 0
      response.on('data', (part) => {
        size += part.length
        if (size > LARGEST) response.destroy(new Error(`an answer of more than ${LARGEST} bytes`))
        else parts.push(part)
      })
      response.on('error', reject)
      response.on('end', () => resolve(answerOf(response, Buffer.concat(parts))))
    })
    request.end(sent)
  })
}

function answerOf(response, raw) {
  let found = null
  if (raw.length > 0 && (response.headers['content-type'] ?? '').includes('json')) {
    try {
      found = JSON.parse(raw.toString('utf8'))
    } catch {
      found = null
    }
  }
  const body = found !== null && typeof found === 'object' && !Array.isArray(found) ? found : {}
  const isProblem = typeof body.type === 'string' && body.type.startsWith(PROBLEM)
  return {
    status: response.statusCode,
    found,
    body,
    problem: isProblem ? body.type.slice(PROBLEM.length) : null,
    retryAfter: seconds(response.headers['retry-after']),
  }
}

/** The seconds of a Retry-After: a number of seconds or a date (RFC 9110, section 10.2.3). */
function seconds(header) {
  if (header === undefined) return null
  if (/^\d+$/.test(header)) return Number(header)
  const at = Date.parse(header)
  return Number.isNaN(at) ? null : Math.max(0, (at - Date.now()) / 1000)
}

function parsed(url) {
  let found = null
  try {
    found = new URL(url)
  } catch {
    found = null
  }
  if (!['http:', 'https:'].includes(found?.protocol)) {
    throw new TypeError('REFRESHD_URL: use https://HOST, http://HOST:PORT or unix:/PATH')
  }
  return found
}

/** The text as one segment of a path. A segment of dots would be resolved, so they are encoded too. */
function segment(text) {
  return /^\.+$/.test(text) ? text.replaceAll('.', '%2E') : encodeURIComponent(text)
}

function path(provider, account) {
  return `/v1/tokens/${segment(provider)}/${segment(account)}`
}

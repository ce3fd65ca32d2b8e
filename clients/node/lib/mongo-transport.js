// Tokens from refreshd's MongoDB collection. This needs the package `mongodb`, which is imported when it is used.
import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'

import { Expired, NeedsReauth, NotConnected, NotSupported, Paused, Rejected, Unavailable } from './errors.js'
import { ReaderKeys } from './sealing.js'
import { Token } from './token.js'

const DATABASE = 'refreshd'
const MONGODBS_OWN = new Set(['admin', 'local', 'config'])
const FIELDS = {
  state: 1,
  access_token: 1,
  issued_at: 1,
  expires_at: 1,
  refreshed_at: 1,
  due_at: 1,
  failures: 1,
  refused: 1,
  token_type: 1,
  scope: 1,
  missing_scopes: 1,
  extra: 1,
  subject: 1,
  now: '$$NOW', // MongoDB's clock decides what is past, not this machine's
}
const SWEEP = 15 // seconds between two sweeps of the daemon, by default
const LOOK_AGAIN = 1 // seconds between two looks at a token that is being renewed
// The bounds of `refreshd serve` for early renewals:
const LEAST_APART = 10 // seconds, of two renewals
const REFUSALS_APART = 60 // seconds, of two renewals that were requested after a 401, or a tenth of the lifetime
const MOST_IN_A_ROW = 3

/** Reads sealed tokens, and requests early renewals. It can't store or remove tokens. */
export class MongoTransport {
  #uri
  #keys
  #database
  #collection
  #wait
  #timeout
  #client = null

  constructor({ uri, readers, database, collection, wait, timeout }) {
    this.#uri = uri
    this.#keys = new ReaderKeys(readers)
    this.#database = database ?? databaseOf(uri)
    this.#collection = collection
    this.#wait = wait
    this.#timeout = timeout * 1000
  }

  /** The stored token, if it may be used. */
  async read(provider, account) {
    return this.#reading(provider, account, await this.#find(`${provider}:${account}`))
  }

  /** Make the token due now, if `refreshd serve` would do so too, and wait for another version. */
  async refused(token) {
    const stored = await this.#find(token.id)
    const reading = this.#reading(token.provider, token.account, stored)
    if (reading.token.version !== token.version) return reading
    const wish = wishFor(token, stored)
    if (wish !== null) await this.#requestRenewal(token.id, stored, wish)
    return this.#waitForAnother(token)
  }

  async store(provider, account) {
    throw new NotSupported(`${provider}:${account}: to store a token, use refreshd serve (REFRESHD_URL)`)
  }

  async remove(provider, account) {
    throw new NotSupported(`${provider}:${account}: to remove a token, use refreshd serve (REFRESHD_URL)`)
  }

  async removeAll(subject) {
    throw new NotSupported(`subject ${JSON.stringify(subject)}: to remove tokens, use refreshd serve (REFRESHD_URL)`)
  }

  async connect({ provider, account }) {
    throw new NotSupported(`${provider}:${account}: to connect an account, use refreshd serve (REFRESHD_URL)`)
  }

  async complete(id) {
    throw new NotSupported(`consent ${id}: to complete it, use refreshd serve (REFRESHD_URL)`)
  }

  async consent(id) {
    throw new NotSupported(`consent ${id}: to follow it, use refreshd serve (REFRESHD_URL)`)
  }

  /** Close the client. The next request opens another one. */
  async close() {
    const client = await this.#client?.catch(() => null)
    this.#client = null
    await client?.close()
  }

  async #tokens() {
    this.#client ??= this.#open()
    try {
      const client = await this.#client
      // A secondary may still hold the token of before.
      const options = { readPreference: 'primary', writeConcern: { w: 'majority' } }
      return client.db(this.#database).collection(this.#collection, options)
    } catch (error) {
      this.#client = null
      throw error
    }
  }

  async #open() {
    let driver
    try {
      driver = await import('mongodb')
    } catch {
      throw new TypeError('MONGODB_URI needs the package mongodb: npm install mongodb')
    }
    return new driver.MongoClient(this.#uri, { appName: 'refreshd-reader', serverSelectionTimeoutMS: this.#timeout })
  }

  async #find(id) {
    let found
    try {
      const tokens = await this.#tokens()
      found = await tokens.findOne({ _id: id }, { projection: FIELDS, maxTimeMS: this.#timeout })
    } catch (error) {
      throw unavailable(error)
    }
    if (found === null) throw new NotConnected(`${id}: not stored`)
    return found
  }

  #reading(provider, account, stored) {
    const id = `${provider}:${account}`
    switch (stored.state) {
      case 'active':
        break
      case 'needs_reauth':
        throw new NeedsReauth(`${id}: the customer has to connect again`)
      case 'paused':
        throw new Paused(`${id}: paused`)
      case 'revoking':
      case 'revoked':
      case 'removed':
        throw new NotConnected(`${id}: removed`)
      default:
        throw new Unavailable(`${id}: its state is one that this version can't read`)
    }
    const { now, access_token: sealed, expires_at: expiresAt } = stored
    const isDate = expiresAt instanceof Date
    if (!isDate && expiresAt !== null && expiresAt !== undefined) {
      throw new Unavailable(`${id}: its expires_at is not a date`)
    }
    if (isDate && expiresAt <= now && !(stored.due_at instanceof Date)) {
      throw new NeedsReauth(`${id}: expired, and refreshd can't renew it`)
    }
    if (isDate && expiresAt <= now) {
      throw new Expired(`${id}: expired, and refreshd is renewing it`, untilDue(stored))
    }
    const token = new Token({
      provider,
      account,
      accessToken: this.#keys.open(sealed, id),
      version: createHash('sha256').update(sealed).digest('base64url').slice(0, 22),
      expiresAt: isDate ? expiresAt : null,
      tokenType: stored.token_type,
      scope: stored.scope,
      missingScopes: stored.missing_scopes,
      extra: stored.extra,
      subject: stored.subject,
    })
    return { token, secondsLeft: isDate ? (expiresAt - now) / 1000 : null }
  }

  /** Write the wish, unless the token has changed: then it was renewed already, or will be. */
  async #requestRenewal(id, stored, wish) {
    const unchanged = {
      _id: id,
      access_token: stored.access_token,
      state: 'active',
      failures: { $in: [0, null] },
      due_at: { $gt: stored.now },
    }
    try {
      const tokens = await this.#tokens()
      await tokens.updateOne(unchanged, { $set: wish }, { maxTimeMS: this.#timeout })
    } catch (error) {
      throw unavailable(error)
    }
  }

  async #waitForAnother(token) {
    const giveUp = performance.now() + this.#wait * 1000
    for (;;) {
      const stored = await this.#find(token.id)
      const reading = this.#reading(token.provider, token.account, stored)
      if (reading.token.version !== token.version) return reading
      if (performance.now() + LOOK_AGAIN * 1000 > giveUp) {
        throw new Expired(`${token.id}: not renewed yet`, untilDue(stored))
      }
      await sleep(LOOK_AGAIN * 1000)
    }
  }
}

/**
 * The fields that make a refused token due now, or null if it is due already.
 *
 * The bounds are those of `refreshd serve`, and are stored with the token: so they hold for all applications together.
 */
function wishFor(token, stored) {
  const { now } = stored
  const [dueAt, refreshedAt] = [date(stored.due_at), date(stored.refreshed_at)]
  if (dueAt === null || stored.failures > 0) throw new Expired(`${token.id}: its last renewal failed`, untilDue(stored))
  const before = stored.refused ?? {}
  if (dueAt <= now || before.version === token.version) return null
  const [last, usual] = [date(before.at), date(before.usual)]
  const cameEarly = usual === null || refreshedAt === null || refreshedAt < usual
  const count = last !== null && cameEarly ? times(before.count) + 1 : 1
  if (count > MOST_IN_A_ROW) {
    const message = `${token.id}: the provider refuses its new access tokens too, so they are not the cause`
    throw new Rejected(message, 'refused-again', 409)
  }
  const free = Math.max(
    refreshedAt === null ? 0 : refreshedAt.getTime() + LEAST_APART * 1000,
    last === null ? 0 : last.getTime() + gap(stored) * 1000,
  )
  if (free > now) throw new Expired(`${token.id}: renewed just now`, (free - now) / 1000)
  return { due_at: now, refused: { version: token.version, at: now, count, usual: dueAt } }
}

/** The database in the path of the URI, unless it is one of MongoDB's own; else `refreshd`. */
function databaseOf(uri) {
  const path = /^[a-z+]+:\/\/[^/]+\/([^?]*)/.exec(uri)?.[1] ?? ''
  const found = decodeURIComponent(path)
  return found === '' || MONGODBS_OWN.has(found) ? DATABASE : found
}

/** How often a token was refused in a row. It was once, whatever number another program has stored. */
function times(count) {
  const number = typeof count?.toNumber === 'function' ? count.toNumber() : count
  return typeof number === 'number' && number > 1 ? Math.trunc(number) : 1
}

/** The seconds between two early renewals: a tenth of the lifetime, and at least a minute. */
function gap({ issued_at: issuedAt, expires_at: expiresAt }) {
  if (!(issuedAt instanceof Date && expiresAt instanceof Date)) return REFUSALS_APART
  return Math.max(REFUSALS_APART, (expiresAt - issuedAt) / 10_000)
}

/** The seconds until the daemon tries again, as far as the document says. */
function untilDue({ due_at: dueAt, now }) {
  return Math.max(SWEEP, dueAt instanceof Date ? (dueAt - now) / 1000 : 0)
}

function date(value) {
  return value instanceof Date ? value : null
}

/** A wrong setting stays what it is. */
function unavailable(error) {
  return error instanceof TypeError ? error : new Unavailable(`MongoDB: ${error.name}`)
}

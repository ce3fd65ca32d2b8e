// Does what a case of cases.json says with the installed package. A line of JSON in, a line of JSON out.
import { createInterface } from 'node:readline'
import { inspect } from 'node:util'
import { ReaderError, Tokens } from 'refreshd-reader'
import { Cache } from './node_modules/refreshd-reader/lib/cache.js'

const PROVIDER = 'sandbox'
const realNow = performance.now.bind(performance)
let tokens, token, before, link

const tokenOf = (one) => ({
  access_token: one.accessToken,
  expires_at: one.expiresAt && one.expiresAt.getTime() / 1000,
  token_type: one.tokenType,
  scope: one.scope,
  missing_scopes: one.missingScopes,
  extra: one.extra,
  subject: one.subject,
  version: one.version,
})

const consentOf = (one) => ({
  state: one.state,
  held: one.held,
  scope: one.scope,
  missing_scopes: one.missingScopes,
  ends: one.expiresAt instanceof Date,
  failure: one.failure,
})

function errorOf(error) {
  if (!(error instanceof ReaderError)) return { kind: error instanceof TypeError ? 'Setting' : error.name }
  const found = { kind: error.name }
  if ('reconnectUrl' in error) found.reconnect_url = error.reconnectUrl
  if ('retryAfter' in error) found.retry_after = error.retryAfter
  if ('problem' in error) found.problem = error.problem
  if ('code' in error) found.code = error.code
  return found
}

async function* parts() {
  yield Buffer.from('one')
  yield Buffer.from('two')
}

const actions = {
  async open() {
    await tokens?.close()
    tokens = Tokens.fromEnv()
    return true
  },
  async get({ account }) {
    token = await tokens.get(PROVIDER, account)
    return tokenOf(token)
  },
  is_valid: ({ account }) => tokens.isValid(PROVIDER, account),
  async refused() {
    const newer = await tokens.refused(token)
    before = token
    token = newer
    return tokenOf(token)
  },
  refused_before: async () => tokenOf(await tokens.refused(before)),
  async fetch({ account, url, method, body }) {
    const init = { method }
    if (body === 'stream') Object.assign(init, { body: parts(), duplex: 'half' })
    else if (body !== undefined) init.body = body
    const answer = await tokens.fetch(PROVIDER, account, url, init)
    await answer.text()
    return { status: answer.status }
  },
  async burst({ account }) {
    const found = await Promise.all(Array.from({ length: 20 }, () => tokens.get(PROVIDER, account)))
    return { versions: [...new Set(found.map((one) => one.version))].sort() }
  },
  advance({ seconds }) {
    performance.now = () => realNow() + seconds * 1000
    return true
  },
  least_recently_used() {
    const small = new Cache(2)
    for (const name of ['a', 'b']) small.put(name, name, null, 0)
    small.get('a')
    small.put('c', 'c', null, 0)
    return ['a', 'b', 'c'].filter((name) => small.get(name) !== undefined)
  },
  async connect({ account, wish: { return_url: returnUrl, ...wish } }) {
    link = await tokens.connect(PROVIDER, account, { returnUrl, ...wish })
    return { id: link.id, url: link.url, verifier: link.verifier, ends: link.expiresAt instanceof Date }
  },
  printed_link: () => [
    inspect(link, { showHidden: true, depth: 5 }),
    String(link),
    JSON.stringify(link),
    JSON.stringify({ ...link }),
  ],
  complete: async ({ id, code, verifier }) =>
    consentOf(await tokens.complete(id ?? link.id, code, verifier ?? link.verifier)),
  consent: async ({ id }) => consentOf(await tokens.consent(id ?? link.id)),
  printed() {
    return [
      inspect(token, { showHidden: true, depth: 5 }),
      String(token),
      JSON.stringify(token),
      JSON.stringify(structuredClone(token)),
      JSON.stringify({ ...token }),
      Object.values(token).join(),
    ]
  },
  store({ account, response, consented_at: consentedAt, subject }) {
    const more = consentedAt === undefined ? {} : { consentedAt: new Date(consentedAt) }
    return tokens.store(PROVIDER, account, response, { subject, ...more })
  },
  remove: async ({ account, revoke }) => (await tokens.remove(PROVIDER, account, { revoke })).state,
  async remove_all({ subject, revoke }) {
    const endings = await tokens.removeAll(subject, { revoke })
    return endings.map(({ id, state }) => [id, state]).sort()
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line)
  if (request.do === 'open') {
    performance.now = realNow
    for (const name of ['REFRESHD_URL', 'REFRESHD_ACCESS_KEY', 'MONGODB_URI', 'REFRESHD_READERS']) delete process.env[name]
    Object.assign(process.env, request.env)
  }
  let answer
  try {
    answer = { value: await actions[request.do](request) }
  } catch (error) {
    answer = { error: errorOf(error), message: String(error.message) }
  }
  console.log(JSON.stringify(answer))
}
process.exit(0)

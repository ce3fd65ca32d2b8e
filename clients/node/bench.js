// The cost of the cache: the time of a hit, and the memory of 10,000 tokens.
//
//     node --expose-gc bench.js     exits with 1 if a hit takes 50 µs or more, or 10,000 tokens 10 MB or more
import { Token } from './lib/token.js'
import { Tokens } from './lib/tokens.js'

const TOKENS = 10_000
const TEXT = 200 // characters of an access token
const HITS = 100_000
const MOST_MICROSECONDS = 50
const MOST_MEGABYTES = 10

class MadeUp {
  async read(provider, account) {
    const answer = JSON.stringify({
      access_token: `${account}-`.padEnd(TEXT, 'x'),
      expires_at: new Date(Date.now() + 3_600_000).toISOString(),
      scope: 'offline_access accounting.transactions accounting.contacts',
      version: `${account}-`.padEnd(22, 'v'),
      extra: { api_domain: `https://${account}.example.com` },
    })
    const body = JSON.parse(answer)
    const token = new Token({
      provider,
      account,
      accessToken: body.access_token,
      version: body.version,
      expiresAt: new Date(body.expires_at),
      scope: body.scope,
      extra: body.extra,
    })
    return { token, secondsLeft: 3600 }
  }
}

async function full() {
  const tokens = new Tokens(new MadeUp())
  for (let number = 0; number < TOKENS; number++) await tokens.get('xero', `company-${number}`)
  return tokens
}

globalThis.gc()
const before = process.memoryUsage().heapUsed
const tokens = await full()
globalThis.gc()
const megabytes = (process.memoryUsage().heapUsed - before) / 1e6
const started = performance.now()
for (let number = 0; number < HITS; number++) await tokens.get('xero', `company-${number % TOKENS}`)
const hit = ((performance.now() - started) * 1000) / HITS
console.log(`hit                    ${hit.toFixed(2)} µs`)
console.log(`${TOKENS} tokens of ${TEXT} characters  ${megabytes.toFixed(1)} MB`)
process.exitCode = hit >= MOST_MICROSECONDS || megabytes >= MOST_MEGABYTES ? 1 : 0

// oidc-provider on a free port of this machine, with its own sign-in, consent and device pages. It takes the
// client `web` by pushed authorization requests only, rotates refresh tokens, and ends a grant whose spent refresh token comes again.
//
//     node oidc.mjs REDIRECT_URI [REDIRECT_URI of the client `hosted`]
//
// It prints one JSON line when it listens, and runs until its standard input ends.
import { createServer } from 'node:http'
import { Provider } from 'oidc-provider'

const [redirectUri, hostedUri] = process.argv.slice(2)
const server = createServer()
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
const issuer = `http://127.0.0.1:${server.address().port}`
const secret = 's p+c/i:a%l-and-long-enough-for-every-algorithm'
const refreshing = { grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'] }
const provider = new Provider(issuer, {
  clients: [
    {
      ...refreshing,
      client_id: 'web',
      client_secret: secret,
      application_type: 'native', // allows the loopback address
      redirect_uris: [redirectUri],
      token_endpoint_auth_method: 'client_secret_basic',
      require_pushed_authorization_requests: true,
    },
    {
      ...refreshing,
      client_id: 'hosted',
      client_secret: secret,
      application_type: 'native',
      redirect_uris: [hostedUri ?? redirectUri],
      token_endpoint_auth_method: 'client_secret_basic',
    },
    {
      client_id: 'device',
      application_type: 'native',
      grant_types: ['urn:ietf:params:oauth:grant-type:device_code', 'refresh_token'],
      response_types: [],
      redirect_uris: [],
      token_endpoint_auth_method: 'none',
    },
  ],
  features: {
    devInteractions: { enabled: true },
    deviceFlow: { enabled: true },
    pushedAuthorizationRequests: { enabled: true },
    revocation: { enabled: true },
  },
  rotateRefreshToken: true,
  ttl: { AccessToken: 3600, RefreshToken: 86400, DeviceCode: 600, Grant: 86400, Session: 3600, Interaction: 600 },
})
const answers = []
provider.on('grant.error', (_ctx, error) => answers.push(error.message))
server.on('request', (request, response) => {
  if (request.url === '/errors') {
    response.end(JSON.stringify(answers))
  } else {
    provider.callback()(request, response)
  }
})
console.log(JSON.stringify({ issuer }))
process.stdin.resume()
process.stdin.on('end', () => process.exit(0))

// The same rival, tuned by hand: simple-oauth2 gives way to a pool of undici's, and the request is made by hand.

import { Pool } from 'undici';

import { run, settings } from './job.js';

const pool = new Pool(settings.tokenUrl.origin, { connections: settings.inFlight, pipelining: 1 });
const credentials = [settings.clientId, settings.clientSecret].map(encodeURIComponent).join(':');
const headers = {
  accept: 'application/json',
  authorization: `Basic ${Buffer.from(credentials).toString('base64')}`,
  'content-type': 'application/x-www-form-urlencoded',
};

await run(async (refreshToken) => {
  const { statusCode, body } = await pool.request({
    method: 'POST',
    path: settings.tokenUrl.pathname,
    headers,
    body: `grant_type=refresh_token&refresh_token=${encodeURIComponent(refreshToken)}`,
  });
  if (statusCode !== 200) throw new Error(`the provider answers ${statusCode}: ${await body.text()}`);
  return body.json();
});

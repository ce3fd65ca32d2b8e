// A rival: Agenda, simple-oauth2 and the mongodb driver, each as its README has it. It opens a connection for each
// request: simple-oauth2 copies its HTTP options to the ground, and an agent that keeps connections does not survive it.

import { AuthorizationCode } from 'simple-oauth2';

import { run, settings } from './job.js';

const client = new AuthorizationCode({
  client: { id: settings.clientId, secret: settings.clientSecret },
  auth: { tokenHost: settings.tokenUrl.origin, tokenPath: settings.tokenUrl.pathname },
});

await run(async (refreshToken) => {
  const renewed = await client.createToken({ refresh_token: refreshToken }).refresh();
  return renewed.token;
});

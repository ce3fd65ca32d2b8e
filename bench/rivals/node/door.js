// What a user would build to hand out access tokens: Express, the MongoDB driver and node's crypto. A key in memory, as its
// hash; the token read from MongoDB at each request, opened, and given while it lives.

import { createHash, timingSafeEqual } from 'node:crypto';

import express from 'express';
import { MongoClient } from 'mongodb';

import { Sealer } from './sealed.js';

const { uri, database, keyId, key, accessKey, port } = JSON.parse(process.env.DOOR);
const hash = (text) => createHash('sha256').update(text).digest();
const expected = hash(accessKey);
const sealer = new Sealer(keyId, Buffer.from(key, 'base64'));
const client = await MongoClient.connect(uri);
const tokens = client.db(database).collection('tokens');
const projection = { access_token: 1, expires_at: 1, state: 1, scope: 1, token_type: 1 };

const app = express();
app.disable('x-powered-by');
app.get('/readyz', (_request, answer) => answer.json({ status: 'ready' }));
app.get('/v1/tokens/:provider/:account', async (request, answer) => {
  const [scheme, text] = (request.get('authorization') ?? '').split(' ');
  if (scheme !== 'Bearer' || !timingSafeEqual(hash(text ?? ''), expected)) return answer.sendStatus(401);
  const id = `${request.params.provider}:${request.params.account}`;
  const token = await tokens.findOne({ _id: id }, { projection });
  if (token?.state !== 'active') return answer.sendStatus(404);
  if (token.expires_at <= new Date()) return answer.sendStatus(503);
  return answer.set('Cache-Control', 'no-store').json({
    id,
    access_token: sealer.open(token.access_token, { tokenId: id, field: 'access_token' }),
    token_type: token.token_type,
    expires_at: token.expires_at,
    scope: token.scope,
  });
});
app.listen(port, '127.0.0.1').keepAliveTimeout = 120_000; // it would close idle connections after five seconds

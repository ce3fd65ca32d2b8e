// What both rivals in Node share: an Agenda job that finds the due tokens and refreshes so many of them at a time.

import { MongoBackend } from '@agendajs/mongo-backend';
import { Agenda } from 'agenda';
import { MongoClient } from 'mongodb';

import { Sealer } from './sealed.js';

const JOB = 'refresh due tokens';
const WINDOW_MS = 5 * 60 * 1000; // a token is due as long before its expiry

export const settings = {
  mongodb: process.env.RIVAL_MONGODB,
  database: process.env.RIVAL_DATABASE,
  tokenUrl: new URL(process.env.RIVAL_TOKEN_URL),
  inFlight: Number(process.env.RIVAL_IN_FLIGHT),
  clientId: process.env.RIVAL_CLIENT_ID,
  clientSecret: process.env.RIVAL_CLIENT_SECRET,
};
const sealer = new Sealer(process.env.RIVAL_KEY_ID, Buffer.from(process.env.RIVAL_KEY, 'base64'));

/** Runs for good. `refresh` presents a refresh token and gives the provider's reply. */
export async function run(refresh) {
  const mongo = await MongoClient.connect(settings.mongodb, { writeConcern: { w: 'majority', journal: true } });
  const database = mongo.db(settings.database);
  const tokens = database.collection('tokens');
  await tokens.createIndex({ state: 1, due_at: 1 });

  const agenda = new Agenda({ backend: new MongoBackend({ mongo: database }), processEvery: '1 second' });
  agenda.define(JOB, () => sweep(tokens, refresh));
  await agenda.start();
  await agenda.every('1 second', JOB);
  console.log('ready');
}

async function sweep(tokens, refresh) {
  const due = tokens.find(
    { state: 'active', due_at: { $lte: new Date() } },
    { projection: { refresh_token: 1 } },
  );
  const next = due[Symbol.asyncIterator]();
  await Promise.all(Array.from({ length: settings.inFlight }, () => worker(next, tokens, refresh)));
}

async function worker(next, tokens, refresh) {
  for (let item = await next.next(); !item.done; item = await next.next()) {
    try {
      await renew(item.value, tokens, refresh);
    } catch (error) {
      console.error(`${item.value._id}: ${error.stack}`);
    }
  }
}

async function renew(token, tokens, refresh) {
  const tokenId = token._id;
  const askedAt = new Date();
  const reply = await refresh(sealer.open(token.refresh_token, { tokenId, field: 'refresh_token' }));
  const now = new Date();
  const expiresAt = new Date(askedAt.getTime() + reply.expires_in * 1000);
  const $set = {
    access_token: sealer.seal(reply.access_token, { tokenId, field: 'access_token' }),
    token_type: reply.token_type,
    scope: reply.scope,
    expires_at: expiresAt,
    due_at: new Date(expiresAt.getTime() - WINDOW_MS),
    issued_at: askedAt,
    refreshed_at: now,
    updated_at: now,
  };
  if (reply.refresh_token) {
    $set.refresh_token = sealer.seal(reply.refresh_token, { tokenId, field: 'refresh_token' });
  }
  await tokens.updateOne({ _id: tokenId }, { $set, $inc: { revision: 1 } });
}

// Like driver.py, with openid-client or simple-oauth2.
import { Issuer } from "openid-client";
import { AuthorizationCode } from "simple-oauth2";
import { text } from "node:stream/consumers";

const [library, url, key, resource, count] = process.argv.slice(2);
const handles = JSON.parse(await text(process.stdin));
const keyId = key.slice(4, 24);
const TRIES = 20;
const PAUSE = 100;

const works = async (token) =>
  (await fetch(resource, { headers: { Authorization: `Bearer ${token}` } })).status === 200;

async function openid() {
  // By discovery (RFC 8414), as the library does it.
  const { origin, pathname } = new URL(url);
  const issuer = await Issuer.discover(
    `${origin}/.well-known/oauth-authorization-server${pathname.replace(/\/token$/, "")}`,
  );
  const client = new issuer.Client({ client_id: keyId, client_secret: key, response_types: [] });
  return async (handle) => (await client.refresh(handle)).access_token;
}

function simple() {
  const { origin, pathname } = new URL(url);
  const client = new AuthorizationCode({
    client: { id: keyId, secret: key },
    auth: { tokenHost: origin, tokenPath: pathname },
  });
  return async (handle) =>
    (await client.createToken({ access_token: "expired", refresh_token: handle }).refresh()).token.access_token;
}

const refresh = library === "openid-client" ? await openid() : simple();
let got = 0;
let taken = 0;
for (let turn = 0; turn < Number(count); turn += 1) {
  const handle = handles[Math.floor(Math.random() * handles.length)];
  for (let attempt = 0; attempt < TRIES; attempt += 1) {
    const token = await refresh(handle);
    got += 1;
    if (await works(token)) {
      taken += 1;
      break;
    }
    await new Promise((done) => setTimeout(done, PAUSE));
  }
}
console.log(JSON.stringify({ got, taken }));

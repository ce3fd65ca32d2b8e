// Verifies what standard input has, with the library of Standard Webhooks: lines of {secret, body, headers}.
import { createInterface } from "node:readline";
import { Webhook } from "standardwebhooks";

for await (const line of createInterface({ input: process.stdin })) {
  const { secret, body, headers } = JSON.parse(line);
  try {
    console.log(JSON.stringify({ type: new Webhook(secret).verify(body, headers).type }));
  } catch (error) {
    console.log(JSON.stringify({ refused: error.message }));
  }
}

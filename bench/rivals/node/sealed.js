// Sealed text, version 1, as somebody would write it who has read its description.

import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';

const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const CIPHER = 'aes-256-gcm';

export class Sealer {
  #keyId;
  #fields;

  constructor(keyId, key) {
    this.#keyId = keyId;
    this.#fields = new Map(
      ['access_token', 'refresh_token'].map((field) => [field, derived(key, `refreshd/v1/${field}`)]),
    );
  }

  seal(text, { tokenId, field }) {
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv(CIPHER, this.#key(tokenId, field), nonce);
    cipher.setAAD(place(tokenId, field));
    const sealed = Buffer.concat([nonce, cipher.update(text, 'utf8'), cipher.final(), cipher.getAuthTag()]);
    return `v1.${this.#keyId}.${sealed.toString('base64url')}`;
  }

  open(sealed, { tokenId, field }) {
    const [version, keyId, text] = sealed.split('.');
    if (version !== 'v1' || keyId !== this.#keyId) {
      throw new Error(`sealed with ${version} ${keyId}, not with v1 ${this.#keyId}`);
    }
    const raw = Buffer.from(text, 'base64url');
    const decipher = createDecipheriv(CIPHER, this.#key(tokenId, field), raw.subarray(0, NONCE_BYTES));
    decipher.setAAD(place(tokenId, field));
    decipher.setAuthTag(raw.subarray(-TAG_BYTES));
    return decipher.update(raw.subarray(NONCE_BYTES, -TAG_BYTES), undefined, 'utf8') + decipher.final('utf8');
  }

  #key(tokenId, field) {
    return derived(this.#fields.get(field), tokenId);
  }
}

function derived(key, info) {
  return Buffer.from(hkdfSync('sha256', key, '', info, 32));
}

function place(tokenId, field) {
  return Buffer.from(`refreshd/v1\n${tokenId}\n${field}`);
}

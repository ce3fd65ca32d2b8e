// An old application's own reading code: what it did before, and goes on doing. Reads [{form, key, cell}], prints texts.
import { createDecipheriv } from 'node:crypto'
import { readFileSync } from 'node:fs'

function fromJson(cell, key) {
  const { encrypted, iv, authTag } = JSON.parse(cell)
  const decipher = createDecipheriv('aes-256-gcm', Buffer.from(key, 'hex'), Buffer.from(iv, 'hex'))
  decipher.setAuthTag(Buffer.from(authTag, 'hex'))
  return decipher.update(encrypted, 'hex', 'utf8') + decipher.final('utf8')
}

function fromColons(cell, key) {
  const [iv, tag, data] = cell.split(':').map((part) => Buffer.from(part, 'base64'))
  const decipher = createDecipheriv('aes-256-gcm', Buffer.from(key, 'hex'), iv)
  decipher.setAuthTag(tag)
  return decipher.update(data, undefined, 'utf8') + decipher.final('utf8')
}

const read = { json: fromJson, colons: fromColons }
console.log(JSON.stringify(JSON.parse(readFileSync(0, 'utf8')).map(({ form, key, cell }) => read[form](cell, key))))

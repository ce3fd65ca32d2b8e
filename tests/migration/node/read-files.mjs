// An old application's own reading of its file. Reads the file's name as JSON, prints its tokens.
import { readFileSync } from 'node:fs'

const tokens = JSON.parse(readFileSync(JSON.parse(readFileSync(0, 'utf8')), 'utf8'))
for (const token of Object.values(tokens)) token.isDue = Date.now() >= token.expiresAt - 300000
console.log(JSON.stringify(tokens))

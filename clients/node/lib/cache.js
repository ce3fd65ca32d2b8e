// Tokens in memory: the most recently used ones, each for a short time. A Map keeps its entries in order, so it is
// enough for this.

export const SIZE = 10_000
export const LONGEST = 300 // seconds. A token that was revoked or paused since is used for no longer than this
export const MARGIN = 30 // seconds before its end at which a token leaves, so that it doesn't expire on its way

/** Refuses tokens that would be past their margin immediately. */
export class Cache {
  #entries = new Map()
  #size

  constructor(size = SIZE) {
    this.#size = size
  }

  get(id) {
    const entry = this.#entries.get(id)
    if (entry === undefined) return undefined
    this.#entries.delete(id)
    // The first clock is never set, and the second one goes on while the machine sleeps.
    if (performance.now() >= entry.until || Date.now() >= entry.untilByWallClock) return undefined
    this.#entries.set(id, entry)
    return entry.token
  }

  /** Keep a token that had `secondsLeft` (null: no end) when it was requested, `age` seconds ago. */
  put(id, token, secondsLeft, age) {
    const allowed = (secondsLeft === null ? LONGEST : Math.min(LONGEST, secondsLeft - MARGIN)) - age
    this.#entries.delete(id)
    if (!(allowed > 0)) return
    const ms = allowed * 1000
    this.#entries.set(id, { token, until: performance.now() + ms, untilByWallClock: Date.now() + ms })
    if (this.#entries.size > this.#size) this.#entries.delete(this.#entries.keys().next().value)
  }

  drop(id) {
    this.#entries.delete(id)
  }

  clear() {
    this.#entries.clear()
  }

  get length() {
    return this.#entries.size
  }
}

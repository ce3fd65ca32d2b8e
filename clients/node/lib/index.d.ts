/** No token, or the request was not carried out. The message contains no secret. */
export class ReaderError extends Error {}

/** The account was never connected, was removed, or is hidden from this access key. */
export class NotConnected extends ReaderError {}

/** The token is paused. Do not call the provider. */
export class Paused extends ReaderError {}

/** MongoDB alone, or this version of refreshd, can't do this. */
export class NotSupported extends ReaderError {}

/** The provider has refused the refresh token for good. Ask the customer to connect again. */
export class NeedsReauth extends ReaderError {
  /** A page of your application, if refreshd's configuration names it. */
  readonly reconnectUrl: string | null
}

/** The stored token is past its end and refreshd is renewing it. */
export class Expired extends ReaderError {
  /** Seconds. */
  readonly retryAfter: number
}

/** refreshd or MongoDB can't answer now. */
export class Unavailable extends ReaderError {
  /** Seconds, if they are known. */
  readonly retryAfter: number | null
}

/** The owner's consent led to no token. `kind` is refreshd's, such as `refused`; `code` the provider's, if any. */
export class ConsentFailed extends ReaderError {
  readonly kind: string
  readonly code: string | null
}

/** refreshd has rejected the request. `problem` is the name of an RFC 9457 problem, such as `conflict`. */
export class Rejected extends ReaderError {
  readonly problem: string
  readonly status: number
}

/** An access token and what the provider said about it. It never prints the access token. */
export class Token {
  private constructor()
  readonly provider: string
  readonly account: string
  readonly id: string
  /** The text itself, which is a secret. */
  get accessToken(): string
  /** The value of an `Authorization` header. */
  get authorization(): string
  /** Changes exactly when the access token does. */
  readonly version: string
  /** Null: no end is known. */
  readonly expiresAt: Date | null
  readonly tokenType: string
  readonly scope: string | null
  readonly missingScopes: readonly string[]
  /** Other fields of the provider's response, such as `api_domain`. */
  readonly extra: Readonly<Record<string, unknown>>
  readonly subject: string | null
}

export interface Waits {
  /** Seconds to wait for a renewal. */
  wait?: number
  /** Seconds that everything else may take. */
  timeout?: number
}

export interface HttpOptions extends Waits {
  /** https://…, http://… or unix:/path */
  url: string
  accessKey: string
}

export interface MongodbOptions extends Waits {
  uri: string
  /** A file with the lines of `refreshd keys reader --all`. */
  readers: string
  /** As `store.database` in refreshd's configuration. Default: the URI's path, else `refreshd`. */
  database?: string
  collection?: string
}

export interface Consent {
  receivedAt?: Date
  consentedAt?: Date
  vars?: Record<string, string>
  meta?: Record<string, unknown>
  subject?: string
}

/** What `connect` asks for. */
export interface Wish {
  /** One of `access.return_urls`. */
  returnUrl: string
  scopes?: readonly string[]
  vars?: Record<string, string>
  meta?: Record<string, string>
  subject?: string
  /** Allows another account at the provider than the one connected before. */
  replace?: boolean
}

/** A consent that has begun. Keep `id` and `verifier` in the session of the user. It prints neither link nor verifier. */
export class Link {
  private constructor()
  readonly id: string
  /** Where to send the browser. It works once, for 15 minutes. */
  get url(): string
  get verifier(): string
  readonly expiresAt: Date | null
}

export interface ConsentState {
  id: string
  /** The token is stored if it is "done". */
  state: 'waiting' | 'asked' | 'done' | 'failed' | 'abandoned'
  /** The grant waits for `complete`. */
  held: boolean
  scope: string | null
  missingScopes: readonly string[]
  expiresAt: Date | null
  failure: { kind: string; code: string | null } | null
}

export interface Ending {
  id: string
  /** "revoking": the provider is asked to revoke the grant. "removed": nothing is left to do. */
  state: string
}

/** Access tokens by provider and account. One instance serves the whole program. */
export class Tokens {
  private constructor()
  /** Use REFRESHD_URL and REFRESHD_ACCESS_KEY, or else MONGODB_URI and REFRESHD_READERS. */
  static fromEnv(env?: Record<string, string | undefined>): Tokens
  static overHttp(options: HttpOptions): Tokens
  static overMongodb(options: MongodbOptions): Tokens

  /** Resolve to a token that may be used now. */
  get(provider: string, account: string): Promise<Token>
  /** Resolve to whether `get` finds a token. Rejects if that can't be found out. */
  isValid(provider: string, account: string): Promise<boolean>
  /** Resolve to the token that replaces `token`, which got a 401 from the provider. */
  refused(token: Token): Promise<Token>
  /** `fetch` with the token. After a 401: a renewal, and the request once more if its body can be sent twice. */
  fetch(provider: string, account: string, url: string | URL | Request, init?: RequestInit): Promise<Response>
  /** Store a provider's token response after a consent. Resolves to whether the token is new. HTTP only. */
  store(provider: string, account: string, response: Record<string, unknown>, consent?: Consent): Promise<boolean>
  /** Remove the token; with `revoke` (the default) the daemon first revokes the grant. HTTP only. */
  remove(provider: string, account: string, options?: { revoke?: boolean }): Promise<Ending>
  /** Remove all tokens of one user that this access key may see. HTTP only. */
  removeAll(subject: string, options?: { revoke?: boolean }): Promise<Ending[]>
  /** Begin a consent of the account's owner, and send the browser to the link's `url`. HTTP only. */
  connect(provider: string, account: string, wish: Wish): Promise<Link>
  /** Complete a consent with what the browser has brought and the verifier of its session. HTTP only. */
  complete(id: string, connectCode: string, verifier: string): Promise<ConsentState>
  /** What has become of a consent. HTTP only. */
  consent(id: string): Promise<ConsentState>
  close(): Promise<void>
}

// Every error that a reader throws. A wrong setting, such as a missing environment variable, is a TypeError.
//
//   ReaderError
//   ├── NeedsReauth    the customer has to connect again: reconnectUrl
//   ├── NotConnected   there is no such token, or this access key may not see it
//   ├── Paused         an operator or the application has paused the token
//   ├── Expired        no usable token now, but refreshd is renewing it: retryAfter, in seconds
//   ├── Unavailable    refreshd or MongoDB can't answer now: retryAfter
//   ├── ConsentFailed  no token was stored by `complete`: kind, code
//   ├── Rejected       refreshd has rejected the request: problem, status
//   └── NotSupported   MongoDB alone, or this version of refreshd, can't do this

export class ReaderError extends Error {
  constructor(message) {
    super(message)
    this.name = this.constructor.name
  }
}

export class NotConnected extends ReaderError {}
export class Paused extends ReaderError {}
export class NotSupported extends ReaderError {}

export class NeedsReauth extends ReaderError {
  constructor(message, reconnectUrl = null) {
    super(message)
    this.reconnectUrl = reconnectUrl
  }
}

export class Expired extends ReaderError {
  constructor(message, retryAfter) {
    super(message)
    this.retryAfter = retryAfter
  }
}

export class Unavailable extends ReaderError {
  constructor(message, retryAfter = null) {
    super(message)
    this.retryAfter = retryAfter
  }
}

export class ConsentFailed extends ReaderError {
  constructor(message, kind, code = null) {
    super(message)
    this.kind = kind
    this.code = code
  }
}

export class Rejected extends ReaderError {
  constructor(message, problem, status) {
    super(message)
    this.problem = problem
    this.status = status
  }
}

export { Link } from './consent.js'
export {
  ConsentFailed,
  Expired,
  NeedsReauth,
  NotConnected,
  NotSupported,
  Paused,
  ReaderError,
  Rejected,
  Unavailable,
} from './errors.js'
export { Token } from './token.js'
export { Tokens } from './tokens.js'

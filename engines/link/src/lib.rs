//! The link between the control plane and its nodes and workers.
//!
//! In: a Unix socket that the control plane binds and the others dial. Out: one long-lived [`Peer`] per connection:
//! calls with a deadline in both directions, one-way events, and the [`Inbox`] of what the other side says.
//! Never: an inbound port on a node, a call that waits for ever, the meaning of a message (bodies are anybody's
//! serde types).
//!
//! The road of a message: `frame` puts it into bytes, `greeting` says who speaks and agrees on a version, `peer`
//! matches answers to calls and notices silence, `dial` and `listen` make connections.

mod dial;
mod error;
mod frame;
mod greeting;
mod listen;
mod peer;

#[cfg(test)]
mod tests;

pub use dial::Dialler;
pub use error::LinkError;
pub use frame::FRAME_BYTES_MAX;
pub use greeting::{Hello, Kind, VERSION_MAX, VERSION_MIN};
pub use listen::Links;
pub use peer::{Call, Event, Inbox, Incoming, Peer};

//! HTTP/1.1 on a socket (RFC 9112): heads are found and parsed, bodies taken out of their framing and put into it.
//!
//! In: bytes of one connection. Out: heads, pieces of bodies, trailers; and the other way round. Strict: what two
//! implementations could read in two ways is refused, because requests are smuggled through such gaps.
//! Never looks at what a message means.

mod buffer;
mod chunk;
pub(crate) mod head;
mod socket;

#[cfg(test)]
mod tests;

pub(crate) use buffer::Buffer;
pub(crate) use socket::{Framing, HeadFault, Socket, Wire};

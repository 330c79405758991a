//! What comes in is cut anywhere, and is anything.

use std::task::Poll;

use proptest::collection::vec;
use proptest::prelude::*;

use super::chunk::{Chunks, Step};
use super::head::{BadHead, HeadEnd};
use super::{Buffer, Framing, Wire};
use crate::side::{Fault, Piece, Side};

/// Decodes bytes that come in these pieces; `None` while more has to come.
fn decode(pieces: &[&[u8]]) -> Result<Option<(Vec<u8>, usize)>, ()> {
    let (mut chunks, mut here, mut body, mut used) = (Chunks::new(), Vec::new(), Vec::new(), 0);
    for piece in pieces {
        here.extend_from_slice(piece);
        loop {
            let step = chunks.step(&here).map_err(|_| ())?;
            let count = match step {
                Step::More => break,
                Step::Done => return Ok(Some((body, used))),
                Step::Skip(count) | Step::Data(count) | Step::Trailers(count) => count,
            };
            assert!(count > 0 && count <= here.len(), "it goes on, within what is there");
            let taken: Vec<u8> = here.drain(..count).collect();
            if matches!(step, Step::Data(_)) {
                body.extend_from_slice(&taken);
            }
            chunks.used(step, &taken).map_err(|_| ())?;
            used += count;
        }
    }
    match chunks.step(&here).map_err(|_| ())? {
        Step::Done => Ok(Some((body, used))),
        _ => Ok(None),
    }
}

fn cut<'a>(bytes: &'a [u8], at: &[usize]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = at.iter().map(|at| at % (bytes.len() + 1)).chain([0, bytes.len()]).collect();
    at.sort_unstable();
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

/// Bytes that look like chunks, or nearly.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just(b"\r\n".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"0\r\n".to_vec()),
        Just(b"0\r\n\r\n".to_vec()),
        Just(b"3\r\nabc\r\n".to_vec()),
        Just(b"A;x=y\r\n".to_vec()),
        Just(b"X-T: t\r\n".to_vec()),
        Just(b"ffffffffffffffff\r\n".to_vec()),
        vec(any::<u8>(), 0..6),
    ];
    vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn chunks_give_back_what_was_put_in_wherever_they_are_cut(
        body in vec(vec(any::<u8>(), 1..300), 0..8),
        at in vec(any::<usize>(), 0..8),
    ) {
        let mut coded = Vec::new();
        for chunk in &body {
            coded.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            coded.extend_from_slice(chunk);
            coded.extend_from_slice(b"\r\n");
        }
        coded.extend_from_slice(b"0\r\nX-T: t\r\n\r\n");
        prop_assert_eq!(decode(&cut(&coded, &at)), Ok(Some((body.concat(), coded.len()))));
    }

    #[test]
    fn anything_is_decoded_the_same_however_it_is_cut(bytes in nearly(), at in vec(any::<usize>(), 0..8)) {
        let whole = decode(&[&bytes]);
        let pieces = decode(&cut(&bytes, &at));
        prop_assert_eq!(&whole, &pieces);
        if let Ok(Some((_, used))) = whole {
            let text = String::from_utf8_lossy(&bytes[..used]).into_owned();
            prop_assert!(text.ends_with("\r\n"));
        }
    }

    #[test]
    fn a_head_ends_at_the_same_byte_however_it_is_cut(bytes in nearly(), at in vec(any::<usize>(), 0..8)) {
        let whole = HeadEnd::default().find(&bytes, 1024);
        let (mut end, mut here, mut found) = (HeadEnd::default(), Vec::new(), Ok(None));
        for piece in cut(&bytes, &at) {
            here.extend_from_slice(piece);
            found = end.find(&here, 1024);
            if found != Ok(None) {
                break;
            }
        }
        prop_assert_eq!(&found, &whole);
        if let Ok(Some(length)) = whole {
            let head = &bytes[..length];
            prop_assert!(head.ends_with(b"\r\n"));
            let bare = head.windows(2).any(|pair| pair[1] == b'\n' && pair[0] != b'\r');
            prop_assert!(!bare, "no bare line feed gets through");
        }
    }

    #[test]
    fn what_is_framed_on_one_side_is_the_same_on_the_other(
        body in vec(vec(any::<u8>(), 1..200), 0..6),
        chunked in any::<bool>(),
    ) {
        let length = body.concat().len();
        let framing = if chunked { Framing::Chunked } else { Framing::Length(length as u64) };
        let mut sender = Wire::new(Silent(b""), Buffer::default());
        sender.frame(framing);
        for piece in &body {
            sender.put(piece).unwrap();
        }
        sender.end(b"").unwrap();
        let bytes = sender.frame(Framing::None).clone();
        let mut receiver = Wire::new(Silent(&bytes), Buffer::default());
        receiver.expect_body(framing);
        prop_assert_eq!(read_all(&mut receiver), Ok(body.concat()));
    }
}

impl tokio::io::AsyncWrite for Silent<'_> {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Bytes to be read, and nobody who reads what is written.
struct Silent<'a>(&'a [u8]);

impl tokio::io::AsyncRead for Silent<'_> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

fn read_all(receiver: &mut Wire<Silent<'_>>) -> Result<Vec<u8>, Fault> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let mut body = Vec::new();
    loop {
        match receiver.poll_piece(&mut cx) {
            Poll::Ready(Ok(Piece::Data)) => {
                body.extend_from_slice(receiver.piece());
                receiver.consume();
            }
            Poll::Ready(Ok(Piece::End)) => return Ok(body),
            Poll::Ready(Err(fault)) => return Err(fault),
            Poll::Pending => return Err(Fault::Gone),
        }
    }
}

#[test]
fn a_body_that_breaks_off_is_never_taken_for_whole() {
    for (framing, bytes) in [
        (Framing::Length(4), &b"abc"[..]),
        (Framing::Chunked, b"3\r\nabc\r\n"),
        (Framing::Chunked, b"3\r\nab"),
        (Framing::Chunked, b"3\r\nabc\r\n0\r\n"),
    ] {
        let mut receiver = Wire::new(Silent(bytes), Buffer::default());
        receiver.expect_body(framing);
        assert_eq!(read_all(&mut receiver), Err(Fault::Gone), "{framing:?}");
    }
    let mut receiver = Wire::new(Silent(b"abc"), Buffer::default());
    receiver.expect_body(Framing::UntilClose);
    assert_eq!(read_all(&mut receiver), Ok(b"abc".to_vec()));
}

#[test]
fn a_sender_that_puts_more_or_less_than_it_said_is_stopped() {
    let mut sender = Wire::new(Silent(b""), Buffer::default());
    sender.frame(Framing::Length(3));
    assert_eq!(sender.put(b"abcd"), Err(Fault::Malformed));
    sender.frame(Framing::Length(3));
    sender.put(b"ab").unwrap();
    assert_eq!(sender.end(b""), Err(Fault::Malformed));
}

#[test]
fn a_head_has_a_limit() {
    let long = b"GET / HTTP/1.1\r\nA: ".iter().copied().chain([b'x'; 100]).collect::<Vec<u8>>();
    assert_eq!(HeadEnd::default().find(&long, 64), Err(BadHead::TooLarge));
    assert_eq!(HeadEnd::default().find(&long, 1024), Ok(None));
    let ended = [&long[..], b"\r\n\r\n"].concat();
    assert_eq!(HeadEnd::default().find(&ended, 64), Err(BadHead::TooLarge));
    assert_eq!(HeadEnd::default().find(&ended, 1024), Ok(Some(ended.len())));
}

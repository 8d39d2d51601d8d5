//! The frame: a 32-byte header, then a payload.
//!
//! ```text
//!  0  u32  payload length in bytes          little endian throughout
//!  4  u8   kind
//!  5  u8   flags, zero
//!  6  u16  reserved, zero
//!  8  u64  sequence number, from 0, per direction
//! 16  [16] tag: keyed BLAKE3 of the 16 bytes above and the payload, cut to 128 bits
//! 32       payload
//! ```
//!
//! Before the handshake ends the key is a public constant, so the tag is a checksum. Afterwards each direction has a
//! key derived from the cluster secret, both nonces and what both sides said of themselves, so the tag also authenticates, and the sequence number makes a
//! replayed, dropped or reordered frame fail.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use subtle::ConstantTimeEq;

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 32;
/// Largest payload of a control frame. A prompt of a million token ids in JSON fits.
pub const MAX_CONTROL_BYTES: usize = 8 << 20;
/// Largest payload of one KV chunk frame.
pub const MAX_KV_CHUNK_BYTES: usize = 256 << 20;
/// Largest payload of a model card (vocabulary, merges and chat template).
pub const MAX_MODEL_BYTES: usize = 64 << 20;

const MAX_HANDSHAKE_BYTES: usize = 16 << 10;
const TAG_BYTES: usize = 16;
const OPEN_KEY_LABEL: &[u8] = b"caprock frame checksum before the handshake";

/// What a frame holds. The numbers are the wire's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs)] // each is documented at its message type
pub enum Kind {
    Hello = 1,
    Welcome = 2,
    Proof = 3,
    Generate = 16,
    Extend = 17,
    Stop = 18,
    Prefill = 19,
    Tokenize = 20,
    DescribeModel = 21,
    QueryReceipt = 22,
    Accepted = 32,
    Token = 33,
    Paused = 34,
    Done = 35,
    Error = 36,
    KvBegin = 37,
    KvChunk = 38,
    KvCommit = 39,
    Tokens = 40,
    Model = 41,
    Receipt = 42,
}

impl Kind {
    fn from_wire(byte: u8) -> Option<Kind> {
        use Kind::*;
        [
            Hello,
            Welcome,
            Proof,
            Generate,
            Extend,
            Stop,
            Prefill,
            Tokenize,
            DescribeModel,
            QueryReceipt,
            Accepted,
            Token,
            Paused,
            Done,
            Error,
            KvBegin,
            KvChunk,
            KvCommit,
            Tokens,
            Model,
            Receipt,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }

    /// Whether it belongs to the handshake. Nothing else is read from a peer that has not proved itself, so a stranger
    /// can't make this side hold more than a few KiB.
    fn is_handshake(self) -> bool {
        matches!(self, Kind::Hello | Kind::Welcome | Kind::Proof | Kind::Error)
    }

    /// Largest payload accepted for this kind, in bytes.
    pub fn max_payload(self) -> usize {
        match self {
            Kind::Hello | Kind::Welcome | Kind::Proof => MAX_HANDSHAKE_BYTES,
            Kind::KvChunk => MAX_KV_CHUNK_BYTES,
            Kind::Model => MAX_MODEL_BYTES,
            _ => MAX_CONTROL_BYTES,
        }
    }
}

/// Why bytes are not the next frame of this connection. Each is final: the connection must be closed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum FrameError {
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
    #[error("reserved header bits are set")]
    ReservedBits,
    #[error("a {kind:?} frame of {bytes} bytes is over its limit")]
    TooLong { kind: Kind, bytes: usize },
    #[error("a {0:?} frame came before the handshake ended")]
    BeforeHandshake(Kind),
    #[error("frame {got} came where {expected} was due")]
    OutOfSequence { expected: u64, got: u64 },
    #[error("the frame's tag does not match: corrupted, or sealed with another key")]
    BadTag,
}

/// Writes one direction's frames.
#[derive(Debug)]
pub struct Sealer {
    key: [u8; 32],
    next: u64,
}

/// Reads one direction's frames.
#[derive(Debug)]
pub struct Opener {
    key: [u8; 32],
    next: u64,
    keyed: bool,
    most_kv_chunk: usize,
}

impl Default for Sealer {
    fn default() -> Self {
        Sealer { key: open_key(), next: 0 }
    }
}

impl Default for Opener {
    fn default() -> Self {
        Opener { key: open_key(), next: 0, keyed: false, most_kv_chunk: MAX_KV_CHUNK_BYTES }
    }
}

impl Sealer {
    /// From the next frame on, seal with `key`; the sequence goes on.
    pub fn rekey(&mut self, key: [u8; 32]) {
        self.key = key;
    }

    /// Appends one frame to `out`.
    ///
    /// # Errors
    /// [`FrameError::TooLong`], and nothing is appended.
    pub fn seal(&mut self, kind: Kind, payload: &[&[u8]], out: &mut BytesMut) -> Result<(), FrameError> {
        let bytes: usize = payload.iter().map(|part| part.len()).sum();
        if bytes > kind.max_payload() {
            return Err(FrameError::TooLong { kind, bytes });
        }
        out.reserve(HEADER_BYTES + bytes);
        let at = out.len();
        out.put_u32_le(bytes as u32);
        out.put_u8(kind as u8);
        out.put_u8(0);
        out.put_u16_le(0);
        out.put_u64_le(self.next);
        let tag = tag(&self.key, &out[at..at + HEADER_BYTES - TAG_BYTES], payload);
        out.put_slice(&tag);
        for part in payload {
            out.put_slice(part);
        }
        self.next += 1;
        Ok(())
    }
}

impl Opener {
    /// From the next frame on, expect `key`; the sequence goes on.
    pub fn rekey(&mut self, key: [u8; 32]) {
        self.key = key;
        self.keyed = true;
    }

    /// Refuse KV chunk frames with a payload over `bytes`, or over [`MAX_KV_CHUNK_BYTES`]: memory for a frame is taken
    /// once its header has come.
    pub fn limit_kv_chunk(&mut self, bytes: usize) {
        self.most_kv_chunk = bytes.min(MAX_KV_CHUNK_BYTES);
    }

    fn limit(&self, kind: Kind) -> usize {
        match kind {
            _ if !self.keyed => MAX_HANDSHAKE_BYTES,
            Kind::KvChunk => self.most_kv_chunk,
            kind => kind.max_payload(),
        }
    }

    /// Takes the next whole frame off the front of `input`; `None` until all of it is there.
    ///
    /// The length is checked against the kind's limit before any of the payload is waited for.
    ///
    /// # Errors
    /// Every [`FrameError`]; the connection can't be used after one.
    pub fn open(&mut self, input: &mut BytesMut) -> Result<Option<(Kind, Bytes)>, FrameError> {
        if input.len() < HEADER_BYTES {
            return Ok(None);
        }
        let mut header = &input[..HEADER_BYTES];
        let bytes = header.get_u32_le() as usize;
        let kind_byte = header.get_u8();
        let flags = header.get_u8();
        let reserved = header.get_u16_le();
        let sequence = header.get_u64_le();
        let kind = Kind::from_wire(kind_byte).ok_or(FrameError::UnknownKind(kind_byte))?;
        if flags != 0 || reserved != 0 {
            return Err(FrameError::ReservedBits);
        }
        if !self.keyed && !kind.is_handshake() {
            return Err(FrameError::BeforeHandshake(kind));
        }
        if bytes > self.limit(kind) {
            return Err(FrameError::TooLong { kind, bytes });
        }
        if sequence != self.next {
            return Err(FrameError::OutOfSequence { expected: self.next, got: sequence });
        }
        if input.len() < HEADER_BYTES + bytes {
            input.reserve(HEADER_BYTES + bytes - input.len());
            return Ok(None);
        }
        let frame = input.split_to(HEADER_BYTES + bytes).freeze();
        let payload = frame.slice(HEADER_BYTES..);
        let expected = tag(&self.key, &frame[..HEADER_BYTES - TAG_BYTES], &[&payload]);
        if !bool::from(expected.ct_eq(&frame[HEADER_BYTES - TAG_BYTES..HEADER_BYTES])) {
            return Err(FrameError::BadTag);
        }
        self.next += 1;
        Ok(Some((kind, payload)))
    }
}

fn tag(key: &[u8; 32], header: &[u8], payload: &[&[u8]]) -> [u8; TAG_BYTES] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(header);
    for part in payload {
        hasher.update(part);
    }
    let mut out = [0; TAG_BYTES];
    out.copy_from_slice(&hasher.finalize().as_bytes()[..TAG_BYTES]);
    out
}

fn open_key() -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(&blake3::hash(OPEN_KEY_LABEL).as_bytes()[..]);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn opener() -> Opener {
        let mut opener = Opener::default();
        opener.rekey(KEY);
        opener
    }

    fn sealed(payload: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        let mut sealer = Sealer::default();
        sealer.rekey(KEY);
        sealer.seal(Kind::KvChunk, &[payload], &mut out).unwrap();
        out
    }

    #[test]
    fn a_frame_comes_back_whole_and_only_when_whole() {
        let frame = sealed(b"hello");
        for cut in 0..frame.len() {
            let mut part = BytesMut::from(&frame[..cut]);
            assert_eq!(opener().open(&mut part), Ok(None), "cut at {cut}");
        }
        let (kind, payload) = opener().open(&mut frame.clone()).unwrap().unwrap();
        assert_eq!((kind, &payload[..]), (Kind::KvChunk, &b"hello"[..]));
    }

    #[test]
    fn flipping_any_bit_is_refused_or_waits_for_more() {
        let frame = sealed(b"the bytes of a KV cache");
        for bit in 0..frame.len() * 8 {
            let mut bad = frame.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let outcome = opener().open(&mut bad);
            assert!(matches!(outcome, Err(_) | Ok(None)), "bit {bit} was accepted");
        }
    }

    #[test]
    fn a_replayed_frame_is_out_of_sequence() {
        let frame = sealed(b"once");
        let mut twice = frame.clone();
        twice.extend_from_slice(&frame);
        let mut opener = opener();
        assert!(opener.open(&mut twice).unwrap().is_some());
        assert_eq!(opener.open(&mut twice), Err(FrameError::OutOfSequence { expected: 1, got: 0 }));
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_its_bytes_come() {
        let mut header = BytesMut::new();
        header.put_u32_le(u32::MAX);
        header.put_u8(Kind::Token as u8);
        header.put_slice(&[0; HEADER_BYTES - 5]);
        assert!(matches!(opener().open(&mut header), Err(FrameError::TooLong { .. })));
    }

    #[test]
    fn a_kv_chunk_over_what_was_expected_is_refused_before_its_bytes_come() {
        let chunk = sealed(&[0; 100]);
        let mut limited = opener();
        limited.limit_kv_chunk(99);
        let mut header = BytesMut::from(&chunk[..HEADER_BYTES]);
        let refused = limited.open(&mut header);
        assert_eq!(refused, Err(FrameError::TooLong { kind: Kind::KvChunk, bytes: 100 }));
        limited.limit_kv_chunk(100);
        assert!(limited.open(&mut chunk.clone()).unwrap().is_some());
    }

    #[test]
    fn a_stranger_gets_only_handshake_frames_read() {
        let refused = Opener::default().open(&mut sealed(b"x"));
        assert_eq!(refused, Err(FrameError::BeforeHandshake(Kind::KvChunk)));
        let mut long = BytesMut::new();
        Sealer::default().seal(Kind::Error, &[&[0; MAX_HANDSHAKE_BYTES + 1]], &mut long).unwrap();
        assert!(matches!(Opener::default().open(&mut long), Err(FrameError::TooLong { .. })));
    }

    #[test]
    fn a_frame_sealed_with_another_key_is_refused() {
        let mut other = Opener::default();
        other.rekey([8; 32]);
        assert_eq!(other.open(&mut sealed(b"x")), Err(FrameError::BadTag));
    }
}

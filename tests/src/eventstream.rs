//! The AWS event stream, decoded from its public format alone: every length and checksum is looked at.

use bytes::Buf;
use futures::StreamExt;
use serde_json::Value;

const PRELUDE: usize = 12;
const CRC: usize = 4;

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `event`, `exception` or `error`.
    pub message_type: String,
    /// `:event-type` or `:exception-type`.
    pub kind: String,
    /// The payload.
    pub body: Value,
}

/// Takes the next whole message off the front of `buffer`.
///
/// # Errors
/// In words, when the bytes are not a message.
pub fn take(buffer: &mut Vec<u8>) -> Result<Option<Event>, String> {
    if buffer.len() < PRELUDE {
        return Ok(None);
    }
    let mut prelude = &buffer[..PRELUDE];
    let (total, headers) = (prelude.get_u32() as usize, prelude.get_u32() as usize);
    if prelude.get_u32() != crc32fast::hash(&buffer[..8]) {
        return Err("the prelude's checksum is wrong".into());
    }
    if total < PRELUDE + headers + CRC {
        return Err(format!("{total} bytes in all can't hold {headers} of headers"));
    }
    if buffer.len() < total {
        return Ok(None);
    }
    let message: Vec<u8> = buffer.drain(..total).collect();
    let (content, mut crc) = message.split_at(total - CRC);
    if crc.get_u32() != crc32fast::hash(content) {
        return Err("the message's checksum is wrong".into());
    }
    let fields = strings(&content[PRELUDE..PRELUDE + headers])?;
    let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let message_type = field(":message-type").ok_or("no :message-type")?;
    let kind = field(":event-type").or_else(|| field(":exception-type")).or_else(|| field(":error-code"));
    let payload = &content[PRELUDE + headers..];
    let body = if payload.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(payload).map_err(|error| error.to_string())?
    };
    Ok(Some(Event { message_type, kind: kind.ok_or("a message that names no type")?, body }))
}

/// Headers of type 7, string: the only ones in use here.
fn strings(mut input: &[u8]) -> Result<Vec<(String, String)>, String> {
    fn text(input: &mut &[u8], length: usize) -> Result<String, String> {
        if input.len() < length {
            return Err("a header that ends too early".into());
        }
        let (text, rest) = input.split_at(length);
        *input = rest;
        String::from_utf8(text.to_vec()).map_err(|error| error.to_string())
    }
    let mut fields: Vec<(String, String)> = Vec::new();
    while !input.is_empty() {
        let length = input.get_u8() as usize;
        let name = text(&mut input, length)?;
        if input.len() < 3 || input.get_u8() != 7 {
            return Err(format!("header {name} is not a string"));
        }
        let length = input.get_u16() as usize;
        let value = text(&mut input, length)?;
        if fields.iter().any(|(known, _)| *known == name) {
            return Err(format!("header {name} comes twice"));
        }
        fields.push((name, value));
    }
    Ok(fields)
}

/// A `ConverseStream` read to its end.
#[derive(Debug, Default)]
pub struct ConverseStream {
    /// Messages in order.
    pub events: Vec<Event>,
}

impl ConverseStream {
    /// Reads until the body ends.
    ///
    /// # Errors
    /// What was read, and why it broke.
    pub async fn read(response: reqwest::Response) -> Result<ConverseStream, (ConverseStream, String)> {
        let mut body = Box::pin(response.bytes_stream());
        let (mut stream, mut buffer) = (ConverseStream::default(), Vec::new());
        loop {
            match take(&mut buffer) {
                Ok(Some(event)) => {
                    stream.events.push(event);
                    continue;
                }
                Ok(None) => {}
                Err(error) => return Err((stream, error)),
            }
            match body.next().await {
                Some(Ok(piece)) => buffer.extend_from_slice(&piece),
                Some(Err(error)) => return Err((stream, error.to_string())),
                None if buffer.is_empty() => return Ok(stream),
                None => return Err((stream, "the stream ended inside a message".into())),
            }
        }
    }

    /// The text of all deltas.
    pub fn text(&self) -> String {
        self.events.iter().filter_map(|event| event.body["delta"]["text"].as_str()).collect()
    }

    /// Types in order, repeats of deltas left out.
    pub fn shape(&self) -> Vec<&str> {
        let mut shape: Vec<&str> = self.events.iter().map(|event| event.kind.as_str()).collect();
        shape.dedup();
        shape
    }

    /// The body of the first message of a type.
    pub fn body(&self, kind: &str) -> Option<&Value> {
        self.events.iter().find(|event| event.kind == kind).map(|event| &event.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As real clients read it: lengths 119 and 82, prelude checksum 0xabb5d36e.
    fn message_start() -> Vec<u8> {
        let mut headers = Vec::new();
        for (name, value) in
            [(":event-type", "messageStart"), (":content-type", "application/json"), (":message-type", "event")]
        {
            headers.push(name.len() as u8);
            headers.extend_from_slice(name.as_bytes());
            headers.push(7);
            headers.extend_from_slice(&(value.len() as u16).to_be_bytes());
            headers.extend_from_slice(value.as_bytes());
        }
        let payload = br#"{"role": "assistant"}"#; // with the blank, as it was captured
        let mut out = Vec::new();
        out.extend_from_slice(&((PRELUDE + headers.len() + payload.len() + CRC) as u32).to_be_bytes());
        out.extend_from_slice(&(headers.len() as u32).to_be_bytes());
        out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
        out.extend_from_slice(&headers);
        out.extend_from_slice(payload);
        out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
        out
    }

    #[test]
    fn the_known_frame_is_read_and_any_flipped_byte_is_not() {
        let frame = message_start();
        assert_eq!(frame[8..12], 0xabb5_d36e_u32.to_be_bytes());
        let event = take(&mut frame.clone()).unwrap().unwrap();
        assert_eq!((event.kind.as_str(), event.body["role"].as_str()), ("messageStart", Some("assistant")));
        for at in 0..frame.len() {
            let mut bad = frame.clone();
            bad[at] ^= 1;
            assert!(take(&mut bad).is_err(), "byte {at}");
            assert_eq!(take(&mut frame[..at].to_vec()), Ok(None), "cut at {at}");
        }
    }
}

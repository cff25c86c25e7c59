//! Bodies: read within bounds of size and time, and parsed as JSON.

use std::fmt;
use std::marker::PhantomData;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Limited};
use hyper::Version;
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderValue};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::answer::Answer;
use super::problem::Problem;
use super::request::Head;
use crate::limits;

/// Reads a whole body of JSON. One that the head alone refuses is not asked for: with its first read
/// hyper invites whoever waits for `100 Continue`.
pub(super) async fn read(head: &Head, body: &mut Incoming, max: usize) -> Result<Bytes, Problem> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    if announced(head).is_none_or(|length| length <= max as u64) {
        check_media_type(head)?;
    } else if waits(head) {
        return Err(Problem::BodyTooLarge { max });
    }
    match tokio::time::timeout(head.body_within, read_or_discard(head, body, max)).await {
        Ok(read) => read,
        // That it is too large was known before.
        Err(_) if announced(head).is_some_and(|length| length > max as u64) => {
            Err(Problem::BodyTooLarge { max })
        }
        Err(_) => Err(Problem::RequestTimeout),
    }
}

/// Leaves a body behind that nobody has read to its end: it is taken from the wire, so that what follows it
/// on the connection can be read, or the answer says that the connection ends. By itself hyper takes
/// what is there already, and ends the connection otherwise without a word: the next request on it would be
/// lost.
pub(super) async fn leave(head: &Head, body: &mut Incoming, answer: &mut Answer) {
    if answer.headers().contains_key(CONNECTION) || discard(head, body).await {
        return;
    }
    // In HTTP/2 a request ends by itself.
    if head.version != Version::HTTP_2 {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Takes what is left of a body from the wire, as far as that is bearable. Whether it has come to its end.
async fn discard(head: &Head, body: &mut Incoming) -> bool {
    let is_bearable = announced(head).is_none_or(|length| length <= limits::BODY_BYTES_MAX as u64);
    // Whoever waits to be invited would be, and for nothing.
    if !is_bearable || waits(head) {
        return false;
    }
    let mut rest = Limited::new(&mut *body, limits::BODY_BYTES_MAX);
    let all = async { while let Some(Ok(_)) = rest.frame().await {} };
    // What is not there in time is not waited for.
    let _ = tokio::time::timeout(head.body_within, all).await;
    body.is_end_stream()
}

/// Whether a body comes where none may. In HTTP/2 a request without one may end with a frame of its own that
/// is empty, or trailers (RFC 9113 §8.1): only what comes next tells. One that never ends has one.
pub(super) async fn follows(head: &Head, body: &mut Incoming) -> bool {
    if announced(head).is_some_and(|length| length > 0) {
        return true;
    }
    let has_content = async {
        while let Some(Ok(frame)) = body.frame().await {
            if frame.data_ref().is_some_and(|data| !data.is_empty()) {
                return true;
            }
        }
        false
    };
    tokio::time::timeout(head.body_within, has_content).await.unwrap_or(true)
}

/// How long the body is by its own word.
fn announced(head: &Head) -> Option<u64> {
    head.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether the client sends the body only when it is told to go on. (Another expectation was refused.)
pub(super) fn waits(head: &Head) -> bool {
    head.headers.contains_key(EXPECT)
}

/// Keeps a body that fits, and takes one that does not from the wire, as far as that is bearable. A
/// connection that is closed on unread bytes is reset, and the reset can overtake the refusal: the
/// client would see a broken connection where it should read what is wrong.
async fn read_or_discard(head: &Head, body: &mut Incoming, max: usize) -> Result<Bytes, Problem> {
    let announced = announced(head);
    if announced.is_none_or(|length| length <= max as u64) {
        match whole(body, max).await {
            Ok(Some(body)) => return Ok(body),
            Ok(None) => {}
            Err(_) => return Err(Problem::malformed("the body ended early or is not well formed")),
        }
    }
    if announced.is_none_or(|length| length <= limits::BODY_DISCARD_BYTES_MAX as u64) {
        let mut rest = Limited::new(body, limits::BODY_DISCARD_BYTES_MAX);
        // What goes wrong in a body that is refused anyway does not matter.
        while let Some(Ok(_)) = rest.frame().await {}
    }
    Err(Problem::BodyTooLarge { max })
}

/// A body of at most `max` bytes; `None` as soon as it has more. One that comes in one piece, as most
/// do, is kept as it came.
async fn whole(body: &mut Incoming, max: usize) -> Result<Option<Bytes>, hyper::Error> {
    let (mut first, mut all) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        // What is no data are trailers, which nobody reads.
        let Ok(data) = frame?.into_data() else { continue };
        if first.len().max(all.len()) + data.len() > max {
            return Ok(None);
        }
        if first.is_empty() {
            first = data;
        } else {
            if all.is_empty() {
                all.extend_from_slice(&first);
            }
            all.extend_from_slice(&data);
        }
        if body.is_end_stream() {
            break;
        }
    }
    Ok(Some(if all.is_empty() { first } else { all.freeze() }))
}

/// Parses a body as the JSON that a route takes.
pub(super) fn parse<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, Problem> {
    let parsed: Result<Object<T>, _> = serde_json::from_slice(body);
    parsed.map(|object| object.0).map_err(|error| Problem::malformed(error.to_string()))
}

/// A JSON object. By itself serde reads a struct from a list of its fields' values too, which would
/// take `[]` for an object whose fields are all optional.
pub(super) struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
            }
        }
        deserializer.deserialize_map(Fields(PhantomData))
    }
}

/// JSON, or nothing said.
fn check_media_type(head: &Head) -> Result<(), Problem> {
    let Some(media) = head.headers.get(CONTENT_TYPE) else { return Ok(()) };
    let media = media.to_str().unwrap_or_default();
    let essence = media.split(';').next().unwrap_or_default().trim();
    let is_json = essence.eq_ignore_ascii_case("application/json")
        || (essence.len() > 5 && essence.to_ascii_lowercase().ends_with("+json"));
    if is_json { Ok(()) } else { Err(Problem::UnsupportedMediaType) }
}

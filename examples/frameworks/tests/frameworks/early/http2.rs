//! Early data in HTTP/2, which has several requests in one flight: at axum-server, and gRPC at tonic.

use std::collections::BTreeMap;
use std::io::Write;

use super::client::{H2, Returning, Unfinished};
use crate::{MODES, start_early};

/// What a client begins with: the preface, and settings.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let len = u8::try_from(payload.len()).expect("a short frame");
    [&[0, 0, len, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// A string of HPACK, as it is.
fn string(text: &str) -> Vec<u8> {
    let len = u8::try_from(text.len()).expect("a short string");
    [&[len], text.as_bytes()].concat()
}

/// GET, https and / are in the static table of HPACK.
pub(super) fn get(stream: u8) -> Vec<u8> {
    let block = [&b"\x82\x87\x84\x01"[..], &string("localhost")].concat();
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)
}

/// And so is POST.
pub(super) fn post(stream: u8) -> Vec<u8> {
    let block = [&b"\x83\x87\x84\x01"[..], &string("localhost")].concat();
    let headers = frame(HEADERS, END_HEADERS, stream, &block);
    [headers, frame(DATA, END_STREAM, stream, b"12345")].concat()
}

/// A call of the health service, with an empty message.
fn check(stream: u8) -> Vec<u8> {
    let block = [
        &b"\x83\x87\x04"[..],
        &string("/grpc.health.v1.Health/Check"),
        b"\x01",
        &string("localhost"),
        b"\x0f\x10", // content-type
        &string("application/grpc"),
        b"\0",
        &string("te"),
        &string("trailers"),
    ];
    let headers = frame(HEADERS, END_HEADERS, stream, &block.concat());
    [headers, frame(DATA, END_STREAM, stream, &[0; 5])].concat()
}

/// How long the first frame is.
fn frame_len(bytes: &[u8]) -> Option<usize> {
    let [a, b, c] = *bytes.first_chunk()?;
    Some(9 + u32::from_be_bytes([0, a, b, c]) as usize)
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) stream: u8,
    /// Whether its status is 200, which the static table of HPACK has, as it has not 425.
    pub(super) ok: bool,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// Whether the body has this.
    pub(super) fn says(&self, what: &str) -> bool {
        String::from_utf8_lossy(&self.body).contains(what)
    }
}

/// So many answers, by stream, once they are complete.
#[track_caller]
pub(super) fn answers(connection: &mut Unfinished, count: usize) -> Vec<Answer> {
    let mut answers: BTreeMap<u8, Answer> = BTreeMap::new();
    let mut complete = 0;
    while complete < count {
        let frame = connection.next(frame_len);
        let (kind, flags, stream) = (frame[3], frame[4], frame[8]);
        let payload = &frame[9..];
        match kind {
            SETTINGS | WINDOW_UPDATE => continue,
            HEADERS => {
                answers.entry(stream).or_insert_with(|| Answer {
                    stream,
                    ok: payload.starts_with(b"\x88"),
                    body: Vec::new(),
                });
            }
            DATA => {
                let answer = answers.get_mut(&stream).expect("HEADERS before DATA");
                answer.body.extend_from_slice(payload);
            }
            other => panic!("a frame of type {other} for stream {stream}: {payload:?}"),
        }
        complete += usize::from(flags & END_STREAM != 0);
    }
    answers.into_values().collect()
}

/// The one answer that comes next.
#[track_caller]
pub(super) fn answer(connection: &mut Unfinished) -> Answer {
    answers(connection, 1).remove(0)
}

/// No frame comes that answers anything.
#[track_caller]
pub(super) fn is_silent(connection: &mut Unfinished) {
    let rest = connection.rest();
    let mut frames = &rest[..];
    while !frames.is_empty() {
        let kind = frames.get(3).expect("a whole frame");
        let known = [SETTINGS, WINDOW_UPDATE].contains(kind);
        assert!(known, "answered before it may be: {frames:?}");
        frames = &frames[frame_len(frames).expect("a whole frame")..];
    }
}

#[test]
fn of_streams_in_one_flight_each_is_answered_when_it_may() {
    for (mode, source) in MODES {
        let server = start_early(env!("CARGO_BIN_EXE_axum_server"), mode, "wait");
        let client = Returning::to(server.address, H2, PREFACE);
        let mut connection = client.sends(&[PREFACE, &get(1), &post(3), &get(5)].concat());
        let early = answers(&mut connection, 2);
        for (answer, stream) in early.iter().zip([1, 5]) {
            assert_eq!((answer.stream, answer.ok), (stream, true), "{mode}");
            assert!(answer.says("unfinished ("), "{answer:?}");
        }
        is_silent(&mut connection);
        connection.finish();
        let outcome = format!("TLSv1.3 resumed: {source}, early data: accepted");
        let held = answer(&mut connection);
        assert_eq!((held.stream, held.ok), (3, true), "{mode}");
        assert!(held.says(&outcome), "{held:?}");
        // What comes now is like any other.
        connection.tls.write_all(&post(7)).expect("it is sent");
        let late = answer(&mut connection);
        assert_eq!((late.stream, late.ok), (7, true), "{mode}");
        assert!(late.says(&outcome), "{late:?}");
    }
}

#[test]
fn a_stream_is_too_early_and_the_others_are_not() {
    for (mode, _) in MODES {
        let server = start_early(env!("CARGO_BIN_EXE_axum_server"), mode, "too-early");
        let client = Returning::to(server.address, H2, PREFACE);
        let mut connection = client.sends(&[PREFACE, &post(1), &get(3)].concat());
        let early = answers(&mut connection, 2);
        let [refused, answered] = &early[..] else {
            panic!("{early:?}");
        };
        assert_eq!((refused.stream, refused.ok), (1, false), "{mode}");
        assert!(refused.body.is_empty(), "{refused:?}");
        assert_eq!((answered.stream, answered.ok), (3, true), "{mode}");
        connection.finish();
        connection
            .tls
            .write_all(&post(5))
            .expect("it is sent again");
        let again = answer(&mut connection);
        assert_eq!((again.stream, again.ok), (5, true), "{mode}");
    }
}

#[test]
fn a_call_waits_until_the_handshake_is_finished() {
    for (mode, _) in MODES {
        let server = start_early(env!("CARGO_BIN_EXE_tonic"), mode, "wait");
        let client = Returning::to(server.address, H2, PREFACE);
        let mut connection = client.sends(&[PREFACE, &check(1)].concat());
        is_silent(&mut connection);
        connection.finish();
        for stream in [1, 3] {
            if stream > 1 {
                connection
                    .tls
                    .write_all(&check(stream))
                    .expect("it is sent");
            }
            let serving = Answer {
                stream,
                ok: true,
                body: b"\0\0\0\0\x02\x08\x01".to_vec(),
            };
            assert_eq!(answer(&mut connection), serving, "{mode}");
        }
    }
}

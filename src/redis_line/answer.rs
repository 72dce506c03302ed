//! What Redis answers, as far as what it is asked for can be answered: strings, numbers, errors, and
//! lists of these. The parser of the `redis` crate reads lists in lists by recursion, which takes a
//! megabyte of the stack of whoever waits.

use std::io::{self, BufRead, ErrorKind};

use redis::Value;

/// The longest answer that is read: as many ticket keys as a ring has, or a session of the size that
/// OpenSSL can have, take less. What is longer is not ours.
pub(super) const MAX_ANSWER: u64 = 1 << 20;

/// More than the keys of a ring.
const MAX_ITEMS: usize = 1024;

/// Reads one answer (RESP 2).
pub(super) fn read(reader: &mut impl BufRead) -> io::Result<Value> {
    let line = line(reader)?;
    match line.split_first() {
        Some((b'*', length)) => {
            let Some(length) = size(length)? else {
                return Ok(Value::Nil);
            };
            if length > MAX_ITEMS {
                return Err(wrong("a list that is too long"));
            }
            let items = (0..length).map(|_| {
                let line = self::line(reader)?;
                item(reader, &line)
            });
            items.collect::<io::Result<_>>().map(Value::Array)
        }
        _ => item(reader, &line),
    }
}

/// What can be in a list, which begins with this line.
fn item(reader: &mut impl BufRead, line: &[u8]) -> io::Result<Value> {
    match line.split_first() {
        Some((b'+', b"OK")) => Ok(Value::Okay),
        Some((b'+', text)) => Ok(Value::SimpleString(String::from_utf8_lossy(text).into())),
        Some((b':', number)) => Ok(Value::Int(int(number)?)),
        Some((b'$', length)) => match size(length)? {
            Some(length) => bulk(reader, length).map(Value::BulkString),
            None => Ok(Value::Nil),
        },
        // An error is a line and nothing in it.
        Some((b'-', _)) => redis::parse_redis_value(&[line, b"\r\n"].concat())
            .map_err(|_| wrong("an error that cannot be read")),
        _ => Err(wrong("not an answer of Redis")),
    }
}

/// Without its end.
fn line(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    if !line.ends_with(b"\r\n") {
        return Err(wrong("not a line of Redis"));
    }
    line.truncate(line.len() - 2);
    Ok(line)
}

fn int(text: &[u8]) -> io::Result<i64> {
    let text = std::str::from_utf8(text).ok();
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| wrong("not a number of Redis"))
}

/// `None` is -1: nothing.
fn size(text: &[u8]) -> io::Result<Option<usize>> {
    match int(text)? {
        -1 => Ok(None),
        size => Ok(Some(
            usize::try_from(size).map_err(|_| wrong("a negative size"))?,
        )),
    }
}

fn bulk(reader: &mut impl BufRead, length: usize) -> io::Result<Vec<u8>> {
    if length as u64 > MAX_ANSWER {
        return Err(wrong("an answer of over 1 MiB"));
    }
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes)?;
    let mut end = [0; 2];
    reader.read_exact(&mut end)?;
    if end != *b"\r\n" {
        return Err(wrong("not a string of Redis"));
    }
    Ok(bytes)
}

pub(super) fn wrong(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(mut bytes: &[u8]) -> io::Result<Value> {
        read(&mut bytes)
    }

    #[test]
    fn answers_are_read_as_the_redis_crate_reads_them() {
        for answer in [
            "+OK\r\n",
            "+PONG\r\n",
            ":-17\r\n",
            "$-1\r\n",
            "$0\r\n\r\n",
            "$5\r\na\r\nbc\r\n",
            "*-1\r\n",
            "*0\r\n",
            "*3\r\n$1\r\na\r\n$-1\r\n:1\r\n",
            "-ERR unknown\r\n",
            "-WRONGTYPE Operation against a key\r\n",
            "*1\r\n-ERR inside\r\n",
        ] {
            let expected = redis::parse_redis_value(answer.as_bytes()).unwrap();
            assert_eq!(parse(answer.as_bytes()).unwrap(), expected, "{answer:?}");
        }
    }

    #[test]
    fn what_nobody_asked_for_is_an_error() {
        for answer in [
            "",
            "+OK",
            "+OK\n",
            "$x\r\n",
            "$-2\r\n",
            "$5\r\nabc\r\n",
            "$1\r\nabc",
            "$9999999999\r\n",
            "*9223372036854775807\r\n",
            "*1025\r\n",
            "*1\r\n*1\r\n+OK\r\n",
            "%1\r\n+a\r\n+b\r\n",
            ">1\r\n+a\r\n",
            "HTTP/1.1 400 Bad Request\r\n",
        ] {
            parse(answer.as_bytes()).expect_err(answer);
        }
        parse("*1\r\n".repeat(100_000).as_bytes()).unwrap_err();
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_an_error(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }

        #[test]
        fn and_those_that_look_like_answers(text in "([+:$*-][0-9a-z-]{0,3}\r\n){0,9}") {
            let ours = parse(text.as_bytes());
            if let Ok(ours) = ours {
                // The redis crate may have read a list in a list, and sees the same otherwise.
                prop_assert_eq!(ours, redis::parse_redis_value(text.as_bytes()).unwrap());
            }
        }
    }
}

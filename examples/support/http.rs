//! As little HTTP as it takes: one request after the other, an answer to each.

#![allow(dead_code, reason = "each example uses its own part")]

use httparse::{EMPTY_HEADER, Error, Request, Status};

/// The longest request line and headers, in bytes.
pub(crate) const MAX_HEAD: usize = 16 * 1024;

const MAX_HEADERS: usize = 100;

/// What to answer.
pub(crate) struct Reply {
    pub(crate) status: &'static str,
    pub(crate) content_type: &'static str,
    /// Further header lines, each with its line end.
    pub(crate) headers: String,
    pub(crate) body: String,
    /// Whether this is the connection's last answer.
    pub(crate) close: bool,
}

impl Reply {
    /// A last answer, without further headers.
    pub(crate) fn last(status: &'static str, content_type: &'static str, body: String) -> Self {
        Self {
            status,
            content_type,
            headers: String::new(),
            body,
            close: true,
        }
    }

    pub(crate) fn json(status: &'static str, body: String) -> Self {
        Self::last(status, "application/json", body)
    }
}

/// An answer as it is sent, and whether it is the last.
pub(crate) struct Answer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) close: bool,
}

/// The answer to a request that begins with `head`; `None` while more of the head has yet to come.
///
/// `reply` says what to answer to a good request for a path. The body of the request is never looked
/// at, which also serves a client that waits for "100 Continue".
pub(crate) fn answer(head: &[u8], reply: impl FnOnce(&str) -> Reply) -> Option<Answer> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut request = Request::new(&mut headers);
    let mut reply = match request.parse(head) {
        Ok(Status::Complete(_)) => {
            let target = request.path.unwrap_or_default();
            reply(target.split('?').next().unwrap_or_default())
        }
        Ok(Status::Partial) if head.len() < MAX_HEAD => return None,
        Ok(Status::Partial) | Err(Error::TooManyHeaders) => Reply::json(
            "431 Request Header Fields Too Large",
            format!(
                "{{\"error\":\"the request head is limited to {MAX_HEAD} bytes and {MAX_HEADERS} \
                 headers\"}}\n"
            ),
        ),
        Err(error) => Reply::json(
            "400 Bad Request",
            format!("{{\"error\":\"not an HTTP/1 request: {error}\"}}\n"),
        ),
    };
    // A client of HTTP/1.0 does not expect another; and a body would be taken for the next request.
    let has_body = request.headers.iter().any(|header| {
        let name = header.name;
        name.eq_ignore_ascii_case("Content-Length")
            || name.eq_ignore_ascii_case("Transfer-Encoding")
    });
    reply.close |= request.version != Some(1) || has_body;
    let mut answer = format!(
        "HTTP/1.1 {}\r\n\
         Content-Type: {}\r\n\
         Content-Length: {}\r\n\
         {}{}\r\n",
        reply.status,
        reply.content_type,
        reply.body.len(),
        reply.headers,
        if reply.close {
            "Connection: close\r\n"
        } else {
            ""
        },
    );
    if request.method != Some("HEAD") {
        answer.push_str(&reply.body);
    }
    Some(Answer {
        bytes: answer.into_bytes(),
        close: reply.close,
    })
}

//! As little HTTP as it takes: one request, one answer.

use httparse::{EMPTY_HEADER, Error, Request, Status};

/// The longest request line and headers, in bytes.
pub(crate) const MAX_HEAD: usize = 16 * 1024;

const MAX_HEADERS: usize = 100;

/// The answer to a request that begins with `head`; `None` while more of the head has yet to come.
///
/// `page` makes the body, if the request is a good one. The body of the request is never looked at,
/// which also serves a client that waits for "100 Continue".
pub(crate) fn answer(head: &[u8], page: impl FnOnce() -> String) -> Option<Vec<u8>> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut request = Request::new(&mut headers);
    let (status, body) = match request.parse(head) {
        Ok(Status::Complete(_)) => ("200 OK", page()),
        Ok(Status::Partial) if head.len() < MAX_HEAD => return None,
        Ok(Status::Partial) | Err(Error::TooManyHeaders) => (
            "431 Request Header Fields Too Large",
            format!(
                "{{\"error\":\"the request head is limited to {MAX_HEAD} bytes and {MAX_HEADERS} \
                 headers\"}}\n"
            ),
        ),
        Err(error) => (
            "400 Bad Request",
            format!("{{\"error\":\"not an HTTP/1 request: {error}\"}}\n"),
        ),
    };
    let mut answer = format!(
        "HTTP/1.1 {status}\r\n\
         Content-Type: application/json\r\n\
         Content-Length: {}\r\n\
         Connection: close\r\n\
         \r\n",
        body.len()
    );
    if request.method != Some("HEAD") {
        answer.push_str(&body);
    }
    Some(answer.into_bytes())
}

//! A client's stream that can keep back what is written.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

#[derive(Debug)]
pub struct Holding {
    stream: UnixStream,
    held: Option<Vec<u8>>,
}

impl Holding {
    pub fn new(stream: UnixStream) -> Self {
        Self { stream, held: None }
    }

    pub fn hold(&mut self) {
        self.held = Some(Vec::new());
    }

    pub fn release(&mut self) -> std::io::Result<()> {
        let held = self.held.take().unwrap_or_default();
        self.stream.write_all(&held)
    }
}

impl Read for Holding {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for Holding {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match &mut self.held {
            Some(held) => held.write(bytes),
            None => self.stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

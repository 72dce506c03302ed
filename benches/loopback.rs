//! The server that `beside_nginx.py` compares with nginx: one thread, one connection after the other, an answer
//! of some bytes to any request. `loopback VARIANT PORT CERT KEY`.

#![allow(missing_docs, reason = "no public interface")]

use std::env;
use std::error::Error;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod};

mod support;

use support::Variant;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<_> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if args.is_empty() {
        // `cargo bench` runs all there are.
        return Ok(());
    }
    let [variant, port, cert, key] = &args[..] else {
        return Err("loopback VARIANT PORT CERT KEY; report.py runs it".into());
    };
    let variant = Variant::ALL.into_iter().find(|v| v.to_string() == *variant);
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    builder.set_certificate_chain_file(cert)?;
    builder.set_private_key_file(key, SslFiletype::PEM)?;
    variant.ok_or("no such variant")?.apply(&mut builder)?;
    let acceptor = builder.build();
    for stream in TcpListener::bind(("127.0.0.1", port.parse()?))?.incoming() {
        // The client says what went wrong.
        let _ = answer(&acceptor, stream?);
    }
    Ok(())
}

fn answer(acceptor: &SslAcceptor, stream: TcpStream) -> Result<(), Box<dyn Error>> {
    stream.set_nodelay(true)?;
    let mut stream = acceptor.accept(stream)?;
    let _ = stream.read(&mut [0; 4_096])?;
    stream.write_all(b"HTTP/1.0 200 OK\r\ncontent-length: 10\r\n\r\nan answer\n")?;
    stream.shutdown()?;
    Ok(())
}

//! Plain threads, one for each connection; requests that come with the first flight are answered at once.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use openssl::ssl::{Ssl, SslAcceptor};
use openssl_resumption::{Resumption, SslContextBuilderExt, SslRefExt, accept_early};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let policy = frameworks::policy();
    let mut acceptor = frameworks::acceptor()?;
    acceptor.set_resumption(&policy)?;
    let acceptor = acceptor.build();

    let listener = TcpListener::bind(frameworks::address())?;
    println!("listening on {}", listener.local_addr()?);
    for tcp in listener.incoming() {
        let Ok(tcp) = tcp else {
            // Too many are open, say: some will end.
            thread::sleep(Duration::from_millis(50));
            continue;
        };
        tcp.set_read_timeout(Some(frameworks::PATIENCE))?;
        let (acceptor, policy) = (acceptor.clone(), policy.clone());
        thread::spawn(move || {
            if let Err(error) = serve(&acceptor, tcp, &policy) {
                eprintln!("{error}");
            }
        });
    }
    Ok(())
}

fn serve(
    acceptor: &SslAcceptor,
    tcp: TcpStream,
    policy: &Resumption,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut tls = accept_early(Ssl::new(acceptor.context())?, tcp)?;
    let mut request = [0; 4096];
    let len = tls.read(&mut request)?;
    if !request[..len].starts_with(b"GET ") {
        // It may change something: it must not be one that somebody recorded.
        tls.finished()?;
    }
    if len > 0 {
        let response = frameworks::response(policy, tls.ssl().resumption());
        tls.write_all(response.as_bytes())?;
    }
    let _ = tls.shutdown(); // the client may be gone
    Ok(())
}

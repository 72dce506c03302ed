//! Plain threads, one for each connection.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use openssl::ssl::SslStream;
use openssl_resumption::{Resumption, SslContextBuilderExt, SslRefExt};

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
        thread::spawn(move || match acceptor.accept(tcp) {
            Ok(tls) => serve(tls, &policy).unwrap_or_else(|error| eprintln!("{error}")),
            Err(error) => eprintln!("{error}"),
        });
    }
    Ok(())
}

fn serve(mut tls: SslStream<TcpStream>, policy: &Resumption) -> io::Result<()> {
    if tls.read(&mut [0; 4096])? > 0 {
        let response = frameworks::response(policy, tls.ssl().resumption());
        tls.write_all(response.as_bytes())?;
    }
    let _ = tls.shutdown(); // the client may be gone
    Ok(())
}

//! The example `status_page` in a real browser.
//!
//! The picture in the README is what a test leaves in `target/tmp`:
//!
//! ```sh
//! OPENSSL_RESUMPTION_ROUNDS=150 cargo test --test peers live
//! pngquant 64 --force --output docs/status_page.png target/tmp/status_page_light.png
//! ```

#![cfg(unix)]

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;

use crate::browser::Browser;
use crate::common::process::Server;
use crate::common::{Client, Kind};

/// How often the browser reconnects for the picture.
const ROUNDS: &str = "OPENSSL_RESUMPTION_ROUNDS";

/// Loads the page in TLS `version`, and presses the button until it says "resumed": how often.
fn load_and_reconnect(browser: &Browser, mode: &str, version: &str) -> (Server, usize) {
    let server = Server::start_example("status_page", &["--mode", mode, "--tls", version]);
    browser.open(&format!("https://{}/", server.address));
    assert_eq!(browser.text("handshake"), "full", "{mode} {version}");
    assert_eq!(browser.text("version"), format!("TLSv{version}"), "{mode}");
    assert!(!browser.text("why").is_empty());
    for presses in 1..=3 {
        reconnect(browser);
        assert_eq!(browser.text("version"), format!("TLSv{version}"), "{mode}");
        if browser.text("handshake") == "resumed" {
            return (server, presses);
        }
    }
    (server, 0)
}

/// Presses the button, and waits for the page to come over another connection.
fn reconnect(browser: &Browser) {
    let before = browser.text("number");
    browser.click("reconnect");
    browser.wait_until(&format!(
        "document.readyState == 'complete' && \
         document.getElementById('number')?.textContent != '{before}'"
    ));
}

#[test]
fn a_browser_that_reconnects_resumes() {
    let browser = Browser::start();
    for version in ["1.3", "1.2"] {
        for (mode, source) in [
            ("stateless", "ticket"),
            ("stateful", "store"),
            ("hybrid", "ticket"),
        ] {
            let (_server, presses) = load_and_reconnect(&browser, mode, version);
            // One is enough, unless the browser connected in advance, before it had a session.
            assert!(presses > 0, "{mode} {version}: not resumed");
            assert_eq!(browser.text("cause"), source, "{mode} {version}");
            browser.wait_until("document.querySelector('#chart rect.resumed') != null");
            browser.wait_until("Number(document.getElementById('resumed').textContent) > 0");
        }
    }
}

#[test]
fn a_browser_never_resumes_where_resumption_is_off() {
    let browser = Browser::start();
    let (_server, presses) = load_and_reconnect(&browser, "off", "1.3");
    assert_eq!(presses, 0);
    assert_eq!(browser.text("why"), "Resumption is switched off here.");
}

/// Nothing comes from elsewhere, nothing is refused by the page's own security policy, and asking for
/// numbers opens no connections. Leaves pictures in `target/tmp`; with more rounds there is more on them.
#[test]
fn the_page_is_live_over_one_connection_and_complains_of_nothing() {
    let browser = Browser::start();
    let (server, presses) = load_and_reconnect(&browser, "stateless", "1.3");
    assert!(presses > 0, "not resumed");
    let stranger = Client::new(Kind::Tls13).unwrap();
    let rounds = std::env::var(ROUNDS).map_or(10, |rounds| rounds.parse().unwrap());
    for round in 0..rounds {
        reconnect(&browser);
        if round % 4 == 0 {
            stranger
                .connect(TcpStream::connect(server.address).unwrap(), None)
                .unwrap();
        }
    }
    let polls = "performance.getEntriesByType('resource').filter(e => e.name.endsWith('status.json')).length";
    browser.wait_until(&format!("{polls} >= 1"));
    browser.wait_until("document.getElementById('polling').textContent.includes('are live')");
    let before = browser.text("polling");
    browser.wait_until(&format!("{polls} >= 3"));
    assert_eq!(browser.text("polling"), before, "another connection");

    let epoch = browser.text("facts");
    assert!(
        epoch.contains("of 60 s") && epoch.contains("has been sealing for"),
        "{epoch}"
    );
    let here = format!("https://{}/", server.address);
    let origins = browser.run("return performance.getEntriesByType('resource').map(e => e.name)");
    let origins = origins.as_array().unwrap();
    assert!(
        origins.len() > 3
            && origins
                .iter()
                .all(|name| name.as_str().unwrap().starts_with(&here))
    );
    let complaints = browser.complaints();
    assert_eq!(complaints.as_array().unwrap().len(), 0, "{complaints}");

    for scheme in ["dark", "light"] {
        browser.prefer(scheme);
        let picture = format!("status_page_{scheme}.png");
        let picture = Path::new(env!("CARGO_TARGET_TMPDIR")).join(picture);
        std::fs::write(picture, browser.screenshot()).unwrap();
    }
}

/// A request that comes with the first flight is answered before its handshake is finished, and counted on the page.
#[test]
fn early_data_is_on_the_page() {
    let server = Server::start_example("status_page", &["--mode", "stateless"]);
    let client = Client::new(Kind::Tls13).unwrap();
    let request = b"GET / HTTP/1.0\r\n\r\n";
    let tcp = || TcpStream::connect(server.address).unwrap();
    let mut first = client.connect(tcp(), None).unwrap();
    first.write_all(request).unwrap();
    let session = client.finish(first).unwrap().sessions.pop().unwrap();

    let mut second = client.start(tcp(), Some(&session)).unwrap();
    assert_eq!(second.write_early_data(request).unwrap(), request.len());
    second.connect().unwrap();
    let seen = client.finish(second).unwrap();
    let page = String::from_utf8_lossy(&seen.reply);
    assert!(
        page.contains(">early<") && page.contains("early data"),
        "{page}"
    );

    let browser = Browser::start();
    browser.open(&format!("https://{}/", server.address));
    browser.wait_until("document.getElementById('facts').textContent.includes('1 accepted')");
}

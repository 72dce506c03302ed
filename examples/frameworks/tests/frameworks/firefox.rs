//! Headless Firefox, driven over Marionette, which is what geckodriver, of which Debian has no
//! package, speaks with it.

use std::cell::{Cell, RefCell};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::process::Scratch;
use crate::programs;

/// How long anything may take. A busy machine needs a while to start a browser.
const PATIENCE: Duration = Duration::from_secs(120);

/// Let it choose the port, and not speak with its makers.
const PREFERENCES: &str = r#"
    user_pref("marionette.port", 0);
    user_pref("app.update.auto", false);
    user_pref("browser.safebrowsing.update.enabled", false);
    user_pref("datareporting.policy.dataSubmissionEnabled", false);
    user_pref("network.captive-portal-service.enabled", false);
    user_pref("network.connectivity-service.enabled", false);
    user_pref("services.settings.server", "");
"#;

/// A browser, ended when dropped.
pub(crate) struct Firefox {
    process: Child,
    /// `None` while it starts.
    driven: Option<RefCell<BufReader<TcpStream>>>,
    commands: Cell<u32>,
    scratch: Scratch,
}

impl Firefox {
    pub(crate) fn start() -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let scratch = Scratch::new(&format!("firefox-{}", STARTED.fetch_add(1, Relaxed)));
        scratch.write("user.js", PREFERENCES.as_bytes());
        let mut firefox = Command::new("firefox-esr");
        firefox.args(["--headless", "--marionette", "--no-remote", "--profile"]);
        firefox.arg(&scratch.0).env("HOME", &scratch.0);
        firefox.stdout(Stdio::null()).stderr(Stdio::null());
        let mut firefox = Self {
            process: programs::start(&mut firefox),
            driven: None,
            commands: Cell::new(0),
            scratch,
        };
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, firefox.port())).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut driven = BufReader::new(stream);
        let hello = message(&mut driven);
        assert_eq!(hello["marionetteProtocol"], 3, "{hello}");
        firefox.driven = Some(RefCell::new(driven));
        firefox.call(
            "WebDriver:NewSession",
            &json!({ "acceptInsecureCerts": true }),
        );
        firefox
    }

    pub(crate) fn open(&self, url: &str) {
        self.call("WebDriver:Navigate", &json!({ "url": url }));
    }

    /// What a script returns.
    pub(crate) fn run(&self, script: &str) -> Value {
        let script = json!({ "script": script, "args": [] });
        self.call("WebDriver:ExecuteScript", &script)["value"].take()
    }

    /// It writes the port into its profile.
    fn port(&mut self) -> u16 {
        let begun = Instant::now();
        loop {
            let port = std::fs::read_to_string(self.scratch.0.join("MarionetteActivePort"));
            if let Some(port) = port.ok().and_then(|port| port.trim().parse().ok()) {
                return port;
            }
            let ended = self.process.try_wait().unwrap();
            assert!(ended.is_none(), "Firefox has ended: {ended:?}");
            assert!(begun.elapsed() < PATIENCE, "Firefox does not start");
            sleep(Duration::from_millis(50));
        }
    }

    #[track_caller]
    fn call(&self, name: &str, parameters: &Value) -> Value {
        let id = self.commands.replace(self.commands.get() + 1);
        let mut driven = self.driven.as_ref().unwrap().borrow_mut();
        let command = json!([0, id, name, parameters]).to_string();
        let command = format!("{}:{command}", command.len());
        driven.get_mut().write_all(command.as_bytes()).unwrap();
        let mut answer = message(&mut driven);
        assert_eq!((&answer[0], &answer[1]), (&json!(1), &json!(id)));
        assert!(answer[2].is_null(), "{name}: {}", answer[2]);
        answer[3].take()
    }
}

/// A message with its length before it.
fn message(driven: &mut BufReader<TcpStream>) -> Value {
    let mut len = Vec::new();
    driven.read_until(b':', &mut len).unwrap();
    let len = String::from_utf8(len).unwrap();
    let mut message = vec![0; len.trim_end_matches(':').parse().expect(&len)];
    driven.read_exact(&mut message).unwrap();
    serde_json::from_slice(&message).unwrap()
}

impl Drop for Firefox {
    fn drop(&mut self) {
        // Its other processes end with it, and write into the profile until then.
        programs::signal(self.process.id(), "TERM");
        let begun = Instant::now();
        while matches!(self.process.try_wait(), Ok(None)) && begun.elapsed() < PATIENCE {
            sleep(Duration::from_millis(50));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

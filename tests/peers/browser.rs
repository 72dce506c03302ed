//! Headless Chromium, driven over WebDriver (<https://www.w3.org/TR/webdriver2/>) by chromedriver.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::common::process::Scratch;
use super::common::programs::{missing, start};

/// How long anything may take. A busy machine needs a while to start a browser.
const PATIENCE: Duration = Duration::from_secs(120);

/// A browser and its driver, ended when dropped.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
    /// Where the browser keeps what it does not always take away.
    _scratch: Scratch,
}

impl Browser {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Like `start`, with more arguments for the browser.
    pub(crate) fn start_with(args: &[&str]) -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let scratch = Scratch::new(&format!("browser-{}", STARTED.fetch_add(1, Relaxed)));
        let mut driver = Command::new("chromedriver");
        driver.arg("--port=0").env("TMPDIR", &scratch.0);
        let mut driver = start(driver.stdout(Stdio::piped()));
        let started = BufReader::new(driver.stdout.as_mut().unwrap())
            .lines()
            .find_map(|line| {
                let line = line.unwrap();
                let (_, port) = line.split_once("successfully on port ")?;
                port.trim_end_matches('.').parse().ok()
            });
        let port = started.expect("chromedriver says on which port it listens");
        let mut browser = Self {
            driver,
            port,
            session: String::new(),
            _scratch: scratch,
        };
        // Chromium has no sandbox when root runs it, as in a container.
        let mut all = vec![
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--window-size=760,1180",
        ];
        all.extend(args);
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "acceptInsecureCerts": true,
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "args": all },
        } } });
        let answer = browser
            .try_call("POST", "", Some(&wanted))
            .unwrap_or_else(|e| {
                panic!("chromedriver has no browser: {e} ({})", missing("chromium"))
            });
        browser.session = format!("/{}", answer["sessionId"].as_str().unwrap());
        browser
    }

    pub(crate) fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// What a script returns.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// The text of an element, as it is shown.
    pub(crate) fn text(&self, id: &str) -> String {
        let element = self.element(id);
        let text = self.call("GET", &format!("/element/{element}/text"), None);
        text.as_str().unwrap().to_owned()
    }

    pub(crate) fn click(&self, id: &str) {
        let element = self.element(id);
        self.post(&format!("/element/{element}/click"), &json!({}));
    }

    /// Waits until a script returns true.
    #[track_caller]
    pub(crate) fn wait_until(&self, condition: &str) {
        let begun = Instant::now();
        while self.run(&format!("return {condition}")) != true {
            assert!(begun.elapsed() < PATIENCE, "never: {condition}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What the browser complained of.
    pub(crate) fn complaints(&self) -> Value {
        self.post("/se/log", &json!({ "type": "browser" }))
    }

    /// Shows pages as to somebody who likes them `light` or `dark`.
    pub(crate) fn prefer(&self, scheme: &str) {
        let scheme = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        let command =
            json!({ "cmd": "Emulation.setEmulatedMedia", "params": { "features": scheme } });
        self.post("/goog/cdp/execute", &command);
    }

    /// The window as a PNG.
    pub(crate) fn screenshot(&self) -> Vec<u8> {
        let base64 = self.call("GET", "/screenshot", None);
        openssl::base64::decode_block(base64.as_str().unwrap()).unwrap()
    }

    fn element(&self, id: &str) -> String {
        let wanted = json!({ "using": "css selector", "value": format!("#{id}") });
        let element = self.post("/element", &wanted);
        // The one member has a fixed, strange name.
        let (_, name) = element.as_object().unwrap().iter().next().unwrap();
        name.as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn post(&self, path: &str, body: &Value) -> Value {
        self.call("POST", path, Some(body))
    }

    #[track_caller]
    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let answer = self.try_call(method, path, body);
        answer.unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }

    fn try_call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let body = body.map_or_else(String::new, Value::to_string);
        let request = format!(
            "{method} /session{}{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.session,
            body.len(),
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(answer.read_line(&mut head).unwrap() > 0, "cut off: {head}");
        }
        let (_, length) = head.split_once("Content-Length:").expect(&head);
        let length = length.lines().next().unwrap().trim().parse().unwrap();
        let mut body = vec![0; length];
        answer.read_exact(&mut body).unwrap();
        let mut body: Value = serde_json::from_slice(&body).unwrap();
        let mut value = body["value"].take();
        if head.starts_with("HTTP/1.1 200") {
            Ok(value)
        } else {
            Err(value["message"].take())
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser with the session.
        if !self.session.is_empty() {
            let _ = self.try_call("DELETE", "", None);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

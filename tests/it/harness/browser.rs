//! A real Chromium without a window, driven over WebDriver: HTTP and JSON, so that no crate is needed for it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;

use serde_json::{Value, json};

use super::process::{Process, program};
use super::{PATIENCE, wait_until};

/// One tab. It is closed when this is dropped.
pub struct Browser {
    // Fields are dropped in this order: the driver ends, then what Chromium wrote goes.
    driver: Process,
    address: String,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// `None` where there is no Chromium and none has to be.
    pub fn start() -> Option<Browser> {
        let chromium = program(&["/usr/bin/chromium"], "chromium")?;
        let driver = program(&["/usr/bin/chromedriver"], "chromium-driver")?;
        let driver = Process::start(Command::new(driver).arg("--port=0"));
        const STARTED: &str = "started successfully on port ";
        wait_until("chromedriver says its port", || driver.output().contains(STARTED));
        let output = driver.output();
        let port: String = output.split(STARTED).nth(1).unwrap().chars().take_while(char::is_ascii_digit).collect();
        let profile = tempfile::tempdir().unwrap();
        let mut browser =
            Browser { driver, address: format!("127.0.0.1:{port}"), session: String::new(), _profile: profile };
        let flags = "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run \
                     --disable-background-networking --disable-component-update --disable-sync --hide-scrollbars";
        let own = format!("--user-data-dir={}", browser._profile.path().display());
        let args: Vec<&str> = flags.split_whitespace().chain([own.as_str()]).collect();
        let options = json!({"binary": chromium, "args": args});
        let wanted = json!({"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}});
        let session = browser.ask("POST", "", &json!({"capabilities": {"alwaysMatch": wanted}}));
        browser.session = format!("/{}", session["sessionId"].as_str().unwrap());
        Some(browser)
    }

    pub fn open(&self, url: &str) {
        self.ask("POST", "/url", &json!({"url": url}));
    }

    /// What a JavaScript expression comes to in the page.
    #[track_caller]
    pub fn value(&self, expression: &str) -> Value {
        self.ask("POST", "/execute/sync", &json!({"script": format!("return ({expression})"), "args": []}))
    }

    /// As [`Browser::value`], of a text.
    #[track_caller]
    pub fn text(&self, expression: &str) -> String {
        self.value(expression).as_str().unwrap_or_else(|| panic!("{expression} is no text")).to_string()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub fn wait(&self, expression: &str) {
        wait_until(expression, || self.value(expression) == true);
    }

    /// As if the screen were so wide and high.
    pub fn resize(&self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.tell("Emulation.setDeviceMetricsOverride", &size);
    }

    /// As if its user liked `light` or `dark`.
    pub fn prefer(&self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.tell("Emulation.setEmulatedMedia", &features);
    }

    /// What was written to the console since the last time: errors of scripts, and what a policy refused.
    pub fn console(&self) -> Vec<String> {
        let lines = self.ask("POST", "/se/log", &json!({"type": "browser"}));
        lines.as_array().unwrap().iter().map(ToString::to_string).collect()
    }

    fn tell(&self, command: &str, parameters: &Value) {
        self.ask("POST", "/goog/cdp/execute", &json!({"cmd": command, "params": parameters}));
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let path = format!("/session{}{path}", self.session);
        let (status, mut answer) = exchange(&self.address, method, &path, &body.to_string()).unwrap();
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer["value"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium ends with its session, and would outlive a driver that is killed.
        if self.driver.is_running() && !self.session.is_empty() {
            let _ = exchange(&self.address, "DELETE", &format!("/session{}", self.session), "");
        }
    }
}

/// One request, and its answer. The driver keeps the connection, so the answer ends where it says.
fn exchange(address: &str, method: &str, path: &str, body: &str) -> std::io::Result<(u16, Value)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(2 * PATIENCE))?;
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes())?;
    let mut reader = BufReader::new(stream);
    let (mut status, mut length) = (0, 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().unwrap()
            }
            Some(_) => {}
            None if line.starts_with("HTTP/1.1 ") => status = line[9..12].parse().unwrap(),
            None => break,
        }
    }
    let mut answer = vec![0; length];
    reader.read_exact(&mut answer)?;
    Ok((status, serde_json::from_slice(&answer)?))
}

//! What users of other programs write, and the exact words that the built program answers.
//!
//! `tests/data/mistakes.toml` has the mistakes. An answer says what is wrong, where, and what to write instead.

mod program;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const MISTAKES: &str = include_str!("data/mistakes.toml");
const LISTENER: &str = "[listeners.l]\nbind = \"127.0.0.1:0\"\npool = \"p\"\n";
const POOL: &str = "[pools.p]\nbackends = [{ address = \"10.0.0.1:80\" }]\n";

/// An answer takes some milliseconds; on a busy machine more.
const ANSWER_MAX: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(5);

/// Runs ringway in a folder, with no variable of its own in the environment.
fn ringway(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program::program());
    for name in ["RINGWAY_SOCKET", "RINGWAY_SANDBOX", "ADDRESS", "BACKEND"] {
        command.env_remove(name);
    }
    command.current_dir(folder).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program was built");
    // A mistake that is taken for right would serve until the test ends it.
    for _ in 0..ANSWER_MAX.as_millis() / PAUSE.as_millis() {
        if child.try_wait().expect("it is ours").is_some() {
            return child.wait_with_output().expect("it has ended");
        }
        std::thread::sleep(PAUSE);
    }
    child.kill().expect("it is ours");
    child.wait_with_output().expect("it has ended")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("it writes UTF-8")
}

/// A configuration that is good but for what is written, in that table.
fn file_with(written: &str, table: &str) -> String {
    match table {
        "file" => written.to_string(),
        "top" => format!("{written}\n{LISTENER}{POOL}"),
        "pool" => format!("{LISTENER}{POOL}{written}\n"),
        "check" => format!("{LISTENER}{POOL}[pools.p.check]\n{written}\n"),
        "process" => format!("{LISTENER}{POOL}[process]\n{written}\n"),
        "listener" => format!("{POOL}{LISTENER}{written}\n"),
        "tls" => format!("{POOL}{LISTENER}[listeners.l.tls]\n{written}\n"),
        "pool tls" => format!("{LISTENER}{POOL}[pools.p.tls]\n{written}\n"),
        "listener without bind" => format!("{POOL}[listeners.l]\npool = \"p\"\n{written}\n"),
        "backend" => format!("{LISTENER}[[pools.p.backends]]\naddress = \"10.0.0.1:80\"\n{written}\n"),
        "backend without address" => format!("{LISTENER}[pools.p]\n[[pools.p.backends]]\n{written}\n"),
        other => panic!("no table is called {other}"),
    }
}

/// The rows of one kind.
fn rows(kind: &str) -> Vec<toml::Table> {
    let all: toml::Table = MISTAKES.parse().expect("it is TOML");
    all[kind].as_array().expect("a list").iter().map(|row| row.as_table().expect("a table").clone()).collect()
}

fn of<'a>(row: &'a toml::Table, key: &str) -> &'a str {
    row[key].as_str().expect("a text")
}

#[test]
fn a_mistake_in_a_file_is_answered_in_these_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut wrong, mut count) = (String::new(), 0);
    for row in rows("file") {
        let written = of(&row, "written");
        fs::write(folder.path().join("ringway.toml"), file_with(written, of(&row, "in"))).expect("it is written");
        let output = ringway(folder.path(), &["check", "ringway.toml"]);
        if (output.status.code(), text(&output.stderr)) != (Some(2), of(&row, "says")) {
            wrong += &format!("{written}\nexit {:?}: {}\n", output.status.code(), text(&output.stderr));
        }
        assert!(text(&output.stdout).is_empty(), "{written}");
        count += 1;
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(count >= 150, "{count}");
}

#[test]
fn a_mistake_on_the_command_line_is_answered_in_these_words() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("ringway.toml"), format!("{LISTENER}{POOL}")).expect("it is written");
    let (mut wrong, mut count) = (String::new(), 0);
    for row in rows("line") {
        let line = of(&row, "written");
        let arguments: Vec<&str> = line.split(' ').skip(1).collect();
        let output = ringway(folder.path(), &arguments);
        if (output.status.code(), text(&output.stderr).trim_end()) != (Some(2), of(&row, "says")) {
            wrong += &format!("{line}\nexit {:?}: {}\n", output.status.code(), text(&output.stderr));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(count >= 70, "{count}");
}

/// What editors and other systems make of a file.
#[test]
fn a_file_that_is_no_text_is_named_by_what_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = format!("{LISTENER}{POOL}");
    let utf_16 = |bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
        "\u{feff}".encode_utf16().chain(good.encode_utf16()).flat_map(bytes).collect()
    };
    let is_utf_16 = "ringway: cannot read ringway.toml: it is UTF-16; save it as UTF-8\n";
    let latin_1 = [good.as_bytes(), b"# b\xfccher\n"].concat();
    let files: [(&str, Vec<u8>, i32, &str); 7] = [
        ("a mark of the byte order", format!("\u{feff}{good}").into_bytes(), 0, ""),
        ("line ends of Windows", good.replace('\n', "\r\n").into_bytes(), 0, ""),
        ("tabs", good.replace(" = ", "\t=\t").into_bytes(), 0, ""),
        (
            "line ends of old Macs",
            good.replace('\n', "\r").into_bytes(),
            2,
            "ringway.toml:1:15: not valid TOML: its lines end with a carriage return alone; save it with line ends of \
             Linux\n",
        ),
        ("UTF-16", utf_16(u16::to_le_bytes), 2, is_utf_16),
        ("UTF-16, the other way round", utf_16(u16::to_be_bytes), 2, is_utf_16),
        (
            "Latin 1",
            latin_1,
            2,
            "ringway: cannot read ringway.toml: line 6 holds the byte 0xfc, which is no UTF-8; save it as UTF-8\n",
        ),
    ];
    for (what, bytes, code, says) in files {
        fs::write(folder.path().join("ringway.toml"), bytes).expect("it is written");
        let output = ringway(folder.path(), &["check", "ringway.toml"]);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(code), says), "{what}");
    }
}

//! The password of a check, read anew each time.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use super::{CheckTrouble, Lack};
use crate::base::text::without_line_end;
use crate::config::model::Login;
use crate::sys::reading::{self, Readings};

/// Longer files are something else.
const BYTES_MAX: usize = 4096;

thread_local! {
    /// Password files that are being read. Control is one thread.
    static READING: Readings<String> = Readings::default();
}

/// An account with its password, which no log and no message shows.
pub(super) struct Credentials {
    /// Empty if none is configured, which Redis takes for its default user.
    pub user: String,
    /// `None` without `password_file`.
    pub password: Option<String>,
}

/// Reads what belongs to a login. This comes before connecting: a server that is left at its greeting may hold it
/// against us.
pub(super) async fn account(login: &Login, timeout: Duration) -> Result<Credentials, CheckTrouble> {
    Ok(Credentials { user: login.user.clone(), password: password(login, reading::patience(timeout)).await? })
}

/// Reads the password, or waits for the thread that already reads the same file.
async fn password(login: &Login, timeout: Duration) -> Result<Option<String>, CheckTrouble> {
    let Some(path) = &login.password_file else { return Ok(None) };
    let lacks = |error| CheckTrouble::Unknown(Lack::of_file("password_file", path, error));
    let reading = READING.with(|all| all.begin(path, read)).map_err(lacks)?;
    reading.done(timeout).await.map(Some).map_err(lacks)
}

/// The text of the file without the one end of line that editors add.
fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(BYTES_MAX as u64 + 1).read_to_string(&mut text)?;
    if text.len() > BYTES_MAX {
        return Err(io::Error::other("it is longer than any password"));
    }
    text.truncate(without_line_end(&text).len());
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::testing::run;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn of_file(path: &Path) -> Result<Option<String>, CheckTrouble> {
        run(password(&Login { user: String::new(), password_file: Some(path.to_path_buf()) }, PATIENCE))
    }

    #[test]
    fn one_line_end_is_no_part_of_it_and_blanks_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        for (written, meant) in
            [("a", "a"), ("a\n", "a"), (" a \r\n", " a "), ("a\n\n", "a\n"), ("a\r", "a\r"), ("", "")]
        {
            std::fs::write(&path, written).unwrap();
            assert_eq!(of_file(&path).unwrap().as_deref(), Some(meant), "{written:?}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named_and_its_content_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        let long = folder.path().join("long");
        std::fs::write(&long, "secret".repeat(1000)).unwrap();
        let binary = folder.path().join("binary");
        std::fs::write(&binary, b"secret\xff").unwrap();
        for (path, reason) in [(&missing, "No such file"), (&long, "longer than any"), (&binary, "valid UTF-8")] {
            let Err(CheckTrouble::Unknown(lack)) = of_file(path) else { panic!("known") };
            let text = lack.to_string();
            assert!(text.contains(&*path.to_string_lossy()) && text.contains(reason), "{text}");
            assert!(!text.contains("secret") && !format!("{lack:?}").contains("secret"), "{text}");
        }
    }

    #[test]
    fn a_file_that_hangs_has_one_reader_and_is_read_again_when_it_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let readers = || {
            let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
            threads.filter(|thread| {
                std::fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name == "ringway-file\n")
            })
        };
        let login = Login { user: String::new(), password_file: Some(path.clone()) };
        let before = readers().count();
        run(async {
            for _ in 0..5 {
                let hangs = password(&login, Duration::from_millis(20)).await;
                let Err(CheckTrouble::Unknown(lack)) = hangs else { panic!("it is read") };
                assert!(lack.to_string().contains("it hangs"), "{lack}");
            }
            assert!(readers().count() <= before + 1, "one reader");
            let there = path.clone();
            let writer = std::thread::spawn(move || std::fs::write(there, "secret\n"));
            assert_eq!(password(&login, PATIENCE).await.unwrap().as_deref(), Some("secret"));
            writer.join().unwrap().unwrap();
        });
    }
}

//! The password of a check, read anew each time, so that it can be changed without a word to ringway.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::{Failure, Trouble};
use crate::config::model::Login;
use crate::stats::ConnectError;

/// Longer files are something else.
const BYTES_MAX: usize = 4096;

/// An account with its password, which is shown to nobody.
pub(super) struct Account {
    pub user: String,
    pub password: Option<String>,
}

/// Reads what belongs to a login. This comes before connecting: a server that is left at its greeting may hold it
/// against us.
pub(super) async fn account(login: &Login) -> Result<Account, Trouble> {
    Ok(Account { user: login.user.clone(), password: password(login).await? })
}

async fn password(login: &Login) -> Result<Option<String>, Trouble> {
    let Some(path) = login.password_file.clone() else { return Ok(None) };
    let there = path.clone();
    // Elsewhere, as a file system may hang; the time-out of the check counts here too.
    let read = tokio::task::spawn_blocking(move || read(&there)).await;
    match read.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Ok(password) => Ok(Some(password)),
        Err(error) if ConnectError::of(&error) == ConnectError::Resource => Err(Trouble::Inconclusive(error)),
        Err(error) => Err(Failure::Password { path, error }.into()),
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(BYTES_MAX as u64 + 1).read_to_string(&mut text)?;
    if text.len() > BYTES_MAX {
        return Err(io::Error::other("it is longer than any password"));
    }
    let end = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line)).len();
    text.truncate(end);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::probe::testing::run;

    fn of_file(path: &Path) -> Result<Option<String>, Trouble> {
        run(password(&Login { user: String::new(), password_file: Some(path.to_path_buf()) }))
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
            let Err(Trouble::Failure(failure)) = of_file(path) else { panic!("not a failure") };
            let text = failure.to_string();
            assert!(text.contains(&*path.to_string_lossy()) && text.contains(reason), "{text}");
            assert!(!text.contains("secret") && !format!("{failure:?}").contains("secret"), "{text}");
        }
    }
}

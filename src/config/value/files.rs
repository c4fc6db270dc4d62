//! Lists of networks in files of their own: one network per line, `#` begins a comment.

use std::io;
use std::path::{Path, PathBuf};

use super::{Decoder, Fault, Value, WHOLE_PATH, quoted, wrong};
use crate::admit::networks::Network;
use crate::config::model::NetworkFile;

/// Bad lines of one file that are shown.
const SHOWN_MAX: usize = 20;

impl Decoder<'_> {
    /// Reads the list that a key names.
    pub(super) fn network_file(&self, path: &str) -> Result<Value, Vec<Fault>> {
        if path.is_empty() {
            return Ok(Value::NetworkFile(None));
        }
        if !path.starts_with('/') {
            return Err(vec![wrong(path, WHOLE_PATH)]);
        }
        let path = PathBuf::from(path);
        let bytes = self.outside.file(&path).map_err(|error| vec![Fault::File(unread(&path, &error))])?;
        let text = String::from_utf8(bytes)
            .map_err(|_| vec![Fault::File(format!("{} is not text in UTF-8", path.display()))])?;
        let networks =
            networks(&path, &text).map_err(|faults| faults.into_iter().map(Fault::File).collect::<Vec<_>>())?;
        Ok(Value::NetworkFile(Some(NetworkFile { path, networks })))
    }
}

/// Why a file was not read, and what to do.
fn unread(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => format!("there is no file {path}"),
        io::ErrorKind::PermissionDenied => {
            format!(
                "{path} cannot be read: the user that ringway runs as must be allowed to read it, and a running \
                     ringway reads only below the folders that it was started with"
            )
        }
        _ => format!("{path} cannot be read: {error}"),
    }
}

/// The networks of a list, or what is wrong with it: one text per bad line, with its place.
fn networks(path: &Path, text: &str) -> Result<Vec<Network>, Vec<String>> {
    let (mut networks, mut faults) = (Vec::new(), Vec::new());
    let mut bad = 0;
    for (index, line) in text.lines().enumerate() {
        let entry = line.split('#').next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        match entry.parse::<Network>() {
            Ok(network) => networks.push(network),
            Err(why) => {
                bad += 1;
                if bad <= SHOWN_MAX {
                    let entry = quoted(entry);
                    faults.push(format!("{}:{}: {entry}: {why}", path.display(), index + 1));
                }
            }
        }
    }
    if bad > SHOWN_MAX {
        faults.push(format!("{}: and {} more lines like that", path.display(), bad - SHOWN_MAX));
    }
    if faults.is_empty() { Ok(networks) } else { Err(faults) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_one_network_per_line_and_comments() {
        let text = "# offices\n10.0.0.0/8\n\n  2001:db8::/32  # the new one\r\nunix:\n192.0.2.7";
        let shown: Vec<String> = networks(Path::new("/l"), text).unwrap().iter().map(Network::to_string).collect();
        assert_eq!(shown, ["10.0.0.0/8", "2001:db8::/32", "unix:", "192.0.2.7"]);
        assert_eq!(networks(Path::new("/l"), "# nothing\n"), Ok(Vec::new()));
    }

    #[test]
    fn every_bad_line_is_named_up_to_twenty() {
        let faults = networks(Path::new("/l"), "10.0.0.0/8\n10.0.0.1/8\nhost.example\n").unwrap_err();
        assert_eq!(faults.len(), 2);
        assert!(faults[0].starts_with("/l:2: \"10.0.0.1/8\": that network begins at 10.0.0.0/8"), "{}", faults[0]);
        assert!(faults[1].starts_with("/l:3: \"host.example\": write an address"), "{}", faults[1]);
        let faults = networks(Path::new("/l"), &"x\u{1b}\n".repeat(1000)).unwrap_err();
        assert_eq!(faults.len(), SHOWN_MAX + 1);
        assert_eq!(faults[SHOWN_MAX], "/l: and 980 more lines like that");
        assert!(!faults[0].contains('\u{1b}'));
    }
}

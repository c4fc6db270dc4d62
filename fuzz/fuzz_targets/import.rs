//! A configuration of another program, as anybody may write it: it is read or refused, and what is written is a
//! configuration of ringway. That it ends in time is libFuzzer's to see (`-timeout`).
#![no_main]

use std::io;
use std::path::{Path, PathBuf};

use ringway::config::load;
use ringway::import::{Files, Language, guess, translate};

/// One file that everything includes, and a variable.
struct Beside<'a>(&'a str);

impl Files for Beside<'_> {
    fn variable(&self, name: &str) -> Option<String> {
        name.starts_with('A').then(|| "10.0.0.1".to_string())
    }

    fn text(&self, path: &Path) -> io::Result<String> {
        if path.ends_with("none") { Err(io::ErrorKind::NotFound.into()) } else { Ok(self.0.to_string()) }
    }

    fn matching(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(vec![pattern.to_path_buf()])
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (main, beside) = text.split_once("\n#### beside\n").unwrap_or((text, "10.0.0.0/8\n"));
    let _ = guess(main);
    for language in [Language::Haproxy, Language::Nginx] {
        let all = match translate(main, "fuzzed", language, &Beside(beside)) {
            Ok(all) => all,
            Err(fault) => {
                assert!(!fault.to_string().is_empty());
                continue;
            }
        };
        assert!(!all.toml.is_empty() || all.refused() > 0);
        for note in &all.notes {
            assert!(!note.to_string().contains('\n'), "{note}");
        }
        // Lists in files of their own cannot be read here.
        if !all.toml.is_empty() && !all.toml.contains("_file = ") && !all.toml.contains("${") {
            assert!(load(&all.toml, "imported.toml", &|_: &str| None).is_ok(), "{}", all.toml);
        }
    }
});

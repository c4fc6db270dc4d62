//! Rules that a machine keeps, each with its reason. They are explained in ARCHITECTURE.md and CONTRIBUTING.md.

#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/names.rs"]
mod names;
#[path = "tidy/words.rs"]
mod words;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Which modules stand on which floor. A module names only floors below its own.
const FLOORS: [&[&str]; 14] = [
    &["base"],
    &["wire", "kernel"],
    &["admit", "balance", "health", "relay", "roster", "stats", "sys", "tls"],
    &["discover"],
    &["session", "config", "uring", "epoll"],
    &["snapshot", "probe", "import"],
    &["admission", "fleet"],
    &["worker", "log"],
    &["api"],
    &["take_over"],
    &["control"],
    &["app"],
    &["cli"],
    &["main"],
];

/// Where an outside crate may stand, as the beginnings of paths below `src`; "" is everywhere.
const CRATES: &[(&str, &[&str])] = &[
    ("aws_lc_rs", &["discover/http", "probe/terms", "tls"]),
    ("anyhow", &["main", "app", "cli"]),
    ("axum", &["api", "take_over/giver"]),
    ("clap", &["cli"]),
    ("base64", &["discover/etcd", "discover/kubernetes"]),
    ("caps", &["app"]),
    ("nix", &["app", "sys/pass", "sys/socket_file"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("crc", &["wire/proxy"]),
    ("crossbeam", &["snapshot/cell", "worker", "stats", "epoll/post"]),
    ("fastrand", &["worker", "control", "discover", "app"]),
    ("flate2", &[]),
    ("http_body_util", &["discover/http", "probe", "take_over", "cli/ctl"]),
    ("hickory_proto", &["discover/dns"]),
    ("humantime", &["cli", "config", "api", "log", "fleet", "app/log_line"]),
    ("hyper", &["discover/http", "probe", "api", "take_over", "cli/ctl", "config/check/http"]),
    ("hyper_util", &["discover/http", "probe", "api", "take_over", "cli/ctl"]),
    ("io_uring", &["uring"]),
    ("landlock", &["app/sandbox", "cli/doctor"]),
    ("libc", &["uring", "sys", "kernel/errno", "kernel/poll"]),
    ("ipnet", &["admit", "roster", "api", "cli/ctl"]),
    ("iptrie", &["admit"]),
    ("metrics", &["api"]),
    ("metrics_exporter_prometheus", &["api/metrics"]),
    ("mysql_common", &["probe"]),
    ("ratatui", &["cli/top"]),
    ("redis", &["probe"]),
    ("regex", &["health/ask"]),
    ("rustix", &["epoll/linux"]),
    ("rustls", &["discover/http", "probe", "sys/authorities", "tls"]),
    ("webpki", &["tls/server"]),
    ("zeroize", &["tls/server"]),
    ("rustls_native_certs", &["control/disk", "sys/authorities"]),
    ("seccompiler", &["sys/filter"]),
    ("sd_notify", &["control/notify", "app/inherited"]),
    ("serde", &["config", "api", "discover", "fleet/kept", "fleet/order", "log", "cli/ctl", "app/log_line"]),
    (
        "serde_json",
        &[
            "api",
            "config/added",
            "control/state_file",
            "discover",
            "fleet/kept",
            "log",
            "take_over/taker",
            "cli/ctl",
            "cli/top",
            "app/log_line",
        ],
    ),
    ("serde_saphyr", &["discover/kubernetes"]),
    ("serde_spanned", &["config"]),
    ("slab", &["epoll/watch"]),
    ("socket2", &["uring", "sys", "app"]),
    ("strsim", &["config"]),
    ("syslog", &["log"]),
    ("thiserror", &[""]),
    ("tokio", &["api", "control", "discover", "log", "probe", "stats/alarm", "sys/reading", "take_over", "cli/ctl"]),
    ("tokio_postgres", &["probe"]),
    ("tokio_rustls", &["discover/http", "probe"]),
    ("tokio_uring", &["log"]),
    ("toml", &["config"]),
    (
        "tracing",
        &[
            "api",
            "control",
            "discover",
            "log",
            "probe",
            "sys/watched_file",
            "take_over",
            "worker",
            "app",
            "cli",
            "main",
        ],
    ),
    ("tracing_subscriber", &["app", "cli", "main"]),
    ("x509_cert", &["tls/facts"]),
    ("xxhash_rust", &["base/hash"]),
];

/// Where `unsafe` may stand.
const UNSAFE: &[&str] = &["uring", "sys", "snapshot/cell"];

const LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const COLUMNS_MAX: usize = 120;

/// A file of ours: its path below the repository, and its text.
struct File {
    path: String,
    text: String,
}

impl File {
    /// Path below `src` without the extension: `uring/ring`.
    fn module(&self) -> Option<&str> {
        Some(self.path.strip_prefix("src/")?.trim_end_matches(".rs").trim_end_matches("/mod"))
    }

    /// Lines that are compiled into the product, with their numbers: no comments, no tests, no text of literals.
    fn code(&self) -> Vec<(usize, String)> {
        if self.path.ends_with("tests.rs") {
            return Vec::new();
        }
        let mut code = Vec::new();
        let mut lines = self.text.lines().enumerate().peekable();
        while let Some((at, line)) = lines.next() {
            let inline_tests = lines.peek().is_some_and(|(_, next)| next.starts_with("mod ") && next.ends_with('{'));
            if line.starts_with("#[cfg(test)]") && inline_tests {
                break; // tests stand last
            }
            code.push((at + 1, without_text(line)));
        }
        code
    }
}

/// A line without its comment and without what stands in quotes.
fn without_text(line: &str) -> String {
    let (mut out, mut quoted, mut previous) = (String::new(), false, ' ');
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if quoted && c == '\\' {
            chars.next();
        } else if c == '"' && previous != '\'' {
            quoted = !quoted;
        } else if !quoted && c == '/' && chars.peek() == Some(&'/') {
            break;
        } else if !quoted {
            out.push(c);
        }
        previous = c;
    }
    out
}

/// The words in front of which a path may begin, found where `word` begins a path: `word::`.
fn begins_path(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(is_part);
        let after = &line[at + word.len()..];
        let ends = after.starts_with("::") || (line.trim_start().starts_with("use ") && after.starts_with([';', ' ']));
        !before && ends
    })
}

/// The modules of ours that a line names: `crate::x`, `crate::{x, y}`, `ringway::x`.
fn named_modules(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for root in ["crate::", "ringway::"] {
        for (at, _) in line.match_indices(root) {
            let rest = &line[at + root.len()..];
            let names = rest.strip_prefix('{').map_or(vec![rest], |group| top_level(group));
            let word =
                |name: &str| name.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().map(str::to_string);
            found.extend(names.into_iter().filter_map(word).filter(|name| !name.is_empty()));
        }
    }
    found
}

/// Splits `a::{b, c}, d}` at the commas outside inner braces.
fn top_level(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                parts.push(&group[start..at]);
                return parts;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&group[start..]);
    parts
}

fn floor_of(module: &str) -> Option<usize> {
    let top = module.split('/').next().unwrap_or(module);
    FLOORS.iter().position(|names| names.contains(&top))
}

fn may_stand(module: &str, places: &[&str]) -> bool {
    places.iter().any(|place| place.is_empty() || module == *place || module.starts_with(&format!("{place}/")))
}

/// Everything that breaks a rule of the architecture in one file of `src`.
fn faults_of_architecture(file: &File) -> Vec<String> {
    let Some(module) = file.module().filter(|module| *module != "lib") else { return Vec::new() };
    let Some(floor) = floor_of(module) else {
        return vec![format!("{}: stands on no floor; give it one in tests/tidy.rs and ARCHITECTURE.md", file.path)];
    };
    let top = module.split('/').next().unwrap_or(module);
    let mut faults = Vec::new();
    // A `use` over several lines counts as one.
    let mut open: Option<(usize, String)> = None;
    for (number, line) in file.code() {
        let (number, line) = match open.take() {
            Some((first, begun)) => (first, format!("{begun} {}", line.trim())),
            None => (number, line),
        };
        let is_use = line.trim_start().trim_start_matches("pub ").starts_with("use ");
        if is_use && !line.contains(';') {
            open = Some((number, line));
            continue;
        }
        let at = format!("{}:{number}", file.path);
        for name in named_modules(&line) {
            if name != top && floor_of(&name).is_some_and(|other| other >= floor) {
                faults.push(format!("{at}: `{top}` names `{name}`; a module names only floors below its own"));
            }
        }
        for (name, places) in CRATES {
            if begins_path(&line, name) && !may_stand(module, places) {
                faults.push(format!("{at}: the crate `{name}` stands only in {places:?}"));
            }
        }
        let words: Vec<&str> = line.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        if words.contains(&"unsafe") && !may_stand(module, UNSAFE) {
            faults.push(format!("{at}: `unsafe` stands only in {UNSAFE:?}"));
        }
    }
    faults
}

/// Everything that breaks a rule of style in one file.
fn faults_of_style(file: &File) -> Vec<String> {
    let mut faults = Vec::new();
    let lines: Vec<&str> = file.text.lines().collect();
    if lines.len() > LINES_MAX {
        faults.push(format!("{}: {} lines; more than {LINES_MAX} are two files", file.path, lines.len()));
    }
    // Written apart so that this file passes.
    let banned = [concat!("FIX", "ME"), concat!("TO", "DO"), concat!("db", "g!("), concat!("super::", "super")];
    for (number, line) in lines.iter().enumerate() {
        let at = format!("{}:{}", file.path, number + 1);
        if line.chars().count() > COLUMNS_MAX {
            faults.push(format!("{at}: more than {COLUMNS_MAX} columns"));
        }
        for word in banned.iter().filter(|word| line.contains(**word)) {
            faults.push(format!("{at}: `{word}`; finish it, or say where it lives by its full path"));
        }
        let is_empty_doc = ["/// Likewise", "/// See the module"].iter().any(|words| line.trim().starts_with(words));
        if is_empty_doc && file.path.starts_with("src/") {
            faults.push(format!(
                "{at}: say what it is; a reader who comes here from elsewhere has read nothing before it"
            ));
        }
        if line.trim() == concat!("#[ign", "ore]") {
            faults.push(format!("{at}: an ignored test gives its reason, #[ignore = \"…\"]"));
        }
        if let Some(length) = function_lines(&lines[number..]).filter(|length| *length > FUNCTION_LINES_MAX) {
            faults.push(format!("{at}: a function of {length} lines; {FUNCTION_LINES_MAX} fit on a screen"));
        }
    }
    faults
}

/// Length of the function that begins on the first line, if one does. The code is formatted, so it ends at the brace
/// that stands where it began.
fn function_lines(lines: &[&str]) -> Option<usize> {
    let first = lines[0];
    let indent = &first[..first.len() - first.trim_start().len()];
    let is_modifier = |word: &&str| word.starts_with("pub") || ["const", "unsafe", "async", "extern"].contains(word);
    let mut words = first.split_whitespace().skip_while(is_modifier);
    if words.next() != Some("fn") {
        return None;
    }
    let signature = lines.iter().position(|line| line.ends_with(['{', '}', ';']))?;
    if !lines[signature].ends_with('{') {
        return Some(signature + 1);
    }
    let end = lines.iter().position(|line| line.strip_prefix(indent).is_some_and(|rest| rest == "}"))?;
    Some(end + 1)
}

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder.
fn files(folder: &str) -> Vec<File> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    walk(&repository().join(folder), &mut paths);
    paths.sort();
    let file = |path: PathBuf| File {
        text: fs::read_to_string(&path).expect("a file that was just listed"),
        path: path.strip_prefix(repository()).expect("it was found below").display().to_string(),
    };
    paths.into_iter().map(file).collect()
}

#[test]
fn modules_name_only_floors_below_and_crates_stay_in_their_place() {
    let faults: Vec<String> = files("src").iter().flat_map(faults_of_architecture).collect();
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn files_and_functions_are_short_and_finished() {
    let all = ["src", "tests", "benches"].into_iter().flat_map(files);
    let faults: Vec<String> = all.flat_map(|file| faults_of_style(&file)).collect();
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn every_source_file_is_part_of_the_program() {
    let all = files("src");
    let mut reached: BTreeSet<String> = ["src/lib.rs", "src/main.rs"].map(String::from).into();
    loop {
        let before = reached.clone();
        for file in all.iter().filter(|file| before.contains(&file.path)) {
            let stem = file.path.trim_end_matches(".rs");
            let is_root = ["/mod", "/lib", "/main"].iter().any(|name| stem.ends_with(name));
            let folder = if is_root { stem.rsplit_once('/').map_or(stem, |(folder, _)| folder) } else { stem };
            for line in file.text.lines() {
                let declaration = line.trim().trim_start_matches("pub(crate) ");
                let declaration = declaration.trim_start_matches("pub(super) ").trim_start_matches("pub ");
                if let Some(name) = declaration.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) {
                    reached.extend([format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")]);
                }
            }
        }
        if reached == before {
            break;
        }
    }
    let dead: Vec<&str> = all.iter().map(|file| file.path.as_str()).filter(|path| !reached.contains(*path)).collect();
    assert!(dead.is_empty(), "no `mod` declaration leads to {dead:?}");
}

#[test]
fn every_dependency_has_its_place() {
    let manifest = fs::read_to_string(repository().join("Cargo.toml")).expect("the manifest");
    let section =
        manifest.split("[dependencies]\n").nth(1).and_then(|rest| rest.split("\n[").next()).expect("a section");
    for line in section.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let name = line.split([' ', '=']).next().unwrap_or_default().replace('-', "_");
        assert!(CRATES.iter().any(|(known, _)| *known == name), "say in tests/tidy.rs where `{name}` may stand");
    }
}

#[test]
fn the_architecture_page_stays_short() {
    let page = fs::read_to_string(repository().join("ARCHITECTURE.md")).expect("the page");
    assert!(page.lines().count() <= 150);
}

/// A page that leads to rooms that are not there is worse than none.
#[test]
fn every_module_that_a_document_names_is_there() {
    let sources = files("src");
    let all: BTreeSet<&str> = sources.iter().filter_map(File::module).collect();
    let is_ours = |name: &str| FLOORS.iter().any(|floor| floor.contains(&name));
    let mut lost = Vec::new();
    for page in ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md", "tests/sim/README.md"] {
        let text = fs::read_to_string(repository().join(page)).expect("a page");
        for path in text.split('`').skip(1).step_by(2).filter(|quoted| !quoted.contains([' ', '\n'])) {
            let parts: Vec<&str> = path.trim_end_matches(".rs").split("::").flat_map(|part| part.split('/')).collect();
            // Modules are written small; what stands behind them is an item of theirs.
            let modules: Vec<&str> =
                parts.iter().copied().take_while(|part| part.starts_with(char::is_lowercase)).collect();
            if modules.len() < 2 || !is_ours(modules[0]) {
                continue;
            }
            let (whole, parent) = (modules.join("/"), modules[..modules.len() - 1].join("/"));
            // A function of a module is written as a module is: then its name stands in the file.
            let is_there = all.contains(&*whole) || {
                let item = modules[modules.len() - 1];
                let holds = |file: &File| file.module() == Some(&parent) && file.text.contains(&format!("fn {item}"));
                sources.iter().any(holds)
            };
            if !is_there {
                lost.push(format!("{page}: `{path}`"));
            }
        }
    }
    assert!(lost.is_empty(), "there is no {lost:#?}");
}

/// A rule that sees nothing would pass for ever.
#[test]
fn each_rule_sees_what_breaks_it() {
    let seen = |path: &str, text: &str, what: &str| {
        let file = File { path: path.to_string(), text: text.to_string() };
        let faults = [faults_of_architecture(&file), faults_of_style(&file)].concat();
        assert_eq!(faults.len(), usize::from(!what.is_empty()), "{text}: {faults:?}");
        assert!(faults.iter().all(|fault| fault.contains(what)), "{faults:?}");
    };
    seen("src/relay/copy.rs", "use crate::{base::time::Moment,\n    worker};", "`relay` names `worker`");
    seen("src/worker/mod.rs", "fn x() { crate::control::y(); }", "`worker` names `control`");
    seen("src/worker/mod.rs", "use crate::{base::{id, time}, uring::ring};", "");
    seen("src/app.rs", "use crate::cli;", "`app` names `cli`");
    seen("src/cli/mod.rs", "use crate::app;", "");
    seen("src/relay/mod.rs", "let x = libc::EAGAIN; // worker", "the crate `libc`");
    seen("src/relay/mod.rs", "// libc::EAGAIN\nlet x = \"libc::x\"; crate_libc::x; a::libc::b;", "");
    seen("src/relay/mod.rs", "unsafe { x() }", "`unsafe` stands only");
    seen("src/new.rs", "", "stands on no floor");
    seen("src/relay/mod.rs", "#[cfg(test)]\nmod tests {\n    use crate::worker;\n}", "");
    seen("tests/x.rs", &format!("fn long() {{\n{}}}\n", "    x();\n".repeat(70)), "a function of 72 lines");
    seen("tests/x.rs", &format!("fn long() {{\n{}}}\n", "    x();\n".repeat(68)), "");
    seen("tests/x.rs", &"x".repeat(121), "more than 120 columns");
    seen("tests/x.rs", &"x\n".repeat(501), "501 lines");
    seen("tests/x.rs", concat!("#[ign", "ore]"), "gives its reason");
    seen("tests/x.rs", concat!("// TO", "DO later"), "finish it");
    seen("src/relay/x.rs", "/// Likewise, of the other side.", "say what it is");
}

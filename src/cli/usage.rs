//! A command line that is wrong: what is wrong, and what to write, on one line.
//!
//! The parser (clap) knows which word it did not understand. What was meant is looked for here: a word of another
//! program, an option in the wrong place, a key of the configuration. If nothing fits, the parser's own suggestion is
//! used.

use clap::error::{ContextKind, ErrorKind};
use clap::{Command, CommandFactory};

use super::args::Arguments;
use crate::config::keys;

/// Commands of other programs, separated by blanks, and what to write here.
const COMMANDS: &[(&str, &str)] = &[
    ("start", "`ringway run -c FILE` serves in the foreground; `systemctl start ringway` as a service"),
    (
        "stop quit shutdown halt",
        "send TERM, as `systemctl stop ringway` does: it drains, and ends when its sessions have",
    ),
    ("restart upgrade", "`ringway run -c FILE --take-over SOCKET` relieves the one that runs, and loses no connection"),
    ("show list ls info", "write `ringway ctl status`, or `backends`, `sessions`, `pools` instead of `status`"),
    ("stats stat metrics", "write `ringway ctl status`, or `ringway top` to watch it"),
    (
        "health healthcheck",
        "write `ringway ctl backends` for the state of each backend, `ringway doctor` for this machine",
    ),
    ("test configtest validate verify lint config", "write `ringway check FILE`"),
    ("serve server daemon proxy listen", "write `ringway run -c FILE`"),
    ("enable undrain up", "write `ringway ctl ready POOL/BACKEND`"),
    ("disable maintenance maint down", "write `ringway ctl set POOL/BACKEND --state maintenance`"),
    ("weight", "write `ringway ctl set POOL/BACKEND --weight N`"),
    ("maxconn", "write `ringway ctl set POOL/BACKEND --connections-max N`"),
    ("version", "write `ringway --version`"),
    ("log logs", "`journalctl -u ringway` shows the log of the service"),
    ("shutdownsessions disconnect", "write `ringway ctl kill --backend POOL/BACKEND`"),
];

/// Options of other programs, separated by blanks, and what to write here. `-t` and `-T` are different options.
const OPTIONS: &[(&str, &str)] = &[
    ("-t -T --test --check --validate --configtest", "write `ringway check FILE`"),
    ("-f --file --config-file --conf --configfile", "the configuration is given as `ringway run -c FILE`"),
    ("-s --signal", "write `ringway ctl reload` to reload, and send TERM (`systemctl stop ringway`) to stop"),
    (
        "-D -d --daemon --daemonize --background --detach",
        "ringway stays in the foreground; `systemctl start ringway` starts it as a service",
    ),
    ("-v --v -vv", "write `ringway --version`; how much is logged is `level` in [log] of the configuration"),
    ("-q --quiet --silent", "how much is logged is `level` in [log] of the configuration"),
    ("--verbose --debug --log-level --loglevel", "it is `level` in [log] of the configuration"),
    (
        "-p --pid --pidfile --pid-file",
        "ringway writes no file with its pid; `systemctl show -P MainPID ringway` knows it",
    ),
    ("--bind --port --address --listener --frontend -b -l", "write --listen ADDR, as in --listen 0.0.0.0:80"),
    ("--upstream --server --target --to --servers", "write --backend ADDR, once for each backend"),
    ("--algorithm --policy --lb-policy --mode", "write --balance NAME"),
    ("-sf -st", "write `ringway run -c FILE --take-over SOCKET`"),
    ("--timeout", "write --deadline DURATION, as in --deadline 30s"),
    ("--maxconn", "write --connections-max N"),
    ("--time --duration --seconds", "write --for DURATION, as in --for 10s"),
    ("--format --output", "write --json for programs"),
];

/// States of a backend, and the words of other programs for them.
const STATES: &[(&str, &str)] = &[
    ("ready", "up enable enabled on"),
    ("maintenance", "down maint disable disabled off"),
    ("drain", "draining soft"),
];

/// The whole message: what is wrong, and what to write.
pub(super) fn explain(error: &clap::Error) -> String {
    let path = path(error);
    let text = |kind| error.get(kind).map(ToString::to_string);
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let word = text(ContextKind::InvalidSubcommand).unwrap_or_default();
            format!("there is no command `{word}`; {}", instead_of_command(error, &path, &word))
        }
        ErrorKind::UnknownArgument => {
            let word = text(ContextKind::InvalidArg).unwrap_or_default();
            let what = if word.starts_with('-') { "there is no option" } else { "nothing is expected where you wrote" };
            format!("{what} `{word}`; {}", instead_of_argument(error, &path, &word))
        }
        ErrorKind::MissingRequiredArgument => {
            let missing = text(ContextKind::InvalidArg).unwrap_or_default().replace(", ", " and ");
            let verb = if missing.contains(" and ") { "are" } else { "is" };
            format!("{} {verb} missing; write `{}`", short(&missing), usage(error))
        }
        ErrorKind::ArgumentConflict if path == "ringway run" => {
            format!("{}; write one FILE, or --listen ADDR and --backend ADDR once for each address", first_line(error))
        }
        ErrorKind::InvalidValue => {
            let value = text(ContextKind::InvalidValue).unwrap_or_default();
            let hint = STATES.iter().find(|(_, words)| words.split(' ').any(|word| word == value.to_lowercase()));
            if value.is_empty() {
                let option = text(ContextKind::InvalidArg).unwrap_or_default();
                return format!("`{option}` has no value; write one behind it");
            }
            let takes_states = first_line(error).contains("maintenance");
            match (hint.filter(|_| takes_states), tip(error)) {
                (Some((state, _)), _) => format!("{}; that is `{state}` here", first_line(error)),
                (None, Some(tip)) => format!("{}; {tip}", first_line(error)),
                (None, None) => format!("{}; write one of these", first_line(error)),
            }
        }
        ErrorKind::ValueValidation => {
            let line = first_line(error).replace("invalid digit found in string", "write a whole number");
            let (what, why) = line.split_once("': ").unwrap_or((&line, ""));
            match why.split_once(" is not in ").and_then(|(_, range)| range.split_once("..=")) {
                Some((min, max)) => format!("{what}'; write a number from {min} to {max}"),
                None => format!("{what}'; {why}"),
            }
        }
        _ => format!("{}; see `{path} --help`", first_line(error)),
    }
}

/// What to write instead of an unknown command: ours in another place, one of another program, or a file name.
fn instead_of_command(error: &clap::Error, path: &str, word: &str) -> String {
    let root = Arguments::command();
    let is_file = word.contains(['/', '.']);
    let lower = word.to_lowercase();
    let ours = |parent: &Command| parent.get_subcommands().any(|sub| sub.get_name() == lower && !sub.is_hide_set());
    let ctl = root.find_subcommand("ctl").is_some_and(ours);
    if ours(&root) {
        return format!("write `ringway {lower}`");
    }
    if ctl {
        return format!("write `ringway ctl {lower}`");
    }
    if let Some((_, meant)) = COMMANDS.iter().find(|(words, _)| words.split(' ').any(|known| known == lower)) {
        return meant.to_string();
    }
    if is_file {
        return format!("`ringway run {word}` serves it, `ringway check {word}` looks for mistakes in it");
    }
    tip(error).unwrap_or_else(|| format!("see `{path} --help`"))
}

/// What to write instead of an unknown option or an unexpected word.
fn instead_of_argument(error: &clap::Error, path: &str, word: &str) -> String {
    let name = word.split('=').next().unwrap_or_default();
    let root = Arguments::command();
    let sub = root.find_subcommand("run");
    let of_run = sub.and_then(|run| run.get_arguments().find(|argument| is_called(argument, name)));
    if let (Some(argument), "ringway") = (of_run, path) {
        let value = argument.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
        return format!("it stands behind `run`: `ringway run {name} {value}`");
    }
    if let (Some(tip), true) = (tip(error), name.starts_with("--")) {
        return tip;
    }
    let takes_file = root
        .find_subcommand(path.trim_start_matches("ringway "))
        .is_some_and(|sub| sub.get_arguments().any(|argument| argument.get_long() == Some("config")));
    if takes_file && OPTIONS.iter().any(|(words, _)| words.starts_with("-f ") && words.split(' ').any(|it| it == name))
    {
        return format!("the configuration is given as `{path} -c FILE`");
    }
    if name == "-s" && path.starts_with("ringway ctl") {
        return "write --socket PATH".to_string();
    }
    if let Some((_, meant)) = OPTIONS.iter().find(|(words, _)| words.split(' ').any(|known| known == name)) {
        return meant.to_string();
    }
    let key = name.trim_start_matches('-').replace('-', "_");
    if let Some(key) = keys::KEYS.iter().find(|known| name.starts_with("--") && known.name == key) {
        return format!("it is the key `{}` in {} of the configuration", key.name, key.section.title());
    }
    match (name.starts_with('-'), COMMANDS.iter().find(|(words, _)| words.split(' ').any(|known| known == name))) {
        (false, Some((_, meant))) => meant.to_string(),
        (false, None) => format!("write `{}`", usage(error)),
        (true, _) => format!("see `{path} --help`"),
    }
}

/// Whether an option has this name, long or short.
fn is_called(argument: &clap::Arg, name: &str) -> bool {
    let long = argument.get_long().is_some_and(|long| name.strip_prefix("--") == Some(long));
    let short = argument.get_short().is_some_and(|short| name == format!("-{short}"));
    long || short
}

/// The suggestion of the parser. To pass a word on as a value is never what was meant, and hidden commands are not
/// suggested.
fn tip(error: &clap::Error) -> Option<String> {
    let text = error.to_string();
    let tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: "))?;
    let is_good = !tip.contains("as a value") && !tip.contains(crate::app::names::SUBCOMMAND);
    is_good.then(|| tip.replace('\'', "`"))
}

/// The first paragraph of the parser's message, on one line.
fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let first: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    first.join(" ").trim_start_matches("error: ").to_string()
}

/// How this command is written.
fn usage(error: &clap::Error) -> String {
    let usage = error.get(ContextKind::Usage).map(ToString::to_string).unwrap_or_default();
    let text: String = usage.split_whitespace().skip(1).collect::<Vec<_>>().join(" ");
    match text.as_str() {
        "" => "ringway --help".to_string(),
        // A file and the quick form exclude each other.
        quick if quick.contains("--listen <ADDR>") => quick.replace(" [FILE]", ""),
        other => short(other),
    }
}

/// The same text with the two ways of naming a file shortened to one.
fn short(text: &str) -> String {
    text.replace("<FILE|--config <FILE>>", "FILE")
}

/// The command up to its options, such as `ringway ctl drain`.
fn path(error: &clap::Error) -> String {
    let usage = usage(error);
    let is_word =
        |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') && !word.starts_with('-');
    let words: Vec<&str> = usage.split(' ').take_while(is_word).collect();
    if words.is_empty() { "ringway".to_string() } else { words.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn explained(line: &str) -> String {
        explain(&Arguments::try_parse_from(line.split(' ')).expect_err(line))
    }

    /// The words of HAProxy, nginx, systemd and of people.
    #[test]
    fn words_of_other_programs_lead_to_those_of_this_one() {
        for (line, words) in [
            ("ringway status", "`ringway ctl status`"),
            ("ringway stop", "TERM"),
            ("ringway reload", "`ringway ctl reload`"),
            ("ringway ready db/a", "`ringway ctl ready`"),
            ("ringway ctl run", "`ringway run`"),
            ("ringway ctl enable db/a", "`ringway ctl ready POOL/BACKEND`"),
            ("ringway ctl disable db/a", "--state maintenance"),
            ("ringway -t x", "`ringway check FILE`"),
            ("ringway run -f x", "`ringway run -c FILE`"),
            ("ringway --config=x", "`ringway run --config FILE`"),
            ("ringway run --workers 4", "`workers` in [process]"),
            ("ringway ctl drain db/a --deadline 30", "30s"),
        ] {
            let shown = explained(line);
            assert!(shown.contains(words) && !shown.contains('\n'), "{line}: {shown}");
        }
    }

    #[test]
    fn wrong_usage_is_told_on_one_line() {
        for line in
            ["ringway chek", "ringway check", "ringway run --frob", "ringway doctor x y", "ringway run --listen a"]
        {
            let shown = explained(line);
            assert!(!shown.contains('\n') && shown.contains("; "), "{shown}");
        }
    }

    /// What is recommended must be there.
    #[test]
    fn every_command_that_is_named_is_there() {
        let root = Arguments::command();
        for (_, meant) in COMMANDS.iter().chain(OPTIONS) {
            for quoted in meant.split('`').skip(1).step_by(2).filter_map(|text| text.strip_prefix("ringway ")) {
                let mut words = quoted.split(' ');
                let Some(command) = words.next().filter(|word| !word.starts_with('-')) else { continue };
                let found = root.find_subcommand(command).unwrap_or_else(|| panic!("{quoted}"));
                if command == "ctl" {
                    assert!(words.next().is_some_and(|word| found.find_subcommand(word).is_some()), "{quoted}");
                }
            }
        }
    }
}

//! `ringway completions SHELL` and `ringway man`, both made from the definition of the command line.

use clap::CommandFactory;

use super::args::Arguments;
use super::failure::Failure;

/// Writes completions for a shell to standard output.
pub(super) fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "ringway", &mut text);
    super::print(&text)
}

/// The sections of the man page that the definition of the command line does not contain.
const REST: &str = ".SH SIGNALS
TERM, INT and QUIT stop accepting, after process.shutdown_delay, and wait for open sessions for
process.shutdown_grace; a second one resets what is left. HUP reloads, USR1 opens the logs anew; others do nothing.
.SH FILES
/etc/ringway/ringway.toml, unless \\-c or \\-\\-listen is given. conf/reference.toml has every key with its default.
.SH \"EXIT STATUS\"
0 done, 1 failed at run time, 2 wrong usage or invalid configuration.
.SH EXAMPLES
.nf
ringway demo
ringway run \\-\\-listen 0.0.0.0:6379 \\-\\-backend 10.0.0.1:6379 \\-\\-backend 10.0.0.2:6379
ringway check /etc/ringway/ringway.toml
.fi
";

/// Writes the man page: an overview, then each command with its options.
pub(super) fn man() -> Result<(), Failure> {
    let mut command = Arguments::command();
    command.build();
    let mut text = Vec::new();
    let page = clap_mangen::Man::new(command.clone());
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help" && !sub.is_hide_set()) {
        text.extend_from_slice(format!(".SH \"RINGWAY {}\"\n", sub.get_name().to_uppercase()).as_bytes());
        let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
        text.extend_from_slice(format!("{}.\n", about.replace('-', "\\-")).as_bytes());
        for argument in sub.get_arguments().filter(|argument| argument.get_id() != "help") {
            text.extend_from_slice(b".TP\n");
            let names = [argument.get_short().map(|c| format!("-{c}")), argument.get_long().map(|l| format!("--{l}"))];
            let mut shown = names.into_iter().flatten().collect::<Vec<_>>().join(", ");
            for value in argument.get_value_names().unwrap_or_default() {
                shown = format!("{shown} {value}");
            }
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            text.extend_from_slice(format!("{}\n{help}\n", shown.trim().replace('-', "\\-")).as_bytes());
        }
    }
    text.extend_from_slice(REST.as_bytes());
    super::print(&text)
}

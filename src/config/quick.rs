//! A configuration from command-line options, without a file: one listener and one pool.
//!
//! The options are written as a configuration file and read like every other one, so an option can never mean something
//! else than the key. Each option gets a line of its own, so the line of an error leads back to the option.

use super::error::{Error, Place, Problem};
use super::model::Config;
use super::value::quoted;

/// The meaning of `ringway run --listen … --backend … --balance …`: listener and pool are called `main`, each backend
/// has its address as its name, and every other key has its default.
///
/// # Errors
/// As [`super::load`]; each error stands at the option that caused it.
pub fn quick(listen: &[String], backends: &[String], balance: Option<&str>) -> Result<Config, Vec<Error>> {
    // One option per line; see the module.
    let mut text = String::new();
    let mut options = Vec::new();
    let mut line = |content: String, option: String| {
        text.push_str(&content);
        text.push('\n');
        options.push(option);
    };
    line("[listeners.main]".to_string(), "--listen".to_string());
    line("pool = \"main\"".to_string(), "--listen".to_string());
    line("bind = [".to_string(), "--listen".to_string());
    for address in listen {
        line(format!("{},", literal(address)), format!("--listen {address}"));
    }
    line("]".to_string(), "--listen".to_string());
    line("[pools.main]".to_string(), "--backend".to_string());
    if let Some(balance) = balance {
        line(format!("balance = {}", literal(balance)), format!("--balance {balance}"));
    }
    line("backends = [".to_string(), "--backend".to_string());
    for address in backends {
        line(format!("{{ address = {} }},", literal(address)), format!("--backend {address}"));
    }
    line("]".to_string(), "--backend".to_string());
    super::load(&text, "command line", &|_: &str| None).map_err(|errors| {
        let at_option = |error: Error| match error.place {
            Place::File { line, .. } => {
                let option = options.get(line - 1).map_or("command line", String::as_str);
                Error { place: Place::Argument(option.to_string()), problem: named_as_option(error.problem) }
            }
            Place::Argument(_) => error,
        };
        errors.into_iter().map(at_option).collect()
    })
}

/// A problem of a key that the user has not written, told as a problem of the option.
fn named_as_option(problem: Problem) -> Problem {
    match problem {
        Problem::BadValue { key, found, hint } => {
            let option = match key.as_str() {
                "bind" => "--listen",
                "address" => "--backend",
                _ => "--balance",
            };
            Problem::BadValue { key: option.to_string(), found, hint }
        }
        other => other,
    }
}

/// A TOML text that means exactly `text`. `${` in it is no variable.
fn literal(text: &str) -> String {
    quoted(&text.replace("${", "$${"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::least_conn;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| text.to_string()).collect()
    }

    #[test]
    fn quick_form_is_one_listener_and_one_pool() {
        let listen = texts(&["127.0.0.1:0", "unix:/run/x.sock"]);
        let config = quick(&listen, &texts(&["10.0.0.1:1", "[::1]:2"]), Some("least_conn")).unwrap();
        assert_eq!(config.listeners[0].binds.len(), 2);
        assert_eq!(config.pools[0].balance, least_conn::POLICY);
        assert_eq!(&*config.pools[0].backends[1].name, "[::1]:2");
    }

    #[test]
    fn errors_stand_at_the_option_that_caused_them() {
        let errors = quick(&texts(&["*:80"]), &texts(&["a\nb", "${HOME}:1"]), Some("rr")).unwrap_err();
        let shown: Vec<String> = errors.iter().map(|error| error.place.to_string()).collect();
        assert_eq!(shown, ["--listen *:80", "--balance rr", "--backend a\nb", "--backend ${HOME}:1"]);
        assert_eq!(quick(&[], &[], None).unwrap_err().len(), 2);
    }
}

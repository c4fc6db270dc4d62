//! What it costs to translate configurations with 3000 servers. The bar: below 2 s, whichever way they are written.

use std::fmt::Write;
use std::hint::black_box;
use std::io;
use std::path::{Path, PathBuf};

use criterion::{Criterion, criterion_group, criterion_main};
use ringway::import::{Files, Language, translate};

const SERVERS: usize = 3000;

/// No files, no variables.
struct Nothing;

impl Files for Nothing {
    fn variable(&self, _name: &str) -> Option<String> {
        None
    }

    fn text(&self, _path: &Path) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn matching(&self, _pattern: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
}

/// An address of its own for each number.
fn ip(number: usize) -> String {
    format!("10.{}.{}.{}", number >> 16, number >> 8 & 255, number & 255)
}

/// Servers of one pool.
fn one_pool() -> String {
    let mut text = "listen l\n  bind 127.0.0.1:80\n  default-server check port 8008 inter 1s\n".to_string();
    for number in 0..SERVERS {
        let _ = writeln!(text, "  server s{number} {}:80 weight {}", ip(number), number % 200 + 1);
    }
    text
}

/// A frontend and a backend for each.
fn many_pools() -> String {
    let mut text = String::new();
    for number in 0..SERVERS {
        let (at, port) = (ip(number), number + 1);
        let _ = write!(
            text,
            "frontend f{number}\n  bind {at}:80\n  acl x src 10.0.0.0/8\n  tcp-request connection reject if !x\n  \
             default_backend b{number}\nbackend b{number}\n  server s {at}:81 check port {port}\n"
        );
    }
    text
}

/// A map with a name for each.
fn one_map() -> String {
    let mut text = "stream {\nserver { listen 443; ssl_preread on; proxy_pass $to; }\n".to_string();
    text += "map $ssl_preread_server_name $to {\n";
    for number in 0..SERVERS {
        let _ = writeln!(text, "a{number}.example {}:80;", ip(number));
    }
    text + "}\n}\n"
}

fn imports(criterion: &mut Criterion) {
    for (name, language, text) in [
        ("import/one_pool_of_3000", Language::Haproxy, one_pool()),
        ("import/3000_pools", Language::Haproxy, many_pools()),
        ("import/3000_names", Language::Nginx, one_map()),
    ] {
        let translated = translate(&text, "f", language, &Nothing).expect("it is right");
        assert!(translated.refused() == 0 && translated.toml.matches("address = ").count() == SERVERS, "{name}");
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| translate(black_box(&text), "f", language, &Nothing));
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = imports
}
criterion_main!(benches);

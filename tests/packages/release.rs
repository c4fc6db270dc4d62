//! What a release is made of: packages, image, Compose file.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::{file, output, program, text, words, yaml};

fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

#[test]
fn the_debian_package_is_made_of_files_that_are_there() {
    let manifest: toml::Table = text("Cargo.toml").parse().unwrap();
    let deb = &manifest["package"]["metadata"]["deb"];
    let assets = deb["assets"].as_array().unwrap();
    let part = |asset: &toml::Value, index: usize| asset[index].as_str().unwrap().to_string();
    for asset in assets {
        let source = part(asset, 0);
        assert!(source == "target/release/ringway" || file(&source).exists(), "{source}");
        assert!(u32::from_str_radix(&part(asset, 2), 8).is_ok());
    }
    let installed: Vec<String> = assets
        .iter()
        .map(|asset| {
            let (source, to) = (part(asset, 0), part(asset, 1));
            let name = source.rsplit('/').next().unwrap();
            format!("/{to}{}", if to.ends_with('/') { name } else { "" })
        })
        .collect();
    for path in ["/usr/bin/ringway", "/etc/ringway/ringway.toml", "/usr/lib/systemd/system/ringway.service"] {
        assert!(installed.iter().any(|there| there == path), "{path} in {installed:?}");
    }
    // What is installed works: `ringway ctl status`, and the reload of the unit.
    let shipped = text("packaging/debian/ringway.toml");
    let config = ringway::config::load(&shipped, "ringway.toml", &|_: &str| None).unwrap();
    let socket = config.admin.socket.unwrap();
    assert!(text("conf/systemd/ringway.service").contains(&format!("ctl --socket {} reload", socket.display())));
    for kept in deb["conf-files"].as_array().unwrap() {
        assert!(installed.iter().any(|there| there == kept.as_str().unwrap()), "{kept}");
    }
    assert!(text("conf/systemd/ringway.service").contains("file:///usr/share/doc/ringway/operating.md"));
    assert!(installed.contains(&"/usr/share/doc/ringway/operating.md".to_string()));
}

/// What a script of a package asks of systemd, when it is run with that word.
fn asked(script: &str, word: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let systemctl = folder.path().join("systemctl");
    let log = folder.path().join("log");
    std::fs::write(&systemctl, format!("#!/bin/sh\necho \"$*\" >>{}\n", log.display())).unwrap();
    std::fs::set_permissions(&systemctl, std::fs::Permissions::from_mode(0o755)).unwrap();
    // As on a host that systemd runs.
    let script = script.replace("/run/systemd/system", "/").replace("/usr/bin/systemctl", systemctl.to_str().unwrap());
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    output(Command::new("/bin/sh").args(["-c", &script, "script", word]).env("PATH", path));
    std::fs::read_to_string(log).unwrap_or_default()
}

#[test]
fn packages_end_the_service_when_they_are_removed_and_never_start_it() {
    let spec = text("packaging/rpm/ringway.spec");
    let of_spec = |name: &str| {
        let body = spec.split(&format!("\n%{name}\n")).nth(1).unwrap();
        body.split("\n%").next().unwrap().to_string()
    };
    let of_debian = |name: &str| text(&format!("packaging/debian/{name}"));
    let stops = "--no-reload disable ringway.service\nstop ringway.service\n";
    assert_eq!(asked(&of_debian("prerm"), "remove"), stops);
    assert_eq!(asked(&of_spec("preun"), "0"), stops);
    // Sessions outlive an upgrade: docs/versions.md.
    assert_eq!(asked(&of_debian("prerm"), "upgrade"), "");
    assert_eq!(asked(&of_spec("preun"), "1"), "");
    assert_eq!(asked(&of_debian("postinst"), "configure"), "daemon-reload\n");
    assert_eq!(asked(&of_debian("postrm"), "remove"), "daemon-reload\n");
    // A preset is what the host wants of it, and Fedora's is to leave it disabled.
    assert_eq!(asked(&of_spec("post"), "1"), "--no-reload preset ringway.service\ndaemon-reload\n");
    assert_eq!(asked(&of_spec("post"), "2"), "daemon-reload\n");
    assert_eq!(asked(&of_spec("postun"), "1"), "daemon-reload\n");
}

#[test]
fn the_image_of_a_release_is_what_the_dockerfile_says_and_the_same_each_time() {
    if program(&["/usr/bin/jq"], "jq").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("program"), "static").unwrap();
    for archive in ["first.tar", "second.tar"] {
        let mut image = Command::new(file("scripts/container/image.sh"));
        image.arg(path("program")).arg("x86_64").arg(path(archive)).env("SOURCE_DATE_EPOCH", "1700000000");
        output(&mut image);
    }
    assert!(std::fs::read(path("first.tar")).unwrap() == std::fs::read(path("second.tar")).unwrap());

    let tar = |words: &[&str], archive: &Path| output(Command::new("tar").args(words).arg(archive));
    tar(&["-C", folder.path().to_str().unwrap(), "-xf"], &path("first.tar"));
    let json = |name: &str| serde_json::from_slice::<Value>(&std::fs::read(path(name)).unwrap()).unwrap();
    let image = json("config.json");
    assert_eq!((&image["architecture"], &image["os"]), (&"amd64".into(), &"linux".into()));
    let config = &image["config"];
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["StopSignal"], "SIGTERM");
    assert_eq!(words(&config["Entrypoint"]), ["/usr/bin/ringway"]);
    assert_eq!(words(&config["Cmd"]), ["run", "-c", "/etc/ringway/ringway.toml"]);
    assert_eq!(words(&config["Healthcheck"]["Test"]), ["CMD", "/usr/bin/ringway", "ctl", "status"]);
    assert_eq!(config["Healthcheck"]["Interval"], 10_000_000_000_u64);
    assert_eq!(json("manifest.json")[0]["RepoTags"][0], format!("ringway:{}", version()));

    let listed = tar(&["--numeric-owner", "-tvf"], &path("layer.tar"));
    let line = |name: &str| {
        let line = listed.lines().find(|line| line.ends_with(&format!(" ./{name}")));
        line.unwrap_or_else(|| panic!("no {name}: {listed}")).split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("usr/bin/ringway"), "-rwxr-xr-x 0/0");
    assert_eq!(line("etc/ringway/ringway.toml"), "-rw-r--r-- 0/0");
    assert_eq!(line("run/ringway/"), "drwxr-xr-x 65532/65532");
}

#[test]
fn the_compose_file_starts_what_is_there() {
    let Some(compose) = yaml("packaging/docker/compose.yaml").map(|mut documents| documents.remove(0)) else { return };
    let service = &compose["services"]["ringway"];
    assert_eq!(service["image"], format!("ringway:{}", version()));
    assert_eq!(words(&service["volumes"]), ["./compose:/etc/ringway:ro"]);
    let written = text("packaging/docker/compose/ringway.toml");
    let config = ringway::config::load(&written, "ringway.toml", &|_: &str| None).unwrap();
    for port in words(&service["ports"]) {
        let inside = port.rsplit(':').next().unwrap();
        assert!(written.contains(&format!("\"0.0.0.0:{inside}\"")), "nothing listens at {inside}");
    }
    // The API is for the host alone, and the health check of the image has its socket.
    assert!(words(&service["ports"]).contains(&format!("127.0.0.1:9900:{}", config.admin.listen.unwrap().port())));
    let folder = config.admin.socket.unwrap().parent().unwrap().display().to_string();
    assert_eq!(words(&service["tmpfs"]), [format!("{folder}:uid=65532,gid=65532")]);
    for name in words(&service["depends_on"]) {
        assert!(compose["services"][&name].is_object() && written.contains(&format!("\"{name}:6379\"")), "{name}");
    }
    let grace: u64 = service["stop_grace_period"].as_str().unwrap().trim_end_matches('s').parse().unwrap();
    assert!(grace > (config.process.shutdown_delay + config.process.shutdown_grace).as_secs() + 5);
    assert_eq!((&service["read_only"], &service["cap_drop"][0]), (&true.into(), &"ALL".into()));
}

#[test]
fn the_readme_names_what_a_release_has() {
    let script = text("scripts/release.sh");
    let names = script.lines().map_while(|line| line.strip_prefix('#')).filter_map(|line| {
        let name = line.strip_prefix("   ")?.split(' ').next()?;
        name.to_lowercase()
            .starts_with("ringway")
            .then(|| name.to_string())
            .or((name == "SHA256SUMS").then(|| name.into()))
    });
    let names: Vec<String> = names.collect();
    assert_eq!(names.len(), 7, "{names:?}");
    let readme = text("README.md");
    for name in names {
        let name = name.replace("VERSION", version()).replace("ARCH", "amd64").replace("MACHINE", "x86_64");
        assert!(readme.contains(&name), "README.md does not name {name}");
    }
}

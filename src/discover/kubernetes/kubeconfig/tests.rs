use proptest::prelude::*;

use super::*;

/// A kubeconfig with these keys of the cluster and of the user, each a line.
fn config(cluster: &[&str], user: &[&str]) -> String {
    let lines = |lines: &[&str]| lines.iter().map(|line| format!("    {line}\n")).collect::<String>();
    format!(
        "apiVersion: v1\nkind: Config\npreferences: {{}}\ncurrent-context: here\n\
         contexts:\n- name: there\n  context: {{cluster: x, user: y}}\n\
         - context:\n    cluster: main\n    user: ringway\n    namespace: databases\n  name: here\n\
         clusters:\n- name: main\n  cluster:\n{}users:\n- name: ringway\n  user:\n{}",
        lines(cluster),
        lines(user)
    )
}

fn named(cluster: &[&str], user: &[&str]) -> Result<KubeNamed, String> {
    read(config(cluster, user).as_bytes(), Path::new("/etc/kube"))
}

const SERVER: &str = "server: https://api.example:6443";

fn shown(pem: &Pem) -> String {
    match pem {
        Pem::File(path) => path.display().to_string(),
        Pem::Text(text) => String::from_utf8(text.bytes.clone()).unwrap(),
    }
}

#[test]
fn the_current_context_names_server_account_and_namespace() {
    let found = named(&[SERVER, "certificate-authority: ca.crt"], &["tokenFile: /run/token"]).unwrap();
    assert_eq!(found.endpoint.to_string(), "https://api.example:6443");
    assert_eq!((&*found.base_path, &*found.namespace), ("", "databases"));
    assert_eq!(found.token, ApiToken::File("/run/token".into()));
    let TrustedBy::These(ca) = &found.tls.trusted_by else { panic!("{found:?}") };
    assert_eq!(shown(ca), "/etc/kube/ca.crt", "relative to the file");
    assert!(found.tls.identity.is_none() && found.tls.server_name.is_none());
    let rancher = named(&["server: https://api.example/k8s/clusters/c-1/"], &["token: abc"]).unwrap();
    assert_eq!(rancher.endpoint.to_string(), "https://api.example:443");
    assert_eq!((&*rancher.base_path, &rancher.token), ("/k8s/clusters/c-1", &ApiToken::Text("abc".to_string())));
}

#[test]
fn data_in_the_file_wins_over_a_file_that_is_named() {
    let cluster =
        [SERVER, "certificate-authority: ca.crt", "certificate-authority-data: YWJj", "tls-server-name: kube"];
    let user = ["client-certificate-data: Y2VydA==", "client-key: key.pem", "client-key-data: |-", "  a2\n      V5"];
    let found = named(&cluster, &user).unwrap();
    let TrustedBy::These(ca) = &found.tls.trusted_by else { panic!("{found:?}") };
    let (cert, key) = found.tls.identity.as_ref().unwrap();
    assert_eq!((shown(ca), shown(cert), shown(key)), ("abc".into(), "cert".into(), "key".into()));
    assert_eq!(found.tls.server_name.as_deref(), Some("kube"));
    let both = named(&[SERVER, "insecure-skip-tls-verify: true"], &["token: a", "tokenFile: b"]).unwrap();
    assert_eq!(both.token, ApiToken::File("/etc/kube/b".into()));
    assert!(matches!(both.tls.trusted_by, TrustedBy::Unverified));
    assert!(matches!(named(&[SERVER], &["token: a"]).unwrap().tls.trusted_by, TrustedBy::System));
}

#[test]
fn what_ringway_does_not_do_is_refused_in_words() {
    for (cluster, user, says) in [
        (&[SERVER][..], &["exec: {command: aws, args: [eks]}"][..], "needs a program (`exec`)"),
        (&[SERVER], &["auth-provider: {name: oidc}"], "needs an `auth-provider`"),
        (&[SERVER], &["username: admin", "password: secret"], "has a `username`"),
        (&[SERVER], &["as: root", "token: x"], "acts as another one"),
        (&[SERVER, "proxy-url: http://proxy:1"], &["token: x"], "behind a proxy"),
        (&[SERVER], &["client-certificate: a"], "without `client-key`"),
        (&[SERVER], &["client-key: a"], "without `client-certificate`"),
        (&[SERVER], &["client-key-data: '!'"], "`client-key-data` is no base64"),
        (&["server: api.example:6443"], &["token: x"], "its `server` is \"api.example:6443\""),
        (&["server: https://api.example/?a=b"], &["token: x"], "more than a path"),
    ] {
        let why = named(cluster, user).unwrap_err();
        assert!(why.contains(says) && !why.contains("secret"), "{why}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let whole = config(&[SERVER], &["token: x"]);
    for (from, to, says) in [
        ("current-context: here", "a: b", "it has no `current-context`"),
        ("current-context: here", "current-context: gone", "it has no context \"gone\""),
        ("cluster: main", "cluster: gone", "it has no cluster \"gone\""),
        ("user: ringway", "user: gone", "it has no user \"gone\""),
        ("users:", "- users", "it is no kubeconfig: "),
        ("namespace: databases", "x: y", ""),
    ] {
        let read = read(whole.replace(from, to).as_bytes(), Path::new(""));
        match says {
            "" => assert_eq!(read.unwrap().namespace, "default"),
            says => assert!(read.as_ref().is_err_and(|why| why.contains(says) && !why.contains('\n')), "{read:?}"),
        }
    }
    assert!(read(b"\xff", Path::new("")).unwrap_err().contains("no text"));
    let debug = format!("{:?}", named(&[SERVER], &["token: s3cret"]).unwrap());
    assert!(!debug.contains("s3cret"));
}

proptest! {
    #[test]
    fn no_file_breaks_anything(text in "[a-z:\\-\\[\\]{}|>&*!%@'\"#\n ]{0,200}", at: usize) {
        let mut file = config(&[SERVER], &["token: x"]);
        let at = at % file.len();
        file.insert_str(at, &text);
        let _ = read(file.as_bytes(), Path::new(""));
        let _ = read(text.as_bytes(), Path::new(""));
    }
}

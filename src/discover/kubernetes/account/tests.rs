use super::*;
use crate::discover::http::testing::run;

/// The environment of a pod, whose host is this one.
fn variable(host: &'static str) -> impl Fn(&str) -> Option<String> {
    move |name| match name {
        "KUBERNETES_SERVICE_HOST" => Some(host.to_string()),
        "KUBERNETES_SERVICE_PORT" => Some("443".to_string()),
        _ => None,
    }
}

#[test]
fn a_pod_has_its_account_in_a_folder_and_the_token_is_read_anew() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let read = |host, namespace: &str| run(of_pod(variable(host), folder.path(), namespace));
    let missing = read("10.0.0.1", "").unwrap_err();
    assert!(missing.contains("token") && missing.contains("automountServiceAccountToken"), "{missing}");
    write("token", "first");
    write("namespace", "databases");
    let account = read("10.0.0.1", "").unwrap();
    assert_eq!(account.endpoint.to_string(), "https://10.0.0.1:443");
    assert_eq!((account.token.as_deref(), &*account.namespace), (Some("first"), "databases"));
    write("token", "second");
    let account = read("fd00::1", "other").unwrap();
    assert_eq!(account.endpoint.to_string(), "https://[fd00::1]:443");
    assert_eq!((account.token.as_deref(), &*account.namespace), (Some("second"), "other"));
    let outside = run(of_pod(|_| None, folder.path(), "")).unwrap_err();
    assert!(outside.contains("KUBERNETES_SERVICE_HOST") && outside.contains("`kubeconfig`"), "{outside}");
}

#[test]
fn a_kubeconfig_is_read_anew_and_an_error_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    let read = |namespace: &str| run(of_kubeconfig(&path, namespace));
    assert!(read("").unwrap_err().starts_with(&path.display().to_string()));
    let write = |token: &str| {
        let text = format!(
            "current-context: a\ncontexts: [{{name: a, context: {{cluster: a, user: a}}}}]\n\
             clusters: [{{name: a, cluster: {{server: 'http://127.0.0.1:1'}}}}]\n\
             users: [{{name: a, user: {{{token}}}}}]\n"
        );
        std::fs::write(&path, text).unwrap();
    };
    write("token: first");
    let account = read("").unwrap();
    assert_eq!((account.token.as_deref(), &*account.namespace), (Some("first"), "default"));
    write("tokenFile: token");
    assert!(read("").unwrap_err().contains("/token: No such file"));
    std::fs::write(folder.path().join("token"), "second\n").unwrap();
    let account = read("mine").unwrap();
    assert_eq!((account.token.as_deref(), &*account.namespace), (Some("second"), "mine"));
    let settings = KubernetesSource {
        service: String::new(),
        namespace: String::new(),
        port: String::new(),
        kubeconfig: Some(path.clone()),
    };
    assert_eq!(files(&settings), [path.clone(), folder.path().join("token")]);
    let of_pod = files(&KubernetesSource { kubeconfig: None, ..settings });
    assert!(of_pod.iter().any(|path| path.ends_with("serviceaccount/token")));
    write("exec: {}");
    let why = read("").unwrap_err();
    assert!(why.starts_with(&path.display().to_string()) && why.contains("`exec`"), "{why}");
}

use super::*;

#[test]
fn an_endpoint_is_read_as_it_is_shown() {
    for (text, shown) in [
        ("http://127.0.0.1:2379", "http://127.0.0.1:2379"),
        ("https://etcd.example", "https://etcd.example:443"),
        ("http://consul/", "http://consul:80"),
        ("https://[::1]:6443", "https://[::1]:6443"),
    ] {
        assert_eq!(text.parse::<Endpoint>().map(|endpoint| endpoint.to_string()).as_deref(), Ok(shown));
    }
    for text in [
        "127.0.0.1:2379",
        "ftp://a:1",
        "http://",
        "http://a:0",
        "http://a:x",
        "http://a/b",
        "http://[::1:1",
        "http://u@a:1",
    ] {
        assert!(text.parse::<Endpoint>().is_err(), "{text}");
    }
}

//! The status page (`GET /`): one HTML file without any other resource, which asks the API like every other client.

use axum::http::header;
use axum::response::IntoResponse;

/// The whole page, compiled in.
const PAGE: &str = include_str!("page/index.html");

/// The Content-Security-Policy of the page. It can run only what stands in it, and can ask only the server it came
/// from. If foreign script or another address into it, the browser refuses.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The handler.
pub(super) async fn page() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It must work without a way to the internet, and must not tell any other server that it was opened.
    #[test]
    fn the_page_asks_nobody_but_ringway() {
        for (at, _) in PAGE.match_indices("//") {
            let line = PAGE[..at].rsplit('\n').next().unwrap_or_default();
            assert!(line.ends_with("name = \"http:"), "an address outside: {line}");
        }
        for word in ["@import", "url(", "<script src", "innerHTML", "eval("] {
            assert!(!PAGE.contains(word), "{word}");
        }
    }
}

//! What the running kernel can do that we would use.

/// Features that are used where they are there.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Features {
    /// A multishot receive ends by itself after so many bytes (6.17). Without it, receives are one-shot.
    pub recv_credit: bool,
}

/// Release of the running kernel, (major, minor).
pub fn kernel_version() -> (u32, u32) {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    parse_version(&text)
}

/// Major and minor number of a release such as `6.1.0-13-amd64`; zeros if it has none.
fn parse_version(text: &str) -> (u32, u32) {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_whatever_a_distribution_appends() {
        assert_eq!(parse_version("6.18.44-fc-v657\n"), (6, 18));
        assert_eq!(parse_version("6.1.0-13-amd64"), (6, 1));
        assert_eq!(parse_version(""), (0, 0));
    }
}

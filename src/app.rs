//! Placeholder until the composition root is there.

/// Says that it is not there.
///
/// # Errors
/// Always.
pub fn serve(_config: crate::config::Config) -> anyhow::Result<()> {
    anyhow::bail!("the data plane is not in this build")
}

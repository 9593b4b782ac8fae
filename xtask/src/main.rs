//! placeholder
mod setup;
use std::path::PathBuf;
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}
fn main() -> anyhow::Result<()> {
    setup::ensure_libtorch()?;
    setup::run(setup::Flavour::Cpu)
}

pub(crate) fn report(_: &crate::run_folder::RunFolder) -> anyhow::Result<()> {
    Ok(())
}

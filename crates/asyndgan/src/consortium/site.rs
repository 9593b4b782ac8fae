use std::path::Path;

use anyhow::{Context, Result};
use asyndgan_files::create_private_folder;
use asyndgan_transport::Control;

use super::{config::Carrier, dashboard::SitePage, notify, part::take_part, relay, site_config::SiteConfig, stay::stay};

/// Takes part in a run with the configuration of a `site.toml`, until the run is finished; or in one run after another.
/// `control` stops the site.
///
/// # Errors
/// If the configuration is not valid, the hospital has not agreed to the run, or the run ends early.
pub fn site(config: &Path, control: &Control) -> Result<()> {
    let mut config = SiteConfig::read(config)?;
    notify::watchdog(control);
    let page = serve_page(&config)?;
    if config.keep_running {
        return stay(&config, control, page.as_ref());
    }
    if config.carrier == Carrier::Relay {
        relay::end_with_relay()?;
        config.set_relay_run(&relay::run_name()?)?;
    }
    let outcome = take_part(&config, None, control, page.as_ref())?;
    config.carrier.ends_with(outcome)
}

/// Serves the site's own page, if it is configured.
fn serve_page(config: &SiteConfig) -> Result<Option<SitePage>> {
    let Some(address) = config.dashboard else { return Ok(None) };
    create_private_folder(&config.folder).with_context(|| format!("cannot create {}", config.folder.display()))?;
    let (identity, name) = (config.identity()?, config.name()?);
    let until = identity.map(|identity| identity.facts().not_after);
    let (page, url) = SitePage::serve(config, &name, until, address)?;
    tracing::info!("{name}: dashboard: {url}");
    Ok(Some(page))
}

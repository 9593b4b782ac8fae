//! Pictures of a run.

mod canvas;
mod grids;
mod histogram;
mod sheet;

pub(crate) use grids::{predictions, synthetic};
pub(crate) use histogram::histograms;
pub(crate) use sheet::{SHEET_ROWS, contact_sheet};

use std::sync::Once;

use anyhow::{Result, anyhow};
use plotters::style::{FontStyle, register_font};

/// A font travels inside the program: a machine may have none.
fn with_font() -> Result<()> {
    static ONCE: Once = Once::new();
    let mut done = Ok(());
    ONCE.call_once(|| {
        done =
            register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT).map_err(|_| anyhow!("the font is broken"));
    });
    done
}

//! Pictures of a run.

mod bars;
mod boxes;
mod canvas;
mod latest;
mod lines;
mod panels;
mod sheet;

pub(crate) use bars::bars;
pub(crate) use boxes::{box_plot, box_plot_text};
pub(crate) use canvas::{Canvas, headings_of, of_codes, of_image, of_labels};
pub(crate) use latest::latest;
pub(crate) use lines::{Line, lines};
pub(crate) use panels::{Panel, panels};
pub(crate) use sheet::{SHEET_ROWS, contact_sheet};

use std::{path::Path, sync::Once};

use anyhow::{Result, anyhow};
use asyndgan_files::{Access, write_at_path};
use plotters::style::{FontStyle, register_font};

/// Registers the built-in font, because a machine may have none.
pub(crate) fn with_font() -> Result<()> {
    static ONCE: Once = Once::new();
    let mut done = Ok(());
    ONCE.call_once(|| {
        done = register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT)
            .map_err(|_| anyhow!("cannot load the built-in font"));
    });
    done
}

/// Draws to a temporary file next to `path`, then renames it. The temporary name keeps the extension, which selects the
/// format.
pub(crate) fn save(path: &Path, draw: impl Fn(&Path) -> Result<()>) -> Result<()> {
    let io = |error| anyhow::Error::new(error).context(format!("cannot write {}", path.display()));
    write_at_path(path, Access::Shared, io, draw)
}

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
use asyndgan_medio::write_rgb;
use ndarray::Array3;
use plotters::{
    coord::Shift,
    prelude::{BitMapBackend, DrawingArea, IntoDrawingArea, SVGBackend},
    style::{FontStyle, register_font},
};

use crate::files::write_text;

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

/// Draws a PNG of `size` pixels (width, height).
pub(crate) fn save_png(path: &Path, size: (u32, u32), draw: impl FnOnce(&DrawingArea<BitMapBackend, Shift>) -> Result<()>) -> Result<()> {
    let (width, height) = (size.0 as usize, size.1 as usize);
    let mut pixels = vec![0; 3 * width * height];
    draw(&BitMapBackend::with_buffer(&mut pixels, size).into_drawing_area())?;
    let pixels = Array3::from_shape_vec((height, width, 3), pixels)?;
    Ok(write_rgb(path, pixels.permuted_axes([2, 0, 1]).view())?)
}

/// Draws an SVG of `size` pixels (width, height).
pub(crate) fn save_svg(path: &Path, size: (u32, u32), draw: impl FnOnce(&DrawingArea<SVGBackend, Shift>) -> Result<()>) -> Result<()> {
    write_text(path, &svg(size, draw)?)
}

/// The text of an SVG of `size` pixels (width, height).
pub(crate) fn svg(size: (u32, u32), draw: impl FnOnce(&DrawingArea<SVGBackend, Shift>) -> Result<()>) -> Result<String> {
    let mut text = String::new();
    draw(&SVGBackend::with_string(&mut text, size).into_drawing_area())?;
    Ok(text)
}

/// Whether a path has the extension of an SVG.
fn is_svg(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "svg")
}

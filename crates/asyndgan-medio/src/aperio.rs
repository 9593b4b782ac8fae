//! Annotations of Aperio `ImageScope`.

mod draw;
mod xml;

use std::path::Path;

use draw::{close_gaps, fill};
use ndarray::Array2;
use xml::{Layer, Region, Shape, layers};

use crate::{Error, files};

/// A region that holds so many others, or all, and is so many times as large as usual, is no nucleus.
const HELD_MIN: usize = 3;
const SURROUNDING_MIN: f64 = 16.0;
/// How often regions may cover the whole picture.
const LAYERS_MAX: usize = 64;

/// The nuclei in an annotation file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotations {
    /// Instance labels, `[rows, columns]`. 0 is background; instances are numbered from 1 in file order, without gaps.
    pub labels: Array2<u32>,
    /// Regions in the layer that was read.
    pub regions: usize,
    /// Regions without a label: they cover no pixel centre, have fewer than three vertices, or are arrows or rulers.
    pub degenerate: usize,
    /// Regions that overwrote pixels of an earlier region.
    pub overlapping: usize,
    /// Regions that later regions covered completely.
    pub hidden: usize,
    /// Regions marked as excluded (`NegativeROA`). Their pixels become background, regardless of their order in the
    /// file.
    pub excluded: usize,
}

/// Reads the regions of an Aperio `ImageScope` annotation as instance labels.
///
/// X is the column and Y the row. A pixel belongs to a region if its centre is inside (even-odd rule). Where regions
/// overlap, the later one wins. Freehand regions, rectangles and ellipses are drawn, and excluded regions are removed
/// from all others. `layer` is the name or number (`Id`) of the layer to read; without it, only one layer of the file
/// may contain regions.
///
/// # Shapes
/// `[rows, columns]` of the annotated picture.
///
/// # Units
/// Vertices are in pixels of that picture.
///
/// # Errors
/// [`Error::Io`]; [`Error::Unreadable`] for invalid XML and for entities (which could expand without limit);
/// [`Error::Unsupported`] for a file without regions, for several layers, for a region that surrounds others and is
/// many times as large, for a vertex that is not a finite number, and for characters that do not match the declared
/// encoding.
pub fn read_annotations(path: &Path, rows: usize, columns: usize, layer: Option<&str>) -> Result<Annotations, Error> {
    parse_annotations(path, &files::read(path)?, rows, columns, layer)
}

/// Reads annotations from the bytes of a file; `path` is only used in error messages.
///
/// # Errors
/// As [`read_annotations`].
pub fn parse_annotations(path: &Path, bytes: &[u8], rows: usize, columns: usize, layer: Option<&str>) -> Result<Annotations, Error> {
    let layer = chosen(path, layers(path, bytes)?, layer)?;
    let (excluded, included): (Vec<&Region>, Vec<&Region>) = layer.regions.iter().partition(|region| region.is_excluded);
    if let Some(region) = surrounding(&included) {
        let fact = format!(
            "region {} of the layer {} surrounds others and is more than {SURROUNDING_MIN} times as large as a typical one of its {} \
             regions; if it is the region of interest, remove it or move it to another layer",
            region.number,
            layer.shown(),
            included.len()
        );
        return Err(Error::unsupported(path, fact));
    }
    let mut labels = Array2::zeros((rows, columns));
    let (mut degenerate, mut overlapping, mut drawn) = (0, 0, 0);
    let mut painted = 0;
    for region in &included {
        let (covered, taken) = fill(&mut labels, &region.outline(path, rows)?, drawn + 1);
        painted += covered;
        if painted > LAYERS_MAX * rows * columns {
            return Err(Error::unsupported(
                path,
                format!("its regions cover the picture more than {LAYERS_MAX} times; draw each nucleus once"),
            ));
        }
        drawn += u32::from(covered > 0);
        degenerate += usize::from(covered == 0);
        overlapping += usize::from(taken > 0);
    }
    for region in &excluded {
        fill(&mut labels, &region.outline(path, rows)?, 0);
    }
    let left = close_gaps(&mut labels, drawn);
    let (regions, hidden) = (layer.regions.len(), (drawn - left) as usize);
    Ok(Annotations { labels, regions, degenerate, overlapping, hidden, excluded: excluded.len() })
}

/// The largest region, if it contains several others, or all, and is many times as large as usual: a region of interest
/// rather than a nucleus.
fn surrounding<'a>(regions: &[&'a Region]) -> Option<&'a Region> {
    let regions: Vec<&Region> = regions.iter().copied().filter(|r| r.shape != Shape::NoArea && !r.vertices.is_empty()).collect();
    let bounds: Vec<[f64; 4]> = regions.iter().map(|region| region.bounds()).collect();
    let holds = |a: &[f64; 4], b: &[f64; 4]| a[0] <= b[0] && b[1] <= a[1] && a[2] <= b[2] && b[3] <= a[3];
    let area = |b: &[f64; 4]| (b[1] - b[0]) * (b[3] - b[2]);
    let (at, largest) = bounds.iter().enumerate().max_by(|a, b| area(a.1).total_cmp(&area(b.1)))?;
    let mut areas: Vec<f64> = bounds.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, b)| area(b)).collect();
    if areas.is_empty() {
        return None;
    }
    let middle = areas.len() / 2;
    let usual = *areas.select_nth_unstable_by(middle, f64::total_cmp).1;
    let held = bounds.iter().filter(|b| holds(largest, b)).count() - 1;
    // A large nucleus may lie over a small one.
    let is_around = held >= HELD_MIN || held >= 1 && held == areas.len();
    (is_around && area(largest) >= SURROUNDING_MIN * usual).then_some(regions[at])
}

/// The requested layer, or the only one with regions.
fn chosen(path: &Path, layers: Vec<Layer>, wanted: Option<&str>) -> Result<Layer, Error> {
    let listed = |layers: &[Layer]| {
        layers.iter().map(|l| format!("{} (Id {:?}, {} regions)", l.shown(), l.id, l.regions.len())).collect::<Vec<_>>().join(", ")
    };
    let names = listed(&layers);
    let mut found: Vec<Layer> = match wanted {
        None => layers.into_iter().filter(|l| !l.regions.is_empty()).collect(),
        Some(wanted) if layers.iter().any(|l| l.name == wanted) => layers.into_iter().filter(|l| l.name == wanted).collect(),
        Some(wanted) => layers.into_iter().filter(|l| l.id == wanted).collect(),
    };
    match found.len() {
        1 => Ok(found.remove(0)),
        0 if wanted.is_none() => {
            Err(Error::unsupported(path, "it contains no Region element as written by ImageScope; remove the file if nothing was drawn"))
        }
        0 => Err(Error::unsupported(path, format!("it has no layer {:?}; the layers in the file are {names}", wanted.unwrap_or_default()))),
        _ => Err(Error::unsupported(path, format!("it has several layers: {}; choose one with --layer", listed(&found)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xml(regions: &[&[(f64, f64)]]) -> String {
        let vertex = |(x, y): &(f64, f64)| format!("<Vertex X=\"{x}\" Y=\"{y}\" Z=\"0\"/>");
        let region = |r: &&[(f64, f64)]| format!("<Region><Vertices>{}</Vertices></Region>", r.iter().map(vertex).collect::<String>());
        format!("<Annotations><Annotation><Regions>{}</Regions></Annotation></Annotations>", regions.iter().map(region).collect::<String>())
    }

    #[test]
    fn x_is_the_column_and_later_regions_win() {
        let text = xml(&[
            &[(1.0, 0.0), (5.0, 0.0), (5.0, 2.0), (1.0, 2.0)],
            &[(4.0, 1.0), (6.0, 1.0), (6.0, 9.0), (4.0, 9.0)],
            &[(0.1, 0.1), (0.2, 0.1), (0.2, 0.2)],
            &[(0.0, 0.0), (9.0, 0.0)],
        ]);
        let found = parse_annotations(Path::new("a.xml"), text.as_bytes(), 4, 6, None).expect("valid");
        let expected = ndarray::arr2(&[[0, 1, 1, 1, 1, 0], [0, 1, 1, 1, 2, 2], [0, 0, 0, 0, 2, 2], [0, 0, 0, 0, 2, 2]]);
        assert_eq!(found, Annotations { labels: expected, regions: 4, degenerate: 2, overlapping: 1, hidden: 0, excluded: 0 });
    }

    #[test]
    fn a_wholly_covered_region_leaves_no_gap_in_the_numbers() {
        let text = xml(&[&[(1.0, 1.0), (2.0, 1.0), (2.0, 2.0), (1.0, 2.0)], &[(0.0, 0.0), (3.0, 0.0), (3.0, 3.0), (0.0, 3.0)]]);
        let found = parse_annotations(Path::new("a.xml"), text.as_bytes(), 3, 3, None).expect("valid");
        assert_eq!((found.hidden, found.labels), (1, Array2::from_elem((3, 3), 1)));
    }

    #[test]
    fn entities_are_refused() {
        let bomb = "<!DOCTYPE a [<!ENTITY b \"bbbb\"><!ENTITY c \"&b;&b;&b;\">]><a>&c;</a>";
        let error = parse_annotations(Path::new("a.xml"), bomb.as_bytes(), 3, 3, None).expect_err("a bomb");
        assert!(error.to_string().contains("DTD"), "{error}");
    }
}

use std::path::Path;

use ndarray::Array2;
use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};

use crate::{Error, files};

/// Annotation files beyond this are refused.
const BYTES_MAX: usize = 256 << 20;
/// Edges of one region that cross rows, each counted for each row, beyond this are refused: 16 bytes each are needed.
const CROSSINGS_MAX: usize = 1 << 24;

/// The nuclei that an annotation draws.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotations {
    /// Instance labels, `[rows, columns]`, 0 is background; numbered from 1 in file order, without gaps.
    pub labels: Array2<u32>,
    /// Regions in the file.
    pub regions: usize,
    /// Regions that take no label: they cover no pixel centre, or fewer than three vertices bound them.
    pub degenerate: usize,
    /// Regions that took pixels from an earlier one.
    pub overlapping: usize,
    /// Regions that later ones covered wholly, so that no pixel is left to them.
    pub hidden: usize,
    /// Regions marked as excluded (`NegativeROA`): what lies in them becomes background again.
    pub excluded: usize,
}

/// Reads the regions of an Aperio `ImageScope` annotation as instance labels.
///
/// X is the column, Y the row; a pixel belongs to a region when its centre lies inside (even-odd rule); where regions overlap
/// the later one wins. All layers of the file are drawn, one after the other.
///
/// # Shapes
/// `[rows, columns]` of the picture that was annotated.
///
/// # Units
/// Vertices are in pixels of that picture.
///
/// # Errors
/// [`Error::Io`], or [`Error::Unreadable`] for broken XML, entities (which could expand without end), no region at all, or a vertex
/// that is not a finite number.
pub fn read_annotations(path: &Path, rows: usize, columns: usize) -> Result<Annotations, Error> {
    parse_annotations(path, &files::read(path)?, rows, columns)
}

/// Reads annotations from the bytes of a file; `path` only names it in errors.
///
/// # Errors
/// As [`read_annotations`].
pub fn parse_annotations(path: &Path, bytes: &[u8], rows: usize, columns: usize) -> Result<Annotations, Error> {
    if bytes.len() > BYTES_MAX {
        return Err(Error::unsupported(path, format!("it has {} bytes, at most {BYTES_MAX} are read; split it", bytes.len())));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| Error::unreadable(path, e))?;
    let mut reader = Reader::from_str(text);
    // So that every element has a beginning and an end.
    reader.config_mut().expand_empty_elements = true;
    let mut labels = Array2::zeros((rows, columns));
    let (mut regions, mut degenerate, mut overlapping) = (0, 0, 0);
    let (mut drawn, mut depth) = (0, 0_usize);
    let (mut negative, mut excluded) = (false, 0);
    // The vertices of the region at hand.
    let mut open: Option<Vec<(f64, f64)>> = None;
    loop {
        match reader.read_event().map_err(|e| Error::unreadable(path, e))? {
            Event::DocType(_) => return Err(Error::unreadable(path, "it has a DTD, whose entities could expand without end")),
            Event::Start(tag) => {
                depth += 1;
                if tag.name().as_ref() == "Region" {
                    regions += 1;
                    negative = tag.try_get_attribute("NegativeROA").ok().flatten().is_some_and(|a| a.value.trim() == "1");
                    if open.replace(Vec::new()).is_some() {
                        return Err(Error::unreadable(path, format!("region {regions} lies within another")));
                    }
                } else if let Some(polygon) = open.as_mut().filter(|_| tag.name().as_ref() == "Vertex") {
                    let fact = || Error::unreadable(path, format!("a vertex of region {regions} lacks a finite X or Y"));
                    polygon.push(vertex(&tag).ok_or_else(fact)?);
                }
            }
            Event::End(tag) => {
                depth -= 1;
                if let Some(polygon) = open.take_if(|_| tag.name().as_ref() == "Region") {
                    if crossings(&polygon, rows) > CROSSINGS_MAX {
                        let fact = format!("region {regions} goes up and down more than {CROSSINGS_MAX} rows; draw it anew");
                        return Err(Error::unsupported(path, fact));
                    }
                    if negative {
                        fill(&mut labels, &polygon, 0);
                        excluded += 1;
                        continue;
                    }
                    let (covered, taken) = fill(&mut labels, &polygon, drawn + 1);
                    drawn += u32::from(covered > 0);
                    degenerate += usize::from(covered == 0);
                    overlapping += usize::from(taken > 0);
                }
            }
            Event::Eof if depth > 0 => return Err(Error::unreadable(path, "it ends within an element")),
            Event::Eof => break,
            _ => {}
        }
    }
    if regions == 0 {
        return Err(Error::unsupported(path, "it holds no Region; leave it out if nothing was drawn"));
    }
    let left = close_gaps(&mut labels, drawn);
    Ok(Annotations { labels, regions, degenerate, overlapping, hidden: (drawn - left) as usize, excluded })
}

/// Column and row of a vertex.
fn vertex(tag: &BytesStart) -> Option<(f64, f64)> {
    let (mut x, mut y) = (None, None);
    for attribute in tag.attributes() {
        let attribute = attribute.ok()?;
        let number = || attribute.value.trim().parse::<f64>().ok().filter(|v| v.is_finite());
        match attribute.key.as_ref() {
            "X" => x = Some(number()?),
            "Y" => y = Some(number()?),
            _ => {}
        }
    }
    x.zip(y)
}

/// Renumbers labels so that those without a pixel leave no gap; says how many are left.
fn close_gaps(labels: &mut Array2<u32>, drawn: u32) -> u32 {
    let mut number = vec![0; drawn as usize + 1];
    labels.iter().for_each(|&l| number[l as usize] = 1);
    number[0] = 0;
    let mut next = 0;
    for n in &mut number {
        if *n > 0 {
            next += 1;
            *n = next;
        }
    }
    if next < drawn {
        labels.mapv_inplace(|l| number[l as usize]);
    }
    next
}

/// How often a polygon's edges cross a row's middle, at most.
fn crossings(polygon: &[(f64, f64)], rows: usize) -> usize {
    let row = |y: f64| y.clamp(0.0, rows as f64) as usize;
    polygon.iter().zip(polygon.iter().cycle().skip(1)).map(|(a, b)| row(a.1).abs_diff(row(b.1)) + 1).sum()
}

/// Fills a polygon by scan lines through pixel centres; says how many pixels it covers, and how many it took from others.
fn fill(labels: &mut Array2<u32>, polygon: &[(f64, f64)], label: u32) -> (usize, usize) {
    let (rows, columns) = labels.dim();
    let (mut covered, mut taken) = (0, 0);
    if polygon.len() < 3 {
        return (0, 0);
    }
    // Every edge once, by the rows that it crosses: no row looks at all edges.
    let (low, high) = polygon.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), (_, y)| (l.min(*y), h.max(*y)));
    let first = low.floor().max(0.0) as usize;
    let last = (high.ceil().max(0.0) as usize).min(rows);
    let mut crossings: Vec<(usize, f64)> = Vec::new();
    for (&(ax, ay), &(bx, by)) in polygon.iter().zip(polygon.iter().cycle().skip(1)) {
        let (top, bottom) = (ay.min(by), ay.max(by));
        // Rows whose centre y satisfies top <= y < bottom.
        let from = ((top - 0.5).ceil().max(0.0) as usize).max(first);
        let to = ((bottom - 0.5).ceil().max(0.0) as usize).min(last);
        crossings.extend((from..to).map(|row| (row, ax + (row as f64 + 0.5 - ay) / (by - ay) * (bx - ax))));
    }
    crossings.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    for pair in crossings.chunks_exact(2) {
        let from = (pair[0].1 - 0.5).ceil().max(0.0) as usize;
        let to = (pair[1].1 - 0.5).ceil().max(0.0) as usize;
        for column in from..to.min(columns) {
            let pixel = &mut labels[[pair[0].0, column]];
            taken += usize::from(*pixel > 0);
            *pixel = label;
            covered += 1;
        }
    }
    (covered, taken)
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
        let found = parse_annotations(Path::new("a.xml"), text.as_bytes(), 4, 6).expect("valid");
        let expected = ndarray::arr2(&[[0, 1, 1, 1, 1, 0], [0, 1, 1, 1, 2, 2], [0, 0, 0, 0, 2, 2], [0, 0, 0, 0, 2, 2]]);
        assert_eq!(found, Annotations { labels: expected, regions: 4, degenerate: 2, overlapping: 1, hidden: 0, excluded: 0 });
    }

    #[test]
    fn a_wholly_covered_region_leaves_no_gap_in_the_numbers() {
        let text = xml(&[&[(1.0, 1.0), (2.0, 1.0), (2.0, 2.0), (1.0, 2.0)], &[(0.0, 0.0), (3.0, 0.0), (3.0, 3.0), (0.0, 3.0)]]);
        let found = parse_annotations(Path::new("a.xml"), text.as_bytes(), 3, 3).expect("valid");
        assert_eq!((found.hidden, found.labels), (1, Array2::from_elem((3, 3), 1)));
    }

    #[test]
    fn entities_are_refused() {
        let bomb = "<!DOCTYPE a [<!ENTITY b \"bbbb\"><!ENTITY c \"&b;&b;&b;\">]><a>&c;</a>";
        let error = parse_annotations(Path::new("a.xml"), bomb.as_bytes(), 3, 3).expect_err("a bomb");
        assert!(error.to_string().contains("DTD"), "{error}");
    }
}

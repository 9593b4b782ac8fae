use std::path::Path;

use encoding_rs::Encoding;
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
/// A region that holds so many others, or all, and is so many times as large as usual, is no nucleus.
const HELD_MIN: usize = 3;
const SURROUNDING_MIN: f64 = 16.0;
/// How often regions may cover the whole picture.
const LAYERS_MAX: usize = 64;
/// Edges that an ellipse is drawn with.
const ELLIPSE_EDGES: usize = 720;

/// The nuclei that an annotation draws.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotations {
    /// Instance labels, `[rows, columns]`, 0 is background; numbered from 1 in file order, without gaps.
    pub labels: Array2<u32>,
    /// Regions in the layer that was read.
    pub regions: usize,
    /// Regions that take no label: they cover no pixel centre, fewer than three vertices bound them, or they are arrows or rulers.
    pub degenerate: usize,
    /// Regions that took pixels from an earlier one.
    pub overlapping: usize,
    /// Regions that later ones covered wholly, so that no pixel is left to them.
    pub hidden: usize,
    /// Regions marked as excluded (`NegativeROA`): what lies in them becomes background again, wherever in the file they stand.
    pub excluded: usize,
}

/// Reads the regions of an Aperio `ImageScope` annotation as instance labels.
///
/// X is the column, Y the row; a pixel belongs to a region when its centre lies inside (even-odd rule); where regions overlap the later one
/// wins. Freehand regions, rectangles and ellipses are drawn, and excluded regions taken out of all others. `layer` is the name or number
/// (`Id`) of the layer to read; without it, the file must have regions in one layer only.
///
/// # Shapes
/// `[rows, columns]` of the picture that was annotated.
///
/// # Units
/// Vertices are in pixels of that picture.
///
/// # Errors
/// [`Error::Io`]; [`Error::Unreadable`] for broken XML and entities (which could expand without end); [`Error::Unsupported`] for no region at
/// all, several layers, a region that surrounds others and is many times as large, a vertex that is not a finite number, and characters that are not in the
/// declared encoding.
pub fn read_annotations(path: &Path, rows: usize, columns: usize, layer: Option<&str>) -> Result<Annotations, Error> {
    parse_annotations(path, &files::read(path)?, rows, columns, layer)
}

/// Reads annotations from the bytes of a file; `path` only names it in errors.
///
/// # Errors
/// As [`read_annotations`].
pub fn parse_annotations(path: &Path, bytes: &[u8], rows: usize, columns: usize, layer: Option<&str>) -> Result<Annotations, Error> {
    let layer = chosen(path, layers(path, bytes)?, layer)?;
    let (excluded, included): (Vec<&Region>, Vec<&Region>) = layer.regions.iter().partition(|region| region.is_excluded);
    if let Some(region) = surrounding(&included) {
        let fact = format!(
            "region {} of the layer {} surrounds others, and is more than {SURROUNDING_MIN} times as large as its {} regions usually are; is it the \
             region of interest? Take it out, or put it into another layer",
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

/// What a region's vertices mean.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Shape {
    Polygon,
    /// Corners of a box with sides along the rows and columns, or the four of any rectangle.
    Rectangle,
    /// As a rectangle, whose sides it touches.
    Ellipse,
    /// An arrow or a ruler.
    NoArea,
}

struct Region {
    number: usize,
    shape: Shape,
    is_excluded: bool,
    vertices: Vec<(f64, f64)>,
}

/// What `ImageScope` calls an annotation layer.
#[derive(Default)]
struct Layer {
    name: String,
    id: String,
    regions: Vec<Region>,
}

impl Layer {
    fn shown(&self) -> String {
        if self.name.is_empty() { format!("{:?}", self.id) } else { format!("{:?}", self.name) }
    }
}

impl Region {
    /// The polygon that it draws.
    fn outline(&self, path: &Path, rows: usize) -> Result<Vec<(f64, f64)>, Error> {
        let polygon = match (self.shape, &self.vertices[..]) {
            (Shape::NoArea, _) => Vec::new(),
            (Shape::Rectangle, &[(ax, ay), (bx, by)]) => vec![(ax, ay), (bx, ay), (bx, by), (ax, by)],
            (Shape::Ellipse, &[(ax, ay), (bx, by)]) => ellipse((ax, ay), (bx, ay), (bx, by)),
            (Shape::Ellipse, &[a, b, c, _]) => ellipse(a, b, c),
            (_, vertices) => vertices.to_vec(),
        };
        if crossings(&polygon, rows) > CROSSINGS_MAX {
            let fact = format!("region {} goes up and down more than {CROSSINGS_MAX} rows; draw it anew", self.number);
            return Err(Error::unsupported(path, fact));
        }
        Ok(polygon)
    }

    /// The smallest and largest X and Y.
    fn bounds(&self) -> [f64; 4] {
        let bounds = |b: [f64; 4], (x, y): &(f64, f64)| [b[0].min(*x), b[1].max(*x), b[2].min(*y), b[3].max(*y)];
        let (x, y) = self.vertices.first().copied().unwrap_or_default();
        self.vertices.iter().fold([x, x, y, y], bounds)
    }
}

/// The ellipse that touches the sides of a parallelogram with three of its corners in order.
fn ellipse(a: (f64, f64), b: (f64, f64), c: (f64, f64)) -> Vec<(f64, f64)> {
    let (centre, u, v) = (
        (f64::midpoint(a.0, c.0), f64::midpoint(a.1, c.1)),
        ((b.0 - a.0) / 2.0, (b.1 - a.1) / 2.0),
        ((c.0 - b.0) / 2.0, (c.1 - b.1) / 2.0),
    );
    let at = |k: usize| {
        let (sin, cos) = (std::f64::consts::TAU * k as f64 / ELLIPSE_EDGES as f64).sin_cos();
        (centre.0 + cos * u.0 + sin * v.0, centre.1 + cos * u.1 + sin * v.1)
    };
    (0..ELLIPSE_EDGES).map(at).collect()
}

/// The largest region, if it holds several others, or all, and is many times as large as usual: a region of interest, and no nucleus.
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

/// The layer that is asked for, or the only one with regions.
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
            Err(Error::unsupported(path, "it holds no Region element, as ImageScope writes them; leave it out if nothing was drawn"))
        }
        0 => Err(Error::unsupported(path, format!("it has no layer {:?}; its layers are {names}", wanted.unwrap_or_default()))),
        _ => Err(Error::unsupported(path, format!("it has the layers {}; choose one with --layer", listed(&found)))),
    }
}

/// The text of an XML file in the encoding that it declares or begins with.
fn decoded(path: &Path, bytes: &[u8]) -> Result<String, Error> {
    let declared = || {
        let head = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
        let (_, rest) = head.split_once("encoding=")?;
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        Encoding::for_label(rest[1..].split(quote).next()?.as_bytes())
    };
    // Two bytes a character show without a mark too, and nothing else can be declared as such.
    let begins = |start: &[u8]| bytes.starts_with(start);
    let wide = begins(b"<\0").then_some(encoding_rs::UTF_16LE).or(begins(b"\0<").then_some(encoding_rs::UTF_16BE));
    let narrow = || declared().filter(|e| e.is_ascii_compatible());
    let encoding = Encoding::for_bom(bytes).map(|found| found.0).or(wide).or_else(narrow).unwrap_or(encoding_rs::UTF_8);
    let (text, _, is_damaged) = encoding.decode(bytes);
    if is_damaged {
        return Err(Error::unsupported(
            path,
            format!("its characters are not {}, as it should be; declare its encoding, or write it as UTF-8", encoding.name()),
        ));
    }
    Ok(text.into_owned())
}

/// All layers with their regions.
fn layers(path: &Path, bytes: &[u8]) -> Result<Vec<Layer>, Error> {
    if bytes.len() > BYTES_MAX {
        return Err(Error::unsupported(path, format!("it has {} bytes, at most {BYTES_MAX} are read; split it", bytes.len())));
    }
    let text = decoded(path, bytes)?;
    let mut reader = Reader::from_str(&text);
    // So that every element has a beginning and an end.
    reader.config_mut().expand_empty_elements = true;
    let (mut layers, mut depth, mut number) = (Vec::<Layer>::new(), 0_usize, 0);
    let mut open: Option<Region> = None;
    loop {
        match reader.read_event().map_err(|e| Error::unreadable(path, e))? {
            Event::DocType(_) => return Err(Error::unreadable(path, "it has a DTD, whose entities could expand without end")),
            Event::Start(tag) => {
                depth += 1;
                let text = |name| tag.try_get_attribute(name).ok().flatten().map(|a| a.value.trim().to_owned()).unwrap_or_default();
                match tag.name().as_ref() {
                    "Annotation" => layers.push(Layer { name: text("Name"), id: text("Id"), regions: Vec::new() }),
                    "Region" => {
                        number += 1;
                        let shape = match text("Type").as_str() {
                            "" | "0" => Shape::Polygon,
                            "1" => Shape::Rectangle,
                            "2" => Shape::Ellipse,
                            _ => Shape::NoArea,
                        };
                        let region = Region {
                            number,
                            shape,
                            is_excluded: matches!(text("NegativeROA").to_ascii_lowercase().as_str(), "1" | "true"),
                            vertices: Vec::new(),
                        };
                        if open.replace(region).is_some() {
                            return Err(Error::unreadable(path, format!("region {number} lies within another")));
                        }
                    }
                    "Vertex" => {
                        if let Some(region) = &mut open {
                            let fact = |odd| {
                                Error::unsupported(
                                    path,
                                    format!("a vertex of region {number} has {odd}; X and Y are numbers, with a point"),
                                )
                            };
                            region.vertices.push(vertex(&tag).map_err(fact)?);
                        }
                    }
                    _ => {}
                }
            }
            Event::End(tag) => {
                depth = depth.saturating_sub(1);
                if let Some(region) = open.take_if(|_| tag.name().as_ref() == "Region") {
                    if layers.is_empty() {
                        layers.push(Layer::default());
                    }
                    layers.last_mut().expect("one at least").regions.push(region);
                }
            }
            Event::Eof if depth > 0 => return Err(Error::unreadable(path, "it ends within an element")),
            Event::Eof => return Ok(layers),
            _ => {}
        }
    }
}

/// Column and row of a vertex; else what it has instead.
fn vertex(tag: &BytesStart) -> Result<(f64, f64), String> {
    let (mut x, mut y) = (None, None);
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|e| format!("unreadable attributes ({e})"))?;
        let place = match attribute.key.as_ref() {
            "X" => &mut x,
            "Y" => &mut y,
            _ => continue,
        };
        let text = attribute.value.trim();
        let number = text.parse::<f64>().ok().filter(|v| v.is_finite());
        *place = Some(number.ok_or_else(|| format!("{}={text:?}", attribute.key.as_ref()))?);
    }
    Ok((x.ok_or("no X")?, y.ok_or("no Y")?))
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

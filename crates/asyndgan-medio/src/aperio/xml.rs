//! The layers and regions of an `ImageScope` file.

use std::path::Path;

use encoding_rs::Encoding;
use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};

use crate::Error;

/// Annotation files beyond this are refused.
const BYTES_MAX: usize = 256 << 20;

/// What a region's vertices mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Shape {
    Polygon,
    /// Corners of a box with sides along the rows and columns, or the four of any rectangle.
    Rectangle,
    /// As a rectangle, whose sides it touches.
    Ellipse,
    /// An arrow or a ruler.
    NoArea,
}

pub(super) struct Region {
    pub(super) number: usize,
    pub(super) shape: Shape,
    pub(super) is_excluded: bool,
    pub(super) vertices: Vec<(f64, f64)>,
}

/// What `ImageScope` calls an annotation layer.
#[derive(Default)]
pub(super) struct Layer {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) regions: Vec<Region>,
}

impl Layer {
    pub(super) fn shown(&self) -> String {
        if self.name.is_empty() { format!("{:?}", self.id) } else { format!("{:?}", self.name) }
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
            format!("its characters are not valid {}; declare its encoding, or write it as UTF-8", encoding.name()),
        ));
    }
    Ok(text.into_owned())
}

/// All layers with their regions.
pub(super) fn layers(path: &Path, bytes: &[u8]) -> Result<Vec<Layer>, Error> {
    if bytes.len() > BYTES_MAX {
        return Err(Error::unsupported(path, format!("it has {} bytes; the limit is {BYTES_MAX}, so split it", bytes.len())));
    }
    let text = decoded(path, bytes)?;
    let mut reader = Reader::from_str(&text);
    // So that every element has a beginning and an end.
    reader.config_mut().expand_empty_elements = true;
    let (mut layers, mut depth, mut number) = (Vec::<Layer>::new(), 0_usize, 0);
    let mut open: Option<Region> = None;
    loop {
        match reader.read_event().map_err(|e| Error::unreadable(path, e))? {
            Event::DocType(_) => return Err(Error::unreadable(path, "it has a DTD, and entities in a DTD could expand without limit")),
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
                            return Err(Error::unreadable(path, format!("region {number} is nested within another")));
                        }
                    }
                    "Vertex" => {
                        if let Some(region) = &mut open {
                            let fact = |odd| {
                                Error::unsupported(
                                    path,
                                    format!("a vertex of region {number} has {odd}; X and Y must be numbers with a decimal point"),
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

//! Outlines of nuclei that enclose nothing, or too much.

use std::path::Path;

use asyndgan_medio::parse_annotations;

use crate::complaint;

#[test]
fn annotations_say_what_is_wrong_with_them() {
    let nested = "<a>".repeat(100_000) + &"</a>".repeat(100_000);
    for (text, fact) in [
        ("", "a.xml"),
        ("<Annotations>", "a.xml"),
        ("<Annotations/>", "no Region"),
        ("<Region><Vertex X=\"1\" Y=\"nan\"/></Region>", "region 1 has Y=\"nan\""),
        ("<Region><Vertex X=\"10,5\" Y=\"1\"/></Region>", "region 1 has X=\"10,5\""),
        ("<Region><Vertex X=\"1\"/></Region>", "region 1 has no Y"),
        ("<!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/passwd\">]><a>&b;</a>", "DTD"),
        (&nested, "no Region"),
        ("<a><Region><Region/></Region></a>", "within another"),
    ] {
        let said = complaint(parse_annotations(Path::new("a.xml"), text.as_bytes(), 5, 5, None));
        assert!(said.contains(fact), "{fact}: {said}");
    }
}

#[test]
fn a_region_that_goes_up_and_down_without_end_takes_no_memory() {
    let vertices = "<Vertex X=\"1\" Y=\"0\"/><Vertex X=\"2\" Y=\"4000\"/>".repeat(3000);
    let said = complaint(parse_annotations("a.xml".as_ref(), format!("<Region>{vertices}</Region>").as_bytes(), 4000, 5, None));
    assert!(said.contains("edges that cross more than"), "{said}");
}

#[test]
fn an_excluded_region_becomes_background_again() {
    let square = |a: i32, b: i32| {
        format!("<Vertex X=\"{a}\" Y=\"{a}\"/><Vertex X=\"{b}\" Y=\"{a}\"/><Vertex X=\"{b}\" Y=\"{b}\"/><Vertex X=\"{a}\" Y=\"{b}\"/>")
    };
    let xml = format!("<a><Region NegativeROA=\"0\">{}</Region><Region NegativeROA=\"1\">{}</Region></a>", square(0, 4), square(1, 3));
    let found = parse_annotations("a.xml".as_ref(), xml.as_bytes(), 4, 4, None).expect("read");
    assert_eq!((found.labels.iter().filter(|&&l| l == 1).count(), found.excluded, found.labels[[1, 1]]), (12, 1, 0));
}

#[test]
fn a_vertex_light_years_away_takes_no_memory() {
    let text = "<Region><Vertex X=\"-1e300\" Y=\"-1e300\"/><Vertex X=\"1e300\" Y=\"-1e300\"/><Vertex X=\"0\" Y=\"1e300\"/></Region>";
    let found = parse_annotations(Path::new("a.xml"), text.as_bytes(), 5, 5, None).expect("read");
    assert_eq!(found.labels.dim(), (5, 5));
}

fn region(attributes: &str, vertices: &[(f64, f64)]) -> String {
    let vertex = |text: String, (x, y): &(f64, f64)| text + &format!("<Vertex X=\"{x}\" Y=\"{y}\"/>");
    vertices.iter().fold(format!("<Region {attributes}>"), vertex) + "</Region>"
}

fn boxed(x: f64, y: f64, side: f64) -> [(f64, f64); 4] {
    [(x, y), (x + side, y), (x + side, y + side), (x, y + side)]
}

#[test]
fn holes_are_taken_out_wherever_they_stand() {
    let (hole, whole) = (region("NegativeROA=\"1\"", &boxed(3.0, 3.0, 2.0)), region("NegativeROA=\"0\"", &boxed(1.0, 1.0, 6.0)));
    for xml in [format!("<a>{hole}{whole}</a>"), format!("<a>{whole}{hole}</a>")] {
        let found = parse_annotations("a.xml".as_ref(), xml.as_bytes(), 10, 10, None).expect("read");
        assert_eq!((found.labels.iter().filter(|&&l| l == 1).count(), found.excluded), (36 - 4, 1));
    }
}

#[test]
fn ellipses_and_rectangles_are_drawn_by_their_corners() {
    let shapes = [
        region("Type=\"2\"", &[(10.0, 50.0), (30.0, 66.0)]),
        region("Type=\"1\"", &[(40.0, 50.0), (50.0, 60.0)]),
        region("Type=\"2\"", &[(60.0, 50.0), (80.0, 50.0), (80.0, 66.0), (60.0, 66.0)]),
        region("Type=\"3\"", &[(10.0, 10.0), (90.0, 20.0)]),
    ];
    let xml = format!("<a>{}</a>", shapes.concat());
    let found = parse_annotations("a.xml".as_ref(), xml.as_bytes(), 100, 100, None).expect("read");
    let count = |label| found.labels.iter().filter(|&&l| l == label).count() as f64;
    let area = std::f64::consts::PI * 10.0 * 8.0;
    assert!((count(1) - area).abs() < 6.0 && (count(3) - area).abs() < 6.0, "{} {} {area}", count(1), count(3));
    assert_eq!((count(2), found.degenerate), (100.0, 1));
    assert_eq!((found.labels[[58, 20]], found.labels[[50, 10]]), (1, 0), "the middle and a corner");
}

#[test]
fn a_region_around_the_others_is_no_nucleus() {
    let nuclei = |count: u32| (0..count).map(|k| region("", &boxed(10.0 * f64::from(k) + 5.0, 5.0, 4.0))).collect::<String>();
    let around = region("", &boxed(0.0, 0.0, 40.0));
    for xml in [format!("<a>{}{around}</a>", nuclei(3)), format!("<a>{around}{}</a>", nuclei(8)), format!("<a>{around}{}</a>", nuclei(1))] {
        let said = complaint(parse_annotations("a.xml".as_ref(), xml.as_bytes(), 90, 90, None));
        assert!(said.contains("surrounds others"), "{said}");
    }
    // A large nucleus over a small one.
    let xml = format!("<a>{}{}</a>", nuclei(5), region("", &boxed(4.0, 4.0, 17.0)));
    assert_eq!(parse_annotations("a.xml".as_ref(), xml.as_bytes(), 90, 90, None).expect("read").regions, 6);
}

#[test]
fn annotations_are_read_in_the_encoding_that_they_declare() {
    let body = format!("<Annotations><Annotation Name=\"Dr\u{fc}se\">{}</Annotation></Annotations>", region("", &boxed(1.0, 1.0, 3.0)));
    let wide = |big: bool, mark: bool| -> Vec<u8> {
        let text = format!("{}<?xml version=\"1.0\" encoding=\"utf-16\"?>{body}", if mark { "\u{feff}" } else { "" });
        text.encode_utf16().flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
    };
    let narrow = |name: &str| -> Vec<u8> {
        let head = format!("<?xml version=\"1.0\" encoding=\"{name}\"?>");
        head.bytes().chain(body.chars().map(|c| u8::try_from(u32::from(c)).expect("one byte"))).collect()
    };
    let files = [wide(false, true), wide(true, true), wide(false, false), wide(true, false), narrow("ISO-8859-1"), narrow("windows-1252")];
    for bytes in files.into_iter().chain([format!("\u{feff}{body}").into_bytes()]) {
        let found = parse_annotations("a.xml".as_ref(), &bytes, 6, 6, Some("Dr\u{fc}se")).expect("read");
        assert_eq!(found.labels.iter().filter(|&&l| l == 1).count(), 9);
    }
    let undeclared: Vec<u8> = body.chars().map(|c| u8::try_from(u32::from(c)).expect("one byte")).collect();
    assert!(complaint(parse_annotations("a.xml".as_ref(), &undeclared, 6, 6, None)).contains("declare its encoding"));
}

#[test]
fn a_nucleus_around_its_holes_is_one() {
    let holes: String = (0..3).map(|k| region("NegativeROA=\"1\"", &boxed(3.0 + 4.0 * f64::from(k), 3.0, 2.0))).collect();
    let xml = format!("<a>{}{holes}{}</a>", region("", &boxed(1.0, 1.0, 15.0)), region("", &boxed(20.0, 20.0, 3.0)));
    let found = parse_annotations("a.xml".as_ref(), xml.as_bytes(), 30, 30, None).expect("read");
    assert_eq!((found.labels.iter().filter(|&&l| l == 1).count(), found.excluded), (225 - 12, 3));
}

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
        ("<Region><Vertex X=\"1\" Y=\"nan\"/></Region>", "finite X or Y"),
        ("<Region><Vertex X=\"1\"/></Region>", "finite X or Y"),
        ("<!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/passwd\">]><a>&b;</a>", "DTD"),
        (&nested, "no Region"),
        ("<a><Region><Region/></Region></a>", "within another"),
    ] {
        let said = complaint(parse_annotations(Path::new("a.xml"), text.as_bytes(), 5, 5));
        assert!(said.contains(fact), "{fact}: {said}");
    }
}

#[test]
fn a_region_that_goes_up_and_down_without_end_takes_no_memory() {
    let vertices = "<Vertex X=\"1\" Y=\"0\"/><Vertex X=\"2\" Y=\"4000\"/>".repeat(3000);
    let said = complaint(parse_annotations("a.xml".as_ref(), format!("<Region>{vertices}</Region>").as_bytes(), 4000, 5));
    assert!(said.contains("goes up and down"), "{said}");
}

#[test]
fn an_excluded_region_becomes_background_again() {
    let square = |a: i32, b: i32| {
        format!("<Vertex X=\"{a}\" Y=\"{a}\"/><Vertex X=\"{b}\" Y=\"{a}\"/><Vertex X=\"{b}\" Y=\"{b}\"/><Vertex X=\"{a}\" Y=\"{b}\"/>")
    };
    let xml = format!("<a><Region NegativeROA=\"0\">{}</Region><Region NegativeROA=\"1\">{}</Region></a>", square(0, 4), square(1, 3));
    let found = parse_annotations("a.xml".as_ref(), xml.as_bytes(), 4, 4).expect("read");
    assert_eq!((found.labels.iter().filter(|&&l| l == 1).count(), found.excluded, found.labels[[1, 1]]), (12, 1, 0));
}

#[test]
fn a_vertex_light_years_away_takes_no_memory() {
    let text = "<Region><Vertex X=\"-1e300\" Y=\"-1e300\"/><Vertex X=\"1e300\" Y=\"-1e300\"/><Vertex X=\"0\" Y=\"1e300\"/></Region>";
    let found = parse_annotations(Path::new("a.xml"), text.as_bytes(), 5, 5).expect("read");
    assert_eq!(found.labels.dim(), (5, 5));
}

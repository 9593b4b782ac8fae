//! Turns the facts about a data set into the text of a task file.

use std::fmt::Write as _;

use asyndgan_medio::DataSet;
use asyndgan_paper::Profile;
use asyndgan_task::{ImageKind, Normalisation, SliceAxis};

use super::{
    fingerprint::{ANISOTROPY_MIN, Channel, Fingerprint},
    scale::scale,
};

/// Below this share, zeros are no background.
const BACKGROUND_MIN: f64 = 0.05;
/// Values below this are Hounsfield units of air.
const AIR: f32 = -500.0;
/// The usual window of soft tissue, with fat, in Hounsfield units.
const SOFT_TISSUE: [f32; 2] = [-160.0, 240.0];
/// Everything below is the air around the body, also where lungs are labelled.
const AIR_AROUND: f32 = -950.0;
/// Grey values of a picture, of 255, that span less than this are stretched.
const NARROW: f32 = 64.0;

/// The text of a task file. With a GPU, the paper's profile.
pub(super) fn proposal(name: &str, set: &DataSet, found: &Fingerprint, has_gpu: bool) -> String {
    let mut text = Text(format!(
        "# Task proposed from {} of {} cases of {} patients ({}) with labels.\n# Every line is a proposal: correct what is wrong. Rows and columns are in pixels.\n\n",
        found.read,
        found.cases,
        found.patients,
        found.cases_in_words()
    ));
    // The paper's patches need pictures that are as large.
    let (profile, why) = match has_gpu {
        true if found.kind == ImageKind::Volumes || found.side_min >= 256 => (Profile::Paper, "a GPU was found: the paper's widths"),
        true => (Profile::Desk, "some pictures are smaller than the paper's patches"),
        false => (Profile::Desk, "no GPU was found: sizes for a desktop computer"),
    };
    text.line("profile", &quoted(profile.name()), why);
    text.line("name", &quoted(name), "as tables and reports show it");
    let is_volumes = found.kind == ImageKind::Volumes;
    text.line(
        "images",
        if is_volumes { "\"volumes\"" } else { "\"pictures\"" },
        if is_volumes { "cut into slices" } else { "cut into patches" },
    );
    if is_volumes {
        let (axis, why) = axis(found);
        text.line("axis", axis, &why);
    }
    let instances = "every number of a mask is one object: touching ones are kept apart";
    text.line(
        "labels",
        if found.has_instances { "\"instances\"" } else { "\"classes\"" },
        if found.has_instances { instances } else { "every number of a mask is a class" },
    );
    if let Some(ignore) = set.ignore {
        text.line("ignore", &ignore.to_string(), "pixels that were not annotated: neither trained on nor scored");
    }
    let channels: Vec<(String, Normalisation, String)> = normalised(set, found);
    let (outline, why) = outline(found, &channels);
    if is_volumes {
        text.line("outline", if outline { "true" } else { "false" }, why);
        text.line("marked_pixels_min", "10", "slices with fewer marked pixels are not used for training");
    }
    let regions = regions(set, found);
    let (metrics, why) = metrics(found, regions.len().max(found.labels.len()));
    text.line("metrics", metrics, why);
    for (name, normalisation, why) in channels {
        text.0 += "\n[[channels]]\n";
        text.line("name", &quoted(&name), "as in the data set");
        text.line("normalisation", &written(normalisation), &why);
    }
    for (class, label) in classes(set, found) {
        text.0 += "\n[[classes]]\n";
        let cases = found.labels.get(&label.unwrap_or(1)).map_or(0, |label| label.cases);
        text.line("name", &quoted(&class), &format!("in {cases} of {} cases that were read", found.read));
        if let Some(label) = label.filter(|_| !found.has_instances) {
            text.line("labels", &format!("[{label}]"), "numbers in a mask that belong to it");
        }
    }
    for (region, classes) in regions {
        text.0 += "\n[[regions]]\n";
        text.line("name", &quoted(&region), "a region has its own columns in the table");
        text.line(
            "classes",
            &format!("[{}]", classes.iter().map(|class| quoted(class)).collect::<Vec<_>>().join(", ")),
            "the classes that belong to it",
        );
    }
    let scale = scale(found, profile);
    text.0 += "\n[data]\n";
    text.line("size", &scale.size.to_string(), &scale.size_reason);
    text.line("crop", &scale.crop.to_string(), "random parts of this size are trained on, so that images differ in place");
    if let Some(class) = sided(set) {
        text.line("flips", "false", &format!("images are not mirrored, because {class} has a side"));
    }
    if !is_volumes {
        text.line("downsampling", &scale.downsampling.to_string(), &scale.downsampling_reason);
    }
    text.0 += "\n[protocol]\n";
    text.line("batch", "2", "images per site and round: several patients, as a hospital's default policy requires");
    text.0
}

/// Text that is built line by line.
struct Text(String);

impl Text {
    fn line(&mut self, key: &str, value: &str, why: &str) {
        let _ = writeln!(self.0, "{:<44} # {why}", format!("{key} = {value}"));
    }
}

impl Fingerprint {
    fn cases_in_words(&self) -> String {
        let [slices, rows, columns] = self.shape;
        match self.kind {
            ImageKind::Volumes => {
                let [z, y, x] = self.spacing_mm;
                format!("volumes, median {slices} x {rows} x {columns} voxels of {z:.2} x {y:.2} x {x:.2} mm")
            }
            ImageKind::Pictures => format!("pictures, median {rows} x {columns} pixels"),
        }
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}

fn written(normalisation: Normalisation) -> String {
    match normalisation {
        Normalisation::Window { low, high } => format!("{{ window = {{ low = {low:?}, high = {high:?} }} }}"),
        Normalisation::ZScore => "\"z_score\"".into(),
        Normalisation::Rgb => "\"rgb\"".into(),
        Normalisation::Stain => "\"stain\"".into(),
        _ => "\"foreground_percentile\"".into(),
    }
}

fn axis(found: &Fingerprint) -> (&'static str, String) {
    let name = match found.axis {
        SliceAxis::Coronal => "\"coronal\"",
        SliceAxis::Sagittal => "\"sagittal\"",
        SliceAxis::Axial => "\"axial\"",
    };
    let along = found.axis.order()[0];
    let finest = found.spacing_mm.iter().copied().fold(f64::INFINITY, f64::min);
    let why = if found.shape[along] == 1 {
        "there is one slice along this axis".to_owned()
    } else if found.spacing_mm[along] < ANISOTROPY_MIN * finest {
        "the spacing is about the same along all axes".to_owned()
    } else {
        format!("the spacing is coarsest along this axis: {:.2} mm against {finest:.2} mm", found.spacing_mm[along])
    };
    (name, why)
}

/// The channels of the task with their normalisation and its reason.
fn normalised(set: &DataSet, found: &Fingerprint) -> Vec<(String, Normalisation, String)> {
    if found.kind == ImageKind::Volumes {
        let of = |channel: &Channel| {
            let (normalisation, why) = of_volume(channel);
            (channel.name.clone(), normalisation, why)
        };
        return found.channels.iter().map(of).collect();
    }
    if found.is_coloured {
        let (normalisation, why) = if found.is_stained {
            (Normalisation::Stain, "haematoxylin and eosin: colours are matched to a reference")
        } else {
            (Normalisation::Rgb, "colours from 0 to 255, as they are; not all pictures show haematoxylin and eosin")
        };
        return ["red", "green", "blue"].map(|name| (name.to_owned(), normalisation, why.to_owned())).into();
    }
    // A grey picture in one file is read as three equal channels.
    let several = set.cases.first().is_some_and(|case| case.images.len() > 1);
    let channels = if several { &found.channels[..] } else { &found.channels[..1] };
    let of = |channel: &Channel| {
        let (window, why) = of_grey_picture(channel);
        (channel.name.clone(), window, why)
    };
    channels.iter().map(of).collect()
}

/// A picture of more than 8 bits is read as values from 0 to 255, of which it may use a small part.
fn of_grey_picture(channel: &Channel) -> (Normalisation, String) {
    // Objects may cover little of a picture.
    let [low, high] = [channel.all[0].min(channel.inside[0]).floor(), channel.all[1].max(channel.inside[1]).ceil()];
    if high - low >= NARROW || high <= low {
        return (Normalisation::Window { low: 0.0, high: 255.0 }, "grey values from 0 to 255, as they are".into());
    }
    (Normalisation::Window { low, high }, format!("99 % of the grey values lie from {low:.0} to {high:.0}, of 255"))
}

fn of_volume(channel: &Channel) -> (Normalisation, String) {
    let ([inside_low, inside_high], [low, high]) = (channel.inside, channel.all);
    let is_ct = low <= AIR || channel.name.eq_ignore_ascii_case("ct");
    if is_ct {
        // At least soft tissue with its fat, so that the body ends at the skin; never the air around it.
        let margin = ((inside_high - inside_low) / 2.0).max(50.0);
        let [low, high] = [(inside_low - margin).clamp(AIR_AROUND, SOFT_TISSUE[0]), (inside_high + margin).max(SOFT_TISSUE[1])]
            .map(|v| (v / 10.0).round() * 10.0);
        let why =
            format!("Hounsfield units: 99 % of the labelled voxels lie from {inside_low:.0} to {inside_high:.0}; with soft tissue and fat");
        return (Normalisation::Window { low, high }, why);
    }
    if channel.has_clean_background && channel.zero >= BACKGROUND_MIN {
        let why = format!("{:.0} % of the voxels are 0: a clean background", 100.0 * channel.zero);
        return (Normalisation::ForegroundPercentile, why);
    }
    (
        Normalisation::ZScore,
        format!("no clean background: {:.0} % of the voxels are 0; values from {low:.3} to {high:.3}", 100.0 * channel.zero),
    )
}

fn outline(found: &Fingerprint, channels: &[(String, Normalisation, String)]) -> (bool, &'static str) {
    if !channels.first().is_some_and(|(_, normalisation, _)| normalisation.has_foreground()) {
        return (false, "the first channel does not separate foreground from background");
    }
    if found.unlabelled_foreground < BACKGROUND_MIN {
        return (false, "labels cover the foreground");
    }
    (true, "the outline of the foreground joins the condition: labels alone do not show where the body ends")
}

fn metrics(found: &Fingerprint, regions: usize) -> (&'static str, &'static str) {
    match (found.has_instances, found.kind, regions) {
        (true, ..) => ("[\"dice\", \"aji\"]", "overlap of all objects, and agreement object by object"),
        (_, ImageKind::Volumes, 1) => ("[\"dice\", \"sensitivity\", \"specificity\", \"hd95\"]", "as in the paper's Table 1; hd95 in mm"),
        (_, ImageKind::Volumes, _) => ("[\"dice\", \"hd95\"]", "overlap, and distance of the surfaces in mm"),
        (_, ImageKind::Pictures, 1) => ("[\"dice\", \"sensitivity\", \"specificity\"]", "overlap, and what is missed and added"),
        (_, ImageKind::Pictures, _) => ("[\"dice\"]", "overlap of each class"),
    }
}

/// The classes, each with its label.
fn classes(set: &DataSet, found: &Fingerprint) -> Vec<(String, Option<u32>)> {
    if found.has_instances {
        return vec![(if found.is_stained { "nucleus" } else { "object" }.into(), None)];
    }
    if set.labels.is_empty() {
        let named = |label: &u32| if found.labels.len() == 1 { "foreground".to_owned() } else { format!("label {label}") };
        return found.labels.keys().map(|label| (named(label), Some(*label))).collect();
    }
    set.labels
        .iter()
        .filter(|(label, _)| Some(**label) != set.ignore)
        .map(|(label, name)| (class_name(*label, name), Some(*label)))
        .collect()
}

/// A name without control characters, of at most 100 characters.
fn plain(name: &str) -> String {
    let kept: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
    kept.trim().to_owned()
}

/// The first class whose name has a side.
fn sided(set: &DataSet) -> Option<&str> {
    let is_side = |word: &str| word.eq_ignore_ascii_case("left") || word.eq_ignore_ascii_case("right");
    set.labels.values().map(String::as_str).find(|name| name.split(|c: char| !c.is_alphanumeric()).any(is_side))
}

/// The name of a class: that of its label, unless it is reserved or empty.
fn class_name(label: u32, name: &str) -> String {
    let name = plain(name);
    if name.is_empty() || matches!(name.as_str(), "background" | "ignore") { format!("label {label}") } else { name }
}

/// The regions that the data set describes, each with the names of its classes; the largest first.
fn regions(set: &DataSet, found: &Fingerprint) -> Vec<(String, Vec<String>)> {
    if found.has_instances {
        return Vec::new();
    }
    let mut regions: Vec<(String, Vec<String>)> = set
        .regions
        .iter()
        .map(|(region, labels)| {
            (plain(region), labels.iter().filter_map(|label| Some(class_name(*label, set.labels.get(label)?))).collect())
        })
        .collect();
    regions.sort_by_key(|(_, classes)| std::cmp::Reverse(classes.len()));
    regions
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::PathBuf};

    use asyndgan_medio::Layout;

    use super::{
        super::fingerprint::{Label, slice_axis},
        *,
    };
    use crate::task_file::TaskFile;

    fn set(labels: &[(u32, &str)], regions: &[(&str, &[u32])], ignore: Option<u32>) -> DataSet {
        DataSet {
            folder: PathBuf::from("folder"),
            layout: Layout::NnUnet,
            channels: vec!["a".into()],
            labels: labels.iter().map(|(label, name)| (*label, (*name).to_owned())).collect(),
            regions: regions.iter().map(|(name, labels)| ((*name).to_owned(), labels.to_vec())).collect(),
            ignore,
            layer: None,
            cases: Vec::new(),
            are_patients_known: false,
            skipped: Vec::new(),
        }
    }

    fn volumes(low: f32, zero: f64) -> Fingerprint {
        let channel = Channel { name: "a".into(), inside: [20.0, 180.0], all: [low, 900.0], zero, has_clean_background: low >= 0.0 };
        Fingerprint {
            kind: ImageKind::Volumes,
            cases: 30,
            read: 24,
            patients: 30,
            channels: vec![channel],
            is_coloured: false,
            is_stained: false,
            has_instances: false,
            labels: BTreeMap::from([(1, Label { cases: 20, share: 0.05, width: 20.0 }), (2, Label { cases: 3, share: 0.001, width: 3.0 })]),
            shape: [40, 256, 256],
            spacing_mm: [3.0, 0.8, 0.8],
            axis: SliceAxis::Axial,
            side_min: 256,
            unlabelled_foreground: 0.6,
        }
    }

    fn parsed(set: &DataSet, found: &Fingerprint, has_gpu: bool) -> (asyndgan_task::Task, asyndgan_paper::Settings) {
        let text = proposal("a \"b\"", set, found, has_gpu);
        let file = TaskFile::parse(&text).unwrap_or_else(|error| panic!("{error:#}\n{text}"));
        let run = file.run(None, &[]).unwrap_or_else(|error| panic!("{error:#}\n{text}"));
        for line in text.lines().filter(|line| line.contains('=')) {
            assert!(line.contains(" # "), "no reason: {line}");
        }
        (run.task.expect("a task"), run.settings)
    }

    #[test]
    fn computed_tomography_gets_a_window_around_its_labels() {
        let (task, settings) = parsed(&set(&[(1, "liver"), (2, "tumour")], &[], None), &volumes(-1000.0, 0.0), false);
        assert_eq!(task.channels[0].normalisation, Normalisation::Window { low: -160.0, high: 260.0 });
        assert!(task.outline && task.name == "a \"b\"");
        // The small class would be lost at 72 pixels.
        assert_eq!((settings.data.size, settings.data.crop), (144, 128));
    }

    #[test]
    fn magnetic_resonance_is_scaled_by_its_background() {
        let described = set(&[(1, "core"), (2, "oedema")], &[("core", &[1]), ("whole", &[1, 2])], Some(3));
        let (task, settings) = parsed(&described, &volumes(0.0, 0.4), true);
        assert_eq!(task.channels[0].normalisation, Normalisation::ForegroundPercentile);
        assert_eq!((task.region_names(), task.ignore), (vec!["whole", "core"], Some(3)));
        assert_eq!((settings.data.size, settings.data.crop), (286, 256));
        let (task, _) = parsed(&described, &volumes(0.0, 0.0), false);
        assert!(task.channels[0].normalisation == Normalisation::ZScore && !task.outline);
    }

    #[test]
    fn grey_pictures_of_more_than_8_bits_get_a_window() {
        let window = |all: [f32; 2], inside: [f32; 2]| {
            of_grey_picture(&Channel { name: "a".into(), inside, all, zero: 0.0, has_clean_background: true }).0
        };
        assert_eq!(window([2.0, 240.0], [90.0, 250.0]), Normalisation::Window { low: 0.0, high: 255.0 });
        assert_eq!(window([0.4, 15.5], [3.0, 15.9]), Normalisation::Window { low: 0.0, high: 16.0 });
        // Small bright objects on a dark background.
        assert_eq!(window([0.0, 10.0], [40.0, 200.0]), Normalisation::Window { low: 0.0, high: 255.0 });
        assert_eq!(window([7.0, 7.0], [7.0, 7.0]), Normalisation::Window { low: 0.0, high: 255.0 });
    }

    #[test]
    fn slices_are_cut_along_the_coarsest_axis() {
        for (spacing_mm, expected) in
            [([3.0, 1.0, 1.0], "axial"), ([1.0, 4.0, 1.0], "coronal"), ([1.0, 1.2, 2.0], "sagittal"), ([1.0; 3], "axial")]
        {
            let axis_of = slice_axis([40, 256, 256], spacing_mm);
            assert_eq!(axis(&Fingerprint { spacing_mm, axis: axis_of, ..volumes(0.0, 0.4) }).0, quoted(expected));
        }
    }

    #[test]
    fn pictures_of_any_size_get_a_scale_that_fits_the_smallest() {
        for side_min in [16, 40, 64, 100, 256, 565, 1000, 5000] {
            for width in [1.0, 5.0, 12.0, 100.0] {
                let labels = BTreeMap::from([(255, Label { cases: 24, share: 0.1, width })]);
                let found = Fingerprint { kind: ImageKind::Pictures, side_min, labels, ..volumes(0.0, 0.4) };
                for has_gpu in [false, true] {
                    let text = proposal("p", &set(&[], &[], None), &found, has_gpu);
                    let run = TaskFile::parse(&text).and_then(|file| file.run(None, &[]));
                    let settings = run.unwrap_or_else(|error| panic!("{side_min} {width}: {error:#}\n{text}")).settings;
                    assert!(
                        settings.data.size * settings.data.downsampling <= side_min,
                        "{side_min} {width}: {} x {}",
                        settings.data.size,
                        settings.data.downsampling
                    );
                }
            }
        }
    }
}

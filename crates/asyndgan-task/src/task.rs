pub(crate) mod check;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{IGNORED, Metric};

/// The kind of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImageKind {
    /// Volumes, which are cut into slices.
    Volumes,
    /// Pictures, which are cut into patches.
    Pictures,
}

/// The axis along which volumes are cut into slices, in the patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SliceAxis {
    /// From head to foot.
    #[default]
    Axial,
    /// From front to back.
    Coronal,
    /// From left to right.
    Sagittal,
}

impl SliceAxis {
    /// Axes of a volume `[z, y, x]` in the order slices, rows, columns.
    pub fn order(self) -> [usize; 3] {
        match self {
            SliceAxis::Axial => [0, 1, 2],
            SliceAxis::Coronal => [1, 0, 2],
            SliceAxis::Sagittal => [2, 0, 1],
        }
    }

    /// Axes of slices, rows and columns in the order `[z, y, x]`: the inverse of [`SliceAxis::order`].
    pub fn inverse_order(self) -> [usize; 3] {
        match self {
            SliceAxis::Axial => [0, 1, 2],
            SliceAxis::Coronal => [1, 0, 2],
            SliceAxis::Sagittal => [1, 2, 0],
        }
    }
}

/// The meaning of the numbers in a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LabelKind {
    /// Each number is a class.
    #[default]
    Classes,
    /// Each number is one object; all objects belong to the only class.
    Instances,
}

/// How the intensities of a channel are scaled to [-1, 1].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Normalisation {
    /// Background (0 and below) becomes -1, and the 99.5th percentile of the positive voxels becomes 1. For MR with a
    /// background of 0.
    ForegroundPercentile,
    /// The mean becomes 0, and three standard deviations become 1. For MR without a clean background.
    ZScore,
    /// A fixed range, such as a window of Hounsfield units in CT, or 0 to 255.
    Window {
        /// The value that becomes -1.
        low: f32,
        /// The value that becomes 1.
        high: f32,
    },
    /// Colours from 0 to 255, as they are.
    Rgb,
    /// Colours matched to a reference of haematoxylin and eosin; for all three channels together.
    Stain,
}

impl Normalisation {
    /// Whether a channel with this normalisation separates foreground from background by its values.
    pub fn has_foreground(self) -> bool {
        matches!(self, Self::ForegroundPercentile | Self::Window { .. })
    }
}

/// A channel of the images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// Its name in the data set.
    pub name: String,
    /// How its intensities are scaled.
    pub normalisation: Normalisation,
}

/// A class of pixels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// Its name.
    pub name: String,
    /// The numbers in a mask that belong to it; empty for instances, where every number but 0 does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<u32>,
}

/// A union of classes that is scored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// Its name in the table.
    pub name: String,
    /// Names of its classes.
    pub classes: Vec<String>,
}

/// A group of classes that the segmenter does not distinguish, because they belong to the same regions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Indices of its classes.
    pub classes: Vec<usize>,
    /// Indices of the regions that contain it.
    pub regions: Vec<usize>,
}

/// A segmentation task: what the images show, and how predictions are scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Task {
    /// Name, as tables and reports show it.
    pub name: String,
    /// Volumes or pictures.
    pub images: ImageKind,
    /// Axis along which volumes are cut into slices.
    #[serde(default)]
    pub axis: SliceAxis,
    /// Whether the numbers in a mask are classes or instances.
    #[serde(default)]
    pub labels: LabelKind,
    /// The number of a pixel that was not annotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignore: Option<u32>,
    /// Whether the outline of the body or organ joins the condition. The foreground is that of the first channel.
    #[serde(default)]
    pub outline: bool,
    /// Minimum number of marked pixels of a slice in training, on the original grid.
    #[serde(default = "ten")]
    pub marked_pixels_min: usize,
    /// Metrics of the table; empty: the usual ones for this kind of images and labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
    /// The channels of an image, in order.
    pub channels: Vec<Channel>,
    /// The classes, in order; background is not listed.
    pub classes: Vec<Class>,
    /// The regions that are scored; empty: each class is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<Region>,
}

fn ten() -> usize {
    10
}

/// A task that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The text is not a task.
    #[error("the text is not valid TOML, or not of the expected form")]
    Syntax(#[from] toml::de::Error),
    /// A field has a value that does not fit the others.
    #[error("{field}: {fact}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong, and what is valid.
        fact: String,
    },
}

impl Task {
    /// Reads a task from TOML and checks it.
    ///
    /// # Errors
    /// [`TaskError`].
    pub fn parse(text: &str) -> Result<Self, TaskError> {
        let task: Self = toml::from_str(text)?;
        task.check()?;
        Ok(task)
    }

    /// Whether the first channel separates foreground from background by its values.
    pub fn has_foreground(&self) -> bool {
        self.channels.first().is_some_and(|channel| channel.normalisation.has_foreground())
    }

    /// Number of classes in a condition, without the background: the classes of the task, and the outline.
    pub fn condition_classes(&self) -> u8 {
        self.classes.len() as u8 + u8::from(self.outline)
    }

    /// The condition code of the outline.
    pub fn outline_code(&self) -> Option<u8> {
        self.outline.then(|| self.condition_classes())
    }

    /// Whether a condition code is a class, not background, outline, or unannotated.
    pub fn is_class(&self, code: u8) -> bool {
        code > 0 && usize::from(code) <= self.classes.len()
    }

    /// The condition code of a number in a mask: 0 for background, [`IGNORED`] where not annotated; `None` for a number
    /// that the task does not describe.
    pub fn condition_code_of(&self, label: u32) -> Option<u8> {
        match label {
            0 => Some(0),
            _ if self.ignore == Some(label) => Some(IGNORED),
            _ if self.labels == LabelKind::Instances => Some(1),
            _ => self.classes.iter().position(|c| c.labels.contains(&label)).map(|class| class as u8 + 1),
        }
    }

    /// The number that stands for a class in a mask: the first of its labels.
    ///
    /// # Panics
    /// If there is no such class.
    pub fn label_of(&self, class: usize) -> u32 {
        self.classes[class].labels.first().copied().unwrap_or(1)
    }

    /// Names of the scored regions: the classes if no region is listed.
    pub fn region_names(&self) -> Vec<&str> {
        if self.regions.is_empty() {
            self.classes.iter().map(|c| c.name.as_str()).collect()
        } else {
            self.regions.iter().map(|r| r.name.as_str()).collect()
        }
    }

    /// Indices of the regions that contain a class.
    fn regions_of(&self, class: usize) -> Vec<usize> {
        if self.regions.is_empty() {
            return vec![class];
        }
        let name = &self.classes[class].name;
        (0..self.regions.len()).filter(|&r| self.regions[r].classes.contains(name)).collect()
    }

    /// Names of the regions that contain the class of a condition code.
    pub fn regions_of_code(&self, code: u8) -> Vec<&str> {
        if !self.is_class(code) {
            return Vec::new();
        }
        let names = self.region_names();
        self.regions_of(usize::from(code) - 1).into_iter().map(|r| names[r]).collect()
    }

    /// Whether the class of a condition code is part of a region, by the region's index.
    pub fn is_in_region(&self, code: u8, region: usize) -> bool {
        self.is_class(code) && self.regions_of(usize::from(code) - 1).contains(&region)
    }

    /// The groups of classes that a segmenter distinguishes, in order of their first class. Classes of no region are
    /// background to it.
    pub fn targets(&self) -> Vec<Target> {
        let mut targets: Vec<Target> = Vec::new();
        for class in 0..self.classes.len() {
            let regions = self.regions_of(class);
            match targets.iter_mut().find(|t| t.regions == regions) {
                Some(target) => target.classes.push(class),
                None if regions.is_empty() => {}
                None => targets.push(Target { classes: vec![class], regions }),
            }
        }
        targets
    }

    /// The metrics of the table, in order.
    pub fn table_metrics(&self) -> Vec<Metric> {
        match (self.images, self.labels) {
            _ if !self.metrics.is_empty() => self.metrics.clone(),
            (_, LabelKind::Instances) => vec![Metric::Dice, Metric::Aji],
            (ImageKind::Volumes, _) => vec![Metric::Dice, Metric::Sensitivity, Metric::Specificity, Metric::Hd95],
            (ImageKind::Pictures, _) => vec![Metric::Dice, Metric::Sensitivity, Metric::Specificity],
        }
    }

    /// Whether the images are stained tissue in colour.
    pub fn is_stained(&self) -> bool {
        self.channels.iter().any(|c| c.normalisation == Normalisation::Stain)
    }

    /// Whether the channels are the red, green and blue of a coloured picture.
    pub fn is_coloured(&self) -> bool {
        let is_colour = |c: &Channel| matches!(c.normalisation, Normalisation::Rgb | Normalisation::Stain);
        self.channels.len() == 3 && self.channels.iter().all(is_colour)
    }

    /// The task as TOML.
    ///
    /// # Panics
    /// Never: every task can be written.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("plain data")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brats() -> Task {
        Task::parse(
            r#"
            name = "brain tumour"
            images = "volumes"
            outline = true
            channels = [{ name = "t2", normalisation = "foreground_percentile" }]
            classes = [{ name = "necrosis", labels = [1] }, { name = "oedema", labels = [2] }, { name = "enhancing", labels = [3, 4] }]
            regions = [
                { name = "whole", classes = ["necrosis", "oedema", "enhancing"] },
                { name = "core", classes = ["necrosis", "enhancing"] },
                { name = "enhancing", classes = ["enhancing"] },
            ]
            "#,
        )
        .expect("a task")
    }

    #[test]
    fn nested_regions_give_one_target_each() {
        let targets = brats().targets();
        let found: Vec<(Vec<usize>, Vec<usize>)> = targets.into_iter().map(|t| (t.classes, t.regions)).collect();
        assert_eq!(found, [(vec![0], vec![0, 1]), (vec![1], vec![0]), (vec![2], vec![0, 1, 2])]);
        let whole = Task { regions: brats().regions[..1].to_vec(), ..brats() };
        assert_eq!(whole.targets(), [Target { classes: vec![0, 1, 2], regions: vec![0] }]);
        let none = Task { regions: Vec::new(), ..brats() };
        assert_eq!(none.targets().len(), 3);
        assert_eq!(none.region_names(), ["necrosis", "oedema", "enhancing"]);
    }

    #[test]
    fn every_region_has_its_columns_after_the_mean() {
        let task = Task { metrics: vec![Metric::Dice, Metric::Hd95], ..brats() };
        let names: Vec<String> = task.columns().into_iter().map(|c| c.name).collect();
        assert_eq!(names, ["dice", "whole dice", "whole hd95", "core dice", "core hd95", "enhancing dice", "enhancing hd95"]);
        let whole = Task { regions: task.regions[..1].to_vec(), ..task };
        assert_eq!(whole.columns().into_iter().map(|c| c.name).collect::<Vec<_>>(), ["dice", "hd95"]);
    }

    #[test]
    fn codes_follow_the_order_of_classes_and_the_outline_comes_last() {
        let task = Task { ignore: Some(9), ..brats() };
        let found = [0, 1, 2, 3, 4, 5, 9].map(|label| task.condition_code_of(label));
        assert_eq!(found, [Some(0), Some(1), Some(2), Some(3), Some(3), None, Some(IGNORED)]);
        assert_eq!((task.condition_classes(), task.outline_code()), (4, Some(4)));
        assert!(!task.is_class(4) && !task.is_class(0) && !task.is_class(IGNORED) && task.is_class(3));
    }

    #[test]
    fn a_task_is_read_as_it_was_written() {
        let task = brats();
        assert_eq!(Task::parse(&task.to_toml()), Ok(task));
    }

    #[test]
    fn inconsistent_tasks_are_refused_with_their_field() {
        let field = |task: Task| match task.check() {
            Err(TaskError::Field { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        let class = |labels: Vec<u32>| Class { name: "a".into(), labels };
        let window = |low, high| Channel { name: "ct".into(), normalisation: Normalisation::Window { low, high } };
        let stain = Channel { name: "red".into(), normalisation: Normalisation::Stain };
        assert_eq!(field(Task { name: "a\tb".into(), ..brats() }), "name");
        assert_eq!(field(Task { channels: Vec::new(), ..brats() }), "channels");
        assert_eq!(field(Task { channels: vec![window(1.0, 1.0)], ..brats() }), "channels");
        assert_eq!(field(Task { channels: vec![stain], outline: false, ..brats() }), "channels");
        assert_eq!(field(Task { classes: vec![class(vec![0])], regions: Vec::new(), ..brats() }), "classes");
        assert_eq!(field(Task { classes: vec![class(vec![1]), class(vec![2])], regions: Vec::new(), ..brats() }), "classes");
        assert_eq!(field(Task { ignore: Some(2), ..brats() }), "classes");
        assert_eq!(field(Task { ignore: Some(u32::MAX), ..brats() }), "classes");
        assert_eq!(
            field(Task { classes: vec![Class { name: "ignore".into(), labels: vec![1] }], regions: Vec::new(), ..brats() }),
            "classes"
        );
        assert_eq!(field(Task { regions: vec![Region { name: "x".into(), classes: vec!["none".into()] }], ..brats() }), "regions");
        assert_eq!(field(Task { metrics: vec![Metric::Aji], ..brats() }), "metrics");
        assert_eq!(field(Task { metrics: vec![Metric::Hd95, Metric::Dice], ..brats() }), "metrics");
        assert_eq!(field(Task { images: ImageKind::Pictures, ..brats() }), "outline");
        assert_eq!(field(Task { labels: LabelKind::Instances, ..brats() }), "classes");
    }
}

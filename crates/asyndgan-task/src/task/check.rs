//! Checks of a task.

use super::{ImageKind, LabelKind, Normalisation, Task, TaskError};
use crate::Metric;

/// Maximum number of channels and of classes.
const CHANNELS_MAX: usize = 8;
const CLASSES_MAX: usize = 32;
/// Maximum number of a class in a mask: masks of 16 bits can hold it, and the label of the outline above it.
const LABEL_MAX: u32 = 65_534;
/// Names that exported data sets use for other labels.
const RESERVED: [&str; 2] = ["background", "ignore"];

/// Whether a table, a report and a file can show this name.
pub(crate) fn is_name(name: &str) -> bool {
    !name.trim().is_empty() && !name.chars().any(char::is_control) && name.chars().count() <= 100
}

impl Task {
    /// Checks that the fields fit each other.
    ///
    /// # Errors
    /// [`TaskError::Field`].
    pub fn check(&self) -> Result<(), TaskError> {
        let wrong = |field, fact: String| Err(TaskError::Field { field, fact });
        let names = self.channels.iter().map(|c| &c.name).chain(self.classes.iter().map(|c| &c.name));
        if let Some(name) = names.chain(self.regions.iter().map(|r| &r.name)).chain([&self.name]).find(|name| !is_name(name)) {
            return wrong("name", format!("{name:?} is not a name: use 1 to 100 printable characters"));
        }
        if !(1..=CHANNELS_MAX).contains(&self.channels.len()) {
            return wrong("channels", format!("{} are listed; use 1 to {CHANNELS_MAX}", self.channels.len()));
        }
        if let Some(twice) = repeated(self.channels.iter().map(|c| c.name.to_lowercase())) {
            return wrong("channels", format!("{twice} is listed twice"));
        }
        let stained = self.channels.iter().filter(|c| c.normalisation == Normalisation::Stain).count();
        if stained > 0 && (stained != 3 || self.channels.len() != 3 || self.images != ImageKind::Pictures) {
            return wrong("channels", "stain normalisation needs pictures with red, green and blue, all three with `stain`".into());
        }
        for channel in &self.channels {
            if let Normalisation::Window { low, high } = channel.normalisation
                && !(low.is_finite() && high.is_finite() && low < high)
            {
                return wrong("channels", format!("{}: window from {low} to {high}; low must be below high", channel.name));
            }
        }
        self.check_classes()?;
        if self.outline && (self.images == ImageKind::Pictures || !self.has_foreground()) {
            return wrong(
                "outline",
                "needs volumes whose first channel has a background: foreground_percentile or window normalisation".into(),
            );
        }
        let (by_instance, instances) = (self.metrics.contains(&Metric::Aji), self.labels == LabelKind::Instances);
        if by_instance && !instances {
            return wrong("metrics", "aji needs labels = \"instances\"".into());
        }
        if !self.metrics.is_empty() && self.metrics[0] != Metric::Dice {
            return wrong("metrics", "dice must come first: arms are compared by it".into());
        }
        repeated(self.metrics.iter().map(|m| m.name())).map_or(Ok(()), |twice| wrong("metrics", format!("{twice} is listed twice")))
    }

    fn check_classes(&self) -> Result<(), TaskError> {
        let wrong = |field, fact: String| Err(TaskError::Field { field, fact });
        if !(1..=CLASSES_MAX).contains(&self.classes.len()) {
            return wrong("classes", format!("{} are listed; use 1 to {CLASSES_MAX}", self.classes.len()));
        }
        if let Some(twice) = repeated(self.classes.iter().map(|c| &c.name)) {
            return wrong("classes", format!("{twice} is listed twice"));
        }
        if let Some(name) = self.classes.iter().map(|c| &c.name).find(|name| RESERVED.contains(&name.as_str())) {
            return wrong("classes", format!("{name} is a reserved name; choose another"));
        }
        if let Some(label) = self.classes.iter().flat_map(|c| &c.labels).chain(&self.ignore).find(|label| **label > LABEL_MAX) {
            return wrong("classes", format!("label {label} is too large; use at most {LABEL_MAX}"));
        }
        if let Some(twice) = repeated(self.classes.iter().flat_map(|c| &c.labels)) {
            return wrong("classes", format!("label {twice} belongs to two classes"));
        }
        let is_valid = |label: &u32| *label > 0 && Some(*label) != self.ignore;
        if let Some(label) = self.classes.iter().flat_map(|c| &c.labels).find(|label| !is_valid(label)) {
            return wrong("classes", format!("label {label} is background or the ignore label"));
        }
        if self.ignore == Some(0) {
            return wrong("ignore", "0 is background".into());
        }
        match self.labels {
            LabelKind::Classes => {
                if let Some(class) = self.classes.iter().find(|c| c.labels.is_empty()) {
                    return wrong("classes", format!("{} has no labels", class.name));
                }
            }
            LabelKind::Instances => {
                if self.classes.len() != 1 || !self.classes[0].labels.is_empty() {
                    return wrong("classes", "instances need exactly one class, without labels".into());
                }
                if self.images == ImageKind::Volumes {
                    return wrong("labels", "instances are only supported in pictures".into());
                }
            }
        }
        if let Some(twice) = repeated(self.regions.iter().map(|r| &r.name)) {
            return wrong("regions", format!("{twice} is listed twice"));
        }
        for region in &self.regions {
            let known = |name: &String| self.classes.iter().any(|c| c.name == *name);
            if region.classes.is_empty() || !region.classes.iter().all(known) {
                let classes = self.classes.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
                return wrong("regions", format!("{} must list classes out of {classes}", region.name));
            }
        }
        Ok(())
    }
}

/// The first element that occurs twice.
fn repeated<T: PartialEq>(items: impl Iterator<Item = T>) -> Option<T> {
    let mut seen = Vec::new();
    for item in items {
        if seen.contains(&item) {
            return Some(item);
        }
        seen.push(item);
    }
    None
}

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Task;

/// The task and the scale of prepared images. Images of two sites fit together if both are the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageDescription {
    /// The task that the images were prepared for.
    pub task: Task,
    /// Factor by which pictures were downsampled first; 1 for volumes.
    pub downsampling: usize,
}

impl ImageDescription {
    /// Why images with another description do not fit these, if they do not. Names, metrics, regions and ignore labels
    /// may differ.
    pub fn mismatch(&self, other: &Self) -> Option<String> {
        let [ours, theirs] = [&self.task, &other.task];
        let differs = |what: &str, a: String, b: String| (a != b).then(|| format!("{what}: {a} and {b}"));
        let channels =
            |task: &Task| task.channels.iter().map(|c| format!("{} ({:?})", c.name, c.normalisation)).collect::<Vec<_>>().join(", ");
        let classes = |task: &Task| task.classes.iter().map(|c| format!("{} {:?}", c.name, c.labels)).collect::<Vec<_>>().join(", ");
        differs("kind of images", format!("{:?}", ours.images), format!("{:?}", theirs.images))
            .or_else(|| differs("channels", channels(ours), channels(theirs)))
            .or_else(|| differs("classes", classes(ours), classes(theirs)))
            .or_else(|| differs("labels", format!("{:?}", ours.labels), format!("{:?}", theirs.labels)))
            .or_else(|| differs("outline", ours.outline.to_string(), theirs.outline.to_string()))
            .or_else(|| differs("slice axis", format!("{:?}", ours.axis), format!("{:?}", theirs.axis)))
            .or_else(|| differs("downsampling", self.downsampling.to_string(), other.downsampling.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_that_matters_is_named() {
        let text = r#"
            name = "nuclei"
            images = "pictures"
            labels = "instances"
            channels = [{ name = "grey", normalisation = "rgb" }]
            classes = [{ name = "nucleus" }]
        "#;
        let of = |text: &str, downsampling| ImageDescription { task: Task::parse(text).expect("a task"), downsampling };
        let one = of(text, 1);
        assert_eq!(one.mismatch(&of(&text.replace("\"nuclei\"", "\"others\""), 1)), None);
        assert_eq!(one.mismatch(&of(text, 2)), Some("downsampling: 1 and 2".into()));
        let other = of(&text.replace("\"rgb\"", "\"z_score\""), 1);
        assert_eq!(one.mismatch(&other), Some("channels: grey (Rgb) and grey (ZScore)".into()));
    }
}

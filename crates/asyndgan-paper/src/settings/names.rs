//! Settings by name, as `--set`, task files and run records write them.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

use super::{InvalidSetting, Settings};
use crate::{Experiment, Profile};

/// The flat names of the first version, in its records and configuration files.
const FIRST_VERSION: [(&str, &str); 42] = [
    ("sites", "data.sites"),
    ("size", "data.size"),
    ("crop", "data.crop"),
    ("downsampling", "data.downsampling"),
    ("shrink", "data.downsampling"),
    ("flips", "data.flips"),
    ("quarter_turns", "data.quarter_turns"),
    ("phantoms_per_site", "data.phantoms_per_site"),
    ("phantoms_held_out", "data.phantoms_held_out"),
    ("generator_width", "generator.width"),
    ("generator_blocks", "generator.blocks"),
    ("batch_norm", "generator.batch_norm"),
    ("resize_convolution", "generator.resize_convolution"),
    ("noise_code", "generator.noise_code"),
    ("site_code", "generator.site_code"),
    ("guided", "generator.guided"),
    ("average_decay", "generator.average_decay"),
    ("discriminator_width", "discriminator.width"),
    ("spectral_norm", "discriminator.spectral_norm"),
    ("augmentation", "discriminator.augmentation"),
    ("learning_rate", "optimiser.generator_learning_rate"),
    ("discriminator_learning_rate", "optimiser.discriminator_learning_rate"),
    ("beta_1", "optimiser.beta_1"),
    ("beta_2", "optimiser.beta_2"),
    ("rounds", "protocol.rounds"),
    ("batch", "protocol.batch"),
    ("gan_loss", "protocol.gan_loss"),
    ("l1_weight", "protocol.l1_weight"),
    ("uniform_weights", "protocol.uniform_weights"),
    ("checkpoint_every", "protocol.checkpoint_every"),
    ("synthetic_per_condition", "synthesis.per_condition"),
    ("curve_points", "synthesis.curve_points"),
    ("segmenter_width", "segmenter.width"),
    ("segmenter_depth", "segmenter.depth"),
    ("segmenter_steps", "segmenter.steps"),
    ("segmenter_batch", "segmenter.batch"),
    ("segmenter_learning_rate", "segmenter.learning_rate"),
    ("colour_jitter", "segmenter.colour_jitter"),
    ("stain_jitter", "segmenter.stain_jitter"),
    ("bfloat16", "compute.bfloat16"),
    ("server_threads", "compute.server_threads"),
    ("site_threads", "compute.site_threads"),
];

/// The name of a setting as SECTION.NAME, from that or from its name in the first version.
fn full_name(name: &str) -> &str {
    FIRST_VERSION.iter().find(|(first, _)| *first == name).map_or(name, |(_, full)| full)
}

impl Serialize for Settings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Settings::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut sections: Map<String, Value> = Map::new();
        let changes = Settings::changes(Map::deserialize(deserializer)?);
        if let Some(name) = Settings::repeated(changes.iter().map(|(name, _)| name.as_str())) {
            return Err(de::Error::custom(format!("{name} is set twice")));
        }
        for (name, value) in changes {
            let (section, field) = full_name(&name).split_once('.').ok_or_else(|| de::Error::custom(format!("unknown setting {name}")))?;
            let section = sections.entry(section).or_insert_with(|| Map::new().into());
            section.as_object_mut().map(|fields| fields.insert(field.into(), value));
        }
        Settings::deserialize(Value::Object(sections)).map_err(de::Error::custom)
    }
}

impl Settings {
    /// The names of all sections.
    pub const SECTIONS: [&str; 10] =
        ["data", "generator", "discriminator", "optimiser", "protocol", "synthesis", "segmenter", "compute", "privacy", "federated"];

    /// Every setting as SECTION.NAME, with its value.
    pub fn plain(&self) -> Map<String, Value> {
        // By way of text, in which a 32-bit float is as short as it was written.
        let text = serde_json::to_string(self).unwrap_or_default();
        Self::changes(serde_json::from_str(&text).unwrap_or_default()).into_iter().collect()
    }

    /// The full name of every setting and its documentation as one line, in order.
    pub fn documentation() -> Vec<(String, String)> {
        let of = Self::new(Experiment::Table2, Profile::Desk);
        [
            documented("data", &of.data),
            documented("generator", &of.generator),
            documented("discriminator", &of.discriminator),
            documented("optimiser", &of.optimiser),
            documented("protocol", &of.protocol),
            documented("synthesis", &of.synthesis),
            documented("segmenter", &of.segmenter),
            documented("compute", &of.compute),
            documented("privacy", &of.privacy),
            documented("federated", &of.federated),
        ]
        .concat()
    }

    /// Whether a setting exists: as SECTION.NAME, or by its name in the first version.
    ///
    /// # Example
    /// ```
    /// use asyndgan_paper::Settings;
    /// assert!(Settings::exists("protocol.rounds") && Settings::exists("rounds") && !Settings::exists("protocol.round"));
    /// ```
    pub fn exists(name: &str) -> bool {
        Self::new(Experiment::Table2, Profile::Desk).plain().contains_key(full_name(name))
    }

    /// Checks that a setting exists.
    ///
    /// # Errors
    /// [`InvalidSetting`] with the names of the section.
    pub fn check_name(name: &str) -> Result<(), InvalidSetting> {
        if Self::exists(name) { Ok(()) } else { Err(unknown(name)) }
    }

    /// The changes that a configuration file makes: a section for each concern, or names as `--set` takes them.
    pub fn changes(table: Map<String, Value>) -> Vec<(String, Value)> {
        let of = |(name, value): (String, Value)| match value {
            Value::Object(fields) => fields.into_iter().map(|(field, value)| (format!("{name}.{field}"), value)).collect(),
            value => vec![(name, value)],
        };
        table.into_iter().flat_map(of).collect()
    }

    /// A setting that several of these names mean, as SECTION.NAME.
    pub fn repeated<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
        let mut full: Vec<&str> = names.into_iter().map(full_name).collect();
        full.sort_unstable();
        full.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
    }

    /// Parses a change of the form `SECTION.NAME=VALUE`; words need no quotes.
    ///
    /// # Errors
    /// [`InvalidSetting`] when there is no `=`.
    pub fn change(text: &str) -> Result<(String, Value), InvalidSetting> {
        let (name, value) = text.split_once('=').ok_or_else(|| InvalidSetting(format!("{text} has no =; use SECTION.NAME=VALUE")))?;
        Ok((name.trim().into(), serde_json::from_str(value.trim()).unwrap_or_else(|_| value.trim().into())))
    }

    /// These settings with some of them replaced, by name.
    ///
    /// # Errors
    /// [`InvalidSetting`].
    ///
    /// # Example
    /// ```
    /// use asyndgan_paper::{Experiment, Profile, Settings};
    /// let desk = Settings::new(Experiment::Table2, Profile::Desk);
    /// assert_eq!(desk.with(Experiment::Table2, [("protocol.rounds", 7.into())])?.protocol.rounds, 7);
    /// for wrong in [("protocol.round", 7.into()), ("protocol.rounds", "many".into()), ("data.crop", 66.into())] {
    ///     assert!(desk.with(Experiment::Table2, [wrong]).is_err());
    /// }
    /// # Ok::<(), asyndgan_paper::InvalidSetting>(())
    /// ```
    pub fn with<'a>(&self, experiment: Experiment, changes: impl IntoIterator<Item = (&'a str, Value)>) -> Result<Self, InvalidSetting> {
        let mut settings = self.clone();
        for (name, value) in changes {
            let mut all = serde_json::to_value(&settings).map_err(|error| InvalidSetting(error.to_string()))?;
            let place = full_name(name).split_once('.').and_then(|(section, field)| all.get_mut(section)?.get_mut(field));
            let Some(place) = place else { return Err(unknown(name)) };
            let change = format!("{name} = {value}");
            *place = value;
            settings = serde_json::from_value(all).map_err(|error| InvalidSetting(format!("{change}: {error}")))?;
        }
        settings.check(experiment)?;
        Ok(settings)
    }
}

/// Names the settings of the same section, or the sections.
fn unknown(name: &str) -> InvalidSetting {
    let all = Settings::documentation();
    let mut sections: Vec<&str> = all.iter().filter_map(|(name, _)| name.split('.').next()).collect();
    sections.dedup();
    let section = name.split('.').next().filter(|section| name.contains('.') && sections.contains(section));
    let valid = match section {
        Some(section) => {
            let fields: Vec<&str> = all.iter().filter_map(|(name, _)| name.strip_prefix(section)?.strip_prefix('.')).collect();
            format!("{section} has {}", fields.join(", "))
        }
        None => format!("use SECTION.NAME; the sections are {}", sections.join(", ")),
    };
    InvalidSetting(format!("unknown setting {name}; {valid}"))
}

/// The full names of a section and their documentation, in the order in which they are declared.
fn documented<T: JsonSchema + Serialize>(section: &str, of: &T) -> Vec<(String, String)> {
    let schema = schemars::schema_for!(T);
    let text = |value: &Value| value.as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    let properties = schema.get("properties").and_then(Value::as_object);
    // A schema may not keep the order.
    let declared = serde_json::to_string(of).unwrap_or_default();
    let mut fields: Vec<(&String, String)> = properties.into_iter().flatten().map(|(name, of)| (name, text(&of["description"]))).collect();
    fields.sort_by_key(|(name, _)| declared.find(&format!("\"{name}\":")));
    fields.into_iter().map(|(name, text)| (format!("{section}.{name}"), text)).collect()
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "values are read as they were written")]
mod tests {
    use super::*;

    #[test]
    fn records_of_the_first_version_are_read() {
        let now = Settings::new(Experiment::Table2, Profile::Desk);
        let by_full_name = now.plain();
        let flat: Map<String, Value> = FIRST_VERSION
            .iter()
            .filter(|(first, _)| !["downsampling", "flips"].contains(first))
            .map(|(first, full)| ((*first).to_owned(), by_full_name[*full].clone()))
            .collect();
        assert_eq!(serde_json::from_value::<Settings>(flat.clone().into()).expect("flat settings"), now);
        let nested = serde_json::to_value(&now).expect("JSON");
        assert_eq!(serde_json::from_value::<Settings>(nested).expect("settings in sections"), now);
        for (name, wrong) in [("no_such", Value::from(1)), ("data", Value::from(1))] {
            let mut with_unknown = flat.clone();
            with_unknown.insert(name.into(), wrong);
            assert!(serde_json::from_value::<Settings>(with_unknown.into()).is_err(), "{name}");
        }
    }

    /// As written by the first version, with other values than those of any profile.
    const FIRST: &str = r#"{"sites": 3, "size": 80, "crop": 48, "shrink": 5, "generator_width": 6, "generator_blocks": 7,
        "discriminator_width": 8, "batch_norm": true, "resize_convolution": false, "noise_code": 9, "site_code": false,
        "spectral_norm": true, "gan_loss": "hinge", "augmentation": 0.25, "average_decay": 0.5, "guided": false, "bfloat16": true,
        "quarter_turns": true, "learning_rate": 0.001, "discriminator_learning_rate": 0.002, "beta_1": 0.3, "beta_2": 0.4,
        "rounds": 10, "batch": 11, "uniform_weights": true, "l1_weight": 12.0, "checkpoint_every": 13,
        "synthetic_per_condition": 14, "curve_points": 15, "segmenter_width": 17, "segmenter_depth": 2, "segmenter_steps": 18,
        "segmenter_batch": 19, "segmenter_learning_rate": 0.003, "colour_jitter": 0.5, "stain_jitter": 0.75,
        "phantoms_per_site": 20, "phantoms_held_out": 21, "server_threads": 22, "site_threads": 23}"#;

    #[test]
    fn every_value_of_the_first_version_goes_to_its_setting() {
        let read: Settings = serde_json::from_str(FIRST).expect("a record");
        let Settings { data, generator, discriminator, optimiser, protocol, synthesis, segmenter, compute, privacy, federated } = read;
        assert_eq!((privacy, federated), Default::default());
        assert_eq!((data.sites, data.size, data.crop, data.downsampling, data.quarter_turns, data.flips), (3, 80, 48, 5, true, true));
        assert_eq!((data.phantoms_per_site, data.phantoms_held_out), (20, 21));
        assert_eq!((generator.width, generator.blocks, generator.noise_code), (6, 7, 9));
        assert!(generator.batch_norm && !generator.resize_convolution && !generator.site_code && !generator.guided);
        assert_eq!((discriminator.width, discriminator.spectral_norm, discriminator.augmentation), (8, true, 0.25));
        let rates = (optimiser.generator_learning_rate, optimiser.discriminator_learning_rate, optimiser.beta_1, optimiser.beta_2);
        assert_eq!((rates, generator.average_decay), ((0.001, 0.002, 0.3, 0.4), 0.5));
        assert_eq!((protocol.rounds, protocol.batch, protocol.checkpoint_every), (10, 11, 13));
        assert_eq!((protocol.gan_loss, protocol.l1_weight, protocol.uniform_weights), (crate::GanLossSetting::Hinge, 12.0, true));
        assert_eq!((synthesis.per_condition, synthesis.curve_points), (14, 15));
        assert_eq!((segmenter.width, segmenter.depth, segmenter.steps, segmenter.batch), (17, 2, 18, 19));
        assert_eq!((segmenter.learning_rate, segmenter.colour_jitter, segmenter.stain_jitter), (0.003, 0.5, 0.75));
        assert_eq!((compute.bfloat16, compute.server_threads, compute.site_threads), (true, 22, 23));
        let twice = FIRST.replace("\"rounds\": 10", "\"rounds\": 10, \"protocol\": {\"rounds\": 9}");
        assert!(serde_json::from_str::<Settings>(&twice).is_err());
    }

    #[test]
    fn every_name_of_the_first_version_is_that_of_a_setting() {
        let names = Settings::new(Experiment::Table2, Profile::Desk).plain();
        assert!(FIRST_VERSION.iter().all(|(_, full)| names.contains_key(*full)));
        let is_later = |name: &String| {
            name.starts_with("privacy.")
                || name.starts_with("federated.")
                || ["segmenter.own_share", "synthesis.whole"].contains(&name.as_str())
        };
        assert!(names.keys().all(|name| is_later(name) || FIRST_VERSION.iter().any(|(_, full)| full == name)));
    }
}

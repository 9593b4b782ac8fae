//! How the cases of a data set are split across sites.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Task, TaskError, task::check::is_name};

/// The cases of each site, and the held-out cases.
///
/// # Example
/// ```
/// let lists = asyndgan_task::SiteLists::parse(
///     r#"
///     north = ["case_1", "case_2"]
///     test = ["case_4"]
///     [south]
///     cases = ["case_3"]
///     without_channels = ["FLAIR"]
///     "#,
/// )?;
/// assert_eq!(lists.sites[1].absent.channels, ["FLAIR"]);
/// # Ok::<(), asyndgan_task::TaskError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SiteLists {
    /// The sites, in order.
    pub sites: Vec<SiteList>,
    /// Names of the held-out cases.
    pub test: Vec<String>,
    /// The lists that the held-out cases come from, if there are several: they are scored separately as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub test_groups: Vec<TestGroup>,
}

/// A list of held-out cases, such as those of an organ or a scanner that no site has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestGroup {
    /// The list's name.
    pub name: String,
    /// Names of its cases.
    pub cases: Vec<String>,
}

/// The cases of one site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteList {
    /// The site's name.
    pub name: String,
    /// Names of its cases.
    pub cases: Vec<String>,
    /// The parts of the task that the site does not have.
    #[serde(default, skip_serializing_if = "Absent::is_none")]
    pub absent: Absent,
}

/// The parts of a task that a site does not have.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Absent {
    /// Names of channels that its images do not have.
    #[serde(default, rename = "without_channels", skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<String>,
    /// Names of classes that its masks do not mark. Pixels of such a class and background pixels count as not
    /// annotated.
    #[serde(default, rename = "without_classes", skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
}

impl Absent {
    /// Nothing is absent.
    pub fn none() -> &'static Self {
        static NONE: Absent = Absent { channels: Vec::new(), classes: Vec::new() };
        &NONE
    }

    /// Whether nothing is absent.
    pub fn is_none(&self) -> bool {
        self.channels.is_empty() && self.classes.is_empty()
    }

    /// What is absent here or there.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let all = |own: &[String], others: &[String]| {
            own.iter().chain(others.iter().filter(|name| !own.contains(name))).cloned().collect::<Vec<_>>()
        };
        Self { channels: all(&self.channels, &other.channels), classes: all(&self.classes, &other.classes) }
    }

    /// Whether the channel with this index in a task is absent.
    ///
    /// # Panics
    /// If the task has no such channel.
    pub fn is_channel_absent(&self, task: &Task, channel: usize) -> bool {
        self.channels.iter().any(|name| name.eq_ignore_ascii_case(&task.channels[channel].name))
    }

    /// Checks that a task has these channels and classes, and others.
    ///
    /// # Errors
    /// [`TaskError::Field`].
    pub fn check(&self, task: &Task) -> Result<(), TaskError> {
        let wrong = |field, fact: String| Err(TaskError::Field { field, fact });
        let is_channel = |name: &&String| task.channels.iter().any(|channel| channel.name.eq_ignore_ascii_case(name));
        if let Some(name) = self.channels.iter().find(|name| !is_channel(name)) {
            return wrong(
                "without_channels",
                format!("{name} is not a channel of the task; its channels are {}", listed(task.channels.iter().map(|c| &c.name))),
            );
        }
        if (0..task.channels.len()).all(|channel| self.is_channel_absent(task, channel)) {
            return wrong("without_channels", "all channels are absent; a site needs at least one".into());
        }
        if let Some(name) = self.classes.iter().find(|name| !task.classes.iter().any(|class| class.name == **name)) {
            return wrong(
                "without_classes",
                format!("{name} is not a class of the task; its classes are {}", listed(task.classes.iter().map(|c| &c.name))),
            );
        }
        if task.classes.iter().all(|class| self.classes.contains(&class.name)) {
            return wrong("without_classes", "all classes are absent; a site needs at least one".into());
        }
        let has_foreground = |k: usize| !self.is_channel_absent(task, k) && task.channels[k].normalisation.has_foreground();
        if task.outline && !(0..task.channels.len()).any(has_foreground) {
            return wrong("without_channels", "no channel is left that separates foreground from background for the outline".into());
        }
        Ok(())
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// A site in the text: its cases alone, or with what it does not have.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Cases(Vec<String>),
    Site(Site),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Site {
    cases: Vec<String>,
    #[serde(default)]
    without_channels: Vec<String>,
    #[serde(default)]
    without_classes: Vec<String>,
}

impl SiteLists {
    /// Checks that the task has what sites lack, and that one site lacks no class: else no site marks background.
    ///
    /// # Errors
    /// [`TaskError::Field`].
    pub fn check(&self, task: &Task) -> Result<(), TaskError> {
        for site in &self.sites {
            site.absent.check(task).map_err(|error| match error {
                TaskError::Field { field, fact } => TaskError::Field { field, fact: format!("site {}: {fact}", site.name) },
                other => other,
            })?;
        }
        if !self.sites.is_empty() && self.sites.iter().all(|site| !site.absent.classes.is_empty()) {
            let fact = "every site lacks a class, so no site marks background; one site must mark all classes";
            return Err(TaskError::Field { field: "sites", fact: fact.into() });
        }
        Ok(())
    }

    /// What the site of a case does not have.
    pub fn absent(&self, case: &str) -> &Absent {
        let site = self.sites.iter().find(|site| site.cases.iter().any(|name| name == case));
        site.map_or(Absent::none(), |site| &site.absent)
    }

    /// Reads lists from TOML. Keys that begin with `test` are held out, and are groups if there are several; the others
    /// are sites in the order of the text.
    ///
    /// # Errors
    /// [`TaskError::Syntax`], or [`TaskError::Field`] if a case is listed twice.
    pub fn parse(text: &str) -> Result<Self, TaskError> {
        let wrong = |fact: String| TaskError::Field { field: "sites", fact };
        let table: toml::Table = text.parse()?;
        let (mut seen, mut lists) = (BTreeMap::new(), Self::default());
        for (key, value) in table {
            if !is_name(&key) {
                return Err(wrong(format!("{key:?} is not a name: use 1 to 100 printable characters")));
            }
            let expected = |error: toml::de::Error| {
                let fact = error.message();
                wrong(format!("{key} is neither a list of cases nor a table with cases, without_channels and without_classes: {fact}"))
            };
            let (cases, absent) = match value.try_into().map_err(expected)? {
                Entry::Cases(cases) => (cases, Absent::default()),
                Entry::Site(Site { cases, without_channels: channels, without_classes: classes }) => (cases, Absent { channels, classes }),
            };
            for name in &cases {
                if let Some(other) = seen.insert(name.clone(), key.clone()) {
                    return Err(wrong(format!("{name} appears in {other} and in {key}")));
                }
            }
            if !key.starts_with("test") {
                lists.sites.push(SiteList { name: key, cases, absent });
            } else if absent.is_none() {
                lists.test.extend(cases.iter().cloned());
                lists.test_groups.push(TestGroup { name: key, cases });
            } else {
                return Err(wrong(format!("{key} is held out, and must have all channels and classes")));
            }
        }
        if lists.test_groups.len() < 2 {
            lists.test_groups.clear();
        }
        Ok(lists)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_keep_their_order_and_say_what_they_lack() {
        let text = "z = [\"1\"]\ntest = [\"2\"]\ntest_b = [\"3\"]\n[a]\ncases = [\"4\"]\nwithout_classes = [\"oedema\"]\n";
        let lists = SiteLists::parse(text).expect("lists");
        assert_eq!(lists.sites.iter().map(|site| site.name.as_str()).collect::<Vec<_>>(), ["z", "a"]);
        assert_eq!((&lists.test[..], &lists.sites[1].absent.classes[..]), (&["2".to_owned(), "3".into()][..], &["oedema".to_owned()][..]));
        let group = |name: &str, case: &str| TestGroup { name: name.into(), cases: vec![case.into()] };
        assert_eq!(lists.test_groups, [group("test", "2"), group("test_b", "3")]);
        assert!(SiteLists::parse("a = [\"1\"]\ntest = [\"2\"]").expect("lists").test_groups.is_empty());
        let json = serde_json::to_string(&lists).expect("text");
        assert_eq!(serde_json::from_str::<SiteLists>(&json).expect("the same"), lists);
    }

    #[test]
    fn wrong_lists_are_refused() {
        for text in
            ["a = [\"x\"]\ntest = [\"x\"]", "a = 3", "[a]\ncases = []\nwithout = []", "[test]\ncases = []\nwithout_classes = [\"b\"]"]
        {
            assert!(matches!(SiteLists::parse(text), Err(TaskError::Field { field: "sites", .. })), "{text}");
        }
    }
}

//! Learning curves, written to disk as they grow: CSV for spreadsheets, and event files for `TensorBoard`.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Error, Result};
use asyndgan_training::ServerTrainer;
use asyndgan_transport::ServerRunEvent;
use prost::Message as _;

/// Named values, one row per step.
pub(crate) struct Curves {
    path: PathBuf,
    names: Vec<String>,
    csv: fs::File,
    events: fs::File,
}

impl Curves {
    /// Starts `NAME.csv` with the existing rows, and a new event file in `NAME-events`; event files of earlier starts
    /// are kept.
    pub(crate) fn begin<E: Into<Error>>(
        folder: &Path,
        name: &str,
        step: &str,
        names: Vec<String>,
        rows: impl IntoIterator<Item = Result<(u64, Vec<f32>), E>>,
    ) -> Result<Self> {
        let path = folder.join(format!("{name}.csv"));
        let place = folder.join(format!("{name}-events"));
        let open = || -> std::io::Result<(fs::File, fs::File)> {
            fs::create_dir_all(&place)?;
            // The name that TensorBoard looks for.
            let events = place.join(format!("events.out.tfevents.{:.6}", seconds()));
            Ok((fs::File::create(&path)?, fs::File::create(events)?))
        };
        let (csv, events) = open().with_context(|| format!("cannot write {}", path.display()))?;
        let mut curves = Self { path, names, csv, events };
        curves.record(&Event { wall_time: seconds(), step: 0, file_version: Some("brain.Event:2".into()), summary: None })?;
        let header = format!("{step},{}\n", curves.names.join(","));
        curves.write_csv(&header)?;
        for row in rows {
            let (step, values) = row.map_err(Into::into)?;
            curves.write_csv(&csv_row(step, &values))?;
        }
        Ok(curves)
    }

    /// Adds a row; a missing value is NaN.
    pub(crate) fn add(&mut self, step: u64, values: &[f32]) -> Result<()> {
        self.write_csv(&csv_row(step, values))?;
        let value = self.names.iter().zip(values).filter(|(_, v)| v.is_finite());
        let value = value.map(|(name, &v)| Value { tag: name.clone(), simple_value: Some(v) }).collect();
        self.record(&Event { wall_time: seconds(), step: step as i64, file_version: None, summary: Some(Summary { value }) })
    }

    fn write_csv(&mut self, text: &str) -> Result<()> {
        self.csv.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn record(&mut self, event: &Event) -> Result<()> {
        self.events.write_all(&framed(event)).with_context(|| format!("cannot write the event file next to {}", self.path.display()))
    }
}

/// Loss curves, written to disk as they grow.
pub(crate) struct LossCurves {
    place: PathBuf,
    curves: Option<Curves>,
}

impl LossCurves {
    pub(crate) fn new(place: &Path) -> Self {
        Self { place: place.into(), curves: None }
    }

    /// Handles the start or resumption of a run, and every round.
    pub(crate) fn on_event(&mut self, news: &ServerRunEvent, server: &ServerTrainer) -> Result<()> {
        match news {
            ServerRunEvent::Begun { .. } => {
                let all = |site: usize| ["discriminator", "generator", "feedback_norm"].map(|value| format!("{value}/site-{site}"));
                let names = (1..=server.sites() as usize).flat_map(all).collect();
                let rows = (0..).zip(server.answers()?).map(|(round, row)| Ok::<_, Error>((round, row?)));
                self.curves = Some(Curves::begin(&self.place, "losses", "round", names, rows)?);
            }
            ServerRunEvent::Round { rounds_done, .. } => {
                if let (Some(curves), Some(last)) = (&mut self.curves, server.last_answers()) {
                    curves.add(rounds_done - 1, last)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn csv_row(step: u64, values: &[f32]) -> String {
    let cell = |v: &f32| if v.is_finite() { v.to_string() } else { String::new() };
    format!("{step},{}\n", values.iter().map(cell).collect::<Vec<_>>().join(","))
}

/// The contents of a CSV written by [`Curves`].
pub(crate) struct Recorded {
    pub(crate) names: Vec<String>,
    /// Step and values.
    pub(crate) rows: Vec<(f64, Vec<Option<f64>>)>,
}

/// Reads a CSV written by [`Curves`].
pub(crate) fn read_csv(path: &Path) -> Result<Recorded> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut lines = text.lines();
    let names = lines.next().unwrap_or_default().split(',').skip(1).map(str::to_owned).collect();
    let row = |line: &str| {
        let mut cells = line.split(',').map(|cell| cell.parse().ok());
        Some((cells.next()??, cells.collect()))
    };
    Ok(Recorded { names, rows: lines.filter_map(row).collect() })
}

#[allow(clippy::disallowed_methods, reason = "the binary may look at the clock")]
fn seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// Length and content, each with its checksum: the frame of a `TFRecord`.
fn framed(event: &Event) -> Vec<u8> {
    let content = event.encode_to_vec();
    let length = (content.len() as u64).to_le_bytes();
    [&length[..], &masked_crc(&length), &content, &masked_crc(&content)].concat()
}

/// CRC-32C, turned and shifted so that a checksum of checksums is sound.
fn masked_crc(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// The parts of `tensorflow.Event` that scalars need.
#[derive(Clone, PartialEq, prost::Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_byte_for_byte_what_tensorboard_writes() {
        let value = vec![Value { tag: "a/b".into(), simple_value: Some(0.25) }];
        let event = Event { wall_time: 1.5, step: 7, file_version: None, summary: Some(Summary { value }) };
        // RecordWriter of tensorboard 2.21.0, given the same event.
        let golden = "19000000000000008bf1082809000000000000f83f10072a0c0a0a0a03612f62150000803e6b4dbd8e";
        assert_eq!(asyndgan_protocol::hex(&framed(&event)), golden);
    }
}

use crate::{Metric, Task};

/// A column of a table: one metric of one region, or the mean Dice over all regions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name in records: the metric, after the region's name if there are several.
    pub name: String,
    /// The metric.
    pub metric: Metric,
    /// The index of the region; `None` for the mean over all regions.
    pub region: Option<usize>,
}

impl Task {
    /// The columns of the table, in order. The first is the one by which arms are compared: Dice, or its mean over
    /// regions.
    pub fn columns(&self) -> Vec<Column> {
        let (regions, metrics) = (self.region_names(), self.table_metrics());
        if regions.len() == 1 {
            return metrics.into_iter().map(|metric| Column { name: metric.name().into(), metric, region: Some(0) }).collect();
        }
        let of_region = |(region, name): (usize, &&str)| {
            let column = move |metric: Metric| Column { name: format!("{name} {metric}"), metric, region: Some(region) };
            metrics.iter().copied().map(column).collect::<Vec<_>>()
        };
        let mean = Column { name: Metric::Dice.name().into(), metric: Metric::Dice, region: None };
        std::iter::once(mean).chain(regions.iter().enumerate().flat_map(of_region)).collect()
    }
}

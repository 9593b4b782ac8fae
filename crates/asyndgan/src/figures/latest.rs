use std::path::Path;

use anyhow::Result;
use asyndgan_task::Task;
use asyndgan_training::ServerTrainer;

use super::canvas::{Canvas, of_image};
use crate::tensors::image;

const ROWS: usize = 3;

/// The latest synthetic images of every site, one column per site; of several grey channels, the first.
pub(crate) fn latest(path: &Path, task: &Task, names: &[String], trainer: &ServerTrainer) -> Result<()> {
    let rows = trainer.latest().map(|(_, images)| images.size()[0] as usize).max().unwrap_or(0).min(ROWS);
    let mut canvas = Canvas::new(names.to_vec(), rows);
    for (site, images) in trainer.latest() {
        for row in 0..rows.min(images.size()[0] as usize) {
            let one = images.get(row as i64).detach().to_device(tch::Device::Cpu);
            canvas.put_all(row, site.0 as usize, &of_image(task, image(&one).view())[..1]);
        }
    }
    canvas.save(path)
}

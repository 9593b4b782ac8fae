use asyndgan_models::{Generator, Noise, set_threads};
use asyndgan_protocol::{SiteId, Stream};
use rayon::{ThreadPool, ThreadPoolBuilder, prelude::*};
use tch::{Kind, Tensor};

use crate::Error;

/// The generator's passes, distributed over threads by site.
///
/// One thread per operation wastes less than several, because no thread waits for others within an operation. A site
/// always uses the same lane, and gradients are added lane by lane, so the bits of the result depend only on the number
/// of lanes.
#[derive(Debug)]
pub(crate) struct Lanes {
    /// `None` if a single lane does all the work, on the caller's thread.
    pool: Option<ThreadPool>,
    count: usize,
}

/// One site's part of a pass.
pub(crate) struct Part {
    pub(crate) planes: Tensor,
    /// The stream of its noise.
    pub(crate) stream: Stream,
    /// The site whose centre the code of its images is drawn around, if any.
    pub(crate) site: Option<u32>,
}

impl Lanes {
    /// At most `count` lanes, which share the threads.
    ///
    /// # Errors
    /// [`Error::Threads`].
    pub(crate) fn new(count: u32, threads: u32) -> Result<Self, Error> {
        let count = count.min(threads).max(1);
        let each = (threads / count).max(1);
        let start = || ThreadPoolBuilder::new().num_threads(count as usize).start_handler(move |_| set_threads(each)).build();
        let pool = (count > 1).then(start).transpose().map_err(|source| Error::Threads { threads: count, source })?;
        Ok(Self { pool, count: count as usize })
    }

    /// Distributes the parts of sites over the lanes; sites stay in order.
    ///
    /// # Panics
    /// If a site is not one of the `sites` sites.
    pub(crate) fn share_out<T>(&self, sites: u32, parts: impl IntoIterator<Item = (SiteId, T)>) -> Vec<Vec<T>> {
        let mut lanes: Vec<Vec<T>> = (0..self.count).map(|_| Vec::new()).collect();
        for (site, part) in parts {
            lanes[site.0 as usize * self.count / sites as usize].push(part);
        }
        lanes
    }

    /// Runs the job of every lane, and returns the results in order.
    fn each<J: Send, R: Send>(&self, jobs: Vec<J>, work: impl Fn(J) -> R + Send + Sync) -> Vec<R> {
        match &self.pool {
            Some(pool) => pool.install(|| jobs.into_par_iter().map(work).collect()),
            None => jobs.into_iter().map(work).collect(),
        }
    }

    /// Synthetic images of each site, with the graph that leads back to the generator.
    ///
    /// `joined` selects whether the sites of a lane go through in one pass; samples do not affect each other except
    /// under batch norm.
    pub(crate) fn forward(&self, generator: &Generator, lanes: Vec<Vec<Part>>, joined: bool) -> Vec<Tensor> {
        let jobs: Vec<_> = lanes.into_iter().filter(|l| !l.is_empty()).map(|parts| (generator.shared(), parts)).collect();
        let one = |(generator, parts): (Generator, Vec<Part>)| -> Vec<Tensor> {
            let forward = |planes: &Tensor, mut noise| generator.forward(planes, &mut noise).to_kind(Kind::Float);
            if !joined {
                return parts.into_iter().map(|part| forward(&part.planes.shallow_clone(), noise(vec![part]))).collect();
            }
            let planes: Vec<_> = parts.iter().map(|part| part.planes.shallow_clone()).collect();
            let sizes: Vec<i64> = planes.iter().map(|p| p.size()[0]).collect();
            forward(&Tensor::cat(&planes, 0), noise(parts)).split_with_sizes(&sizes, 0)
        };
        self.each(jobs, one).into_iter().flatten().collect()
    }

    /// The gradient of the sum, over all sites, of the images times the weights of their values ("worth").
    ///
    /// # Shapes
    /// Images and worths `[batch, channels, rows, columns]`, to `[count of weights]`.
    pub(crate) fn gradient(&self, generator: &Generator, lanes: Vec<Vec<(Tensor, Tensor)>>) -> Tensor {
        let jobs: Vec<_> = lanes.into_iter().filter(|l| !l.is_empty()).map(|parts| (generator.shared(), parts)).collect();
        let one = |(generator, parts): (Generator, Vec<(Tensor, Tensor)>)| {
            let products = parts.iter().map(|(images, worth)| (images * worth).sum(Kind::Float));
            let pushed = products.reduce(|sum, product| sum + product).expect("a lane with sites");
            generator.parameters.gradient(&pushed)
        };
        let gradients = self.each(jobs, one).into_iter();
        gradients.reduce(|sum, gradient| sum + gradient).unwrap_or_else(|| generator.parameters.flat().zeros_like())
    }
}

fn noise(parts: Vec<Part>) -> Noise {
    let size = |part: &Part| part.planes.size()[0];
    let sites = parts.iter().flat_map(|part| std::iter::repeat_n(part.site, size(part) as usize)).flatten().collect();
    Noise::new(parts.into_iter().map(|part| (size(&part), part.stream)).collect()).of_sites(sites)
}

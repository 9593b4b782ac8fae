//! Whose images were used? Attacks with the generator and the masks, and with the synthetic images alone.

use anyhow::Result;
use asyndgan_data::{CaseSet, covering_windows, window};
use asyndgan_privacy::MembershipTest;
use ndarray::{Array2, Array3, ArrayView2};

use super::{
    structure::{BLOCKS, Structures, appearances},
    subjects::Subject,
};

/// Blocks of a side at which images of one mask are compared.
const FINE: usize = 32;
/// Images per mask that the attacker makes, at least.
const IMAGES_PER_MASK: usize = 4;
/// Other masks by which the difficulty of an image is measured.
const OTHER_MASKS: usize = 12;

/// Makes images of a mask: mask, number of images, seed.
pub(crate) type Generate<'a> = dyn Fn(ArrayView2<u8>, u32, u64) -> Result<Vec<Array3<f32>>> + 'a;

/// The attacker has the generator and a patient's image and mask, makes images of the mask, and looks at how similar
/// the most similar one is. From that, the similarity to images of other masks is subtracted: some images are similar
/// to everything. `sites` is the number of sites whose appearance the generator can draw; each is tried.
pub(crate) fn with_generator(
    members: &[Subject],
    others: &[Subject],
    crop: usize,
    sites: u32,
    generate: &Generate,
    mut progress: impl FnMut(u64),
) -> Result<Option<MembershipTest>> {
    let all: Vec<&Subject> = members.iter().chain(others).collect();
    let masks: Vec<Vec<Array2<u8>>> = all.iter().map(|s| s.cases.iter().map(|case| centre(&case.condition, crop)).collect()).collect();
    let count = (IMAGES_PER_MASK as u32).max(2 * sites);
    let mut scores = Vec::with_capacity(all.len());
    for (number, subject) in all.iter().enumerate() {
        let mut score = 0.0;
        for (k, case) in subject.cases.iter().enumerate() {
            let image = Structures::new([&window_of(&case.image, crop)], FINE);
            let similarity = |mask: &Array2<u8>, count| -> Result<f64> {
                // The same noise for everyone.
                let made = generate(mask.view(), count, 0)?;
                let nearest = image.nearest(&Structures::new(&made, FINE));
                Ok(nearest[0].map_or(0.0, |(similarity, _)| f64::from(similarity)))
            };
            let mut elsewhere = 0.0;
            for step in 1..=OTHER_MASKS {
                let other = &masks[(number + 1 + step * (all.len() - 1) / OTHER_MASKS % (all.len() - 1)) % all.len()];
                elsewhere += similarity(&other[k % other.len()], 1)? / OTHER_MASKS as f64;
            }
            score += (similarity(&masks[number][k], count)? - elsewhere) / subject.cases.len() as f64;
        }
        scores.push(score);
        progress(number as u64 + 1);
    }
    let (of_members, of_others) = scores.split_at(members.len());
    Ok(MembershipTest::of_scores(of_members, of_others))
}

/// The attacker has the synthetic images alone, and a patient's image, which is searched for in them: mirrored and
/// shifted too. From the similarity, that to images of held-out patients is subtracted.
pub(crate) fn with_synthetic_set(members: &[Subject], others: &[Subject], crop: usize, set: &Structures) -> Option<MembershipTest> {
    let views = |subject: &Subject| -> Vec<Structures> {
        subject.cases.iter().map(|case| Structures::new(appearances(&case.image, crop), BLOCKS)).collect()
    };
    let references: Vec<Vec<Array3<f32>>> =
        others.iter().map(|s| s.cases.iter().map(|case| window_of(&case.image, crop)).collect()).collect();
    let score = |subject: &Subject, left_out: usize| {
        // A held-out patient is not compared with itself; so that all have the same number of references, a member
        // leaves one out as well.
        let kept = references.iter().enumerate().filter(|(k, _)| *k != left_out).flat_map(|(_, images)| images);
        let reference = Structures::new(kept, BLOCKS);
        let best = |views: &Structures, others: &Structures| {
            views.nearest(others).into_iter().flatten().map(|found| f64::from(found.0)).fold(f64::NEG_INFINITY, f64::max)
        };
        let all = views(subject);
        all.iter().map(|views| best(views, set) - best(views, &reference)).sum::<f64>() / all.len() as f64
    };
    if others.len() < 2 {
        return None;
    }
    let of_members: Vec<f64> = members.iter().enumerate().map(|(k, subject)| score(subject, k % others.len())).collect();
    let of_others: Vec<f64> = others.iter().enumerate().map(|(k, subject)| score(subject, k)).collect();
    MembershipTest::of_scores(&of_members, &of_others)
}

/// The structures of crops that cover the synthetic images, at most `limit` of them, evenly spread; and where they are.
pub(crate) fn synthetic(set: &CaseSet, crop: usize, limit: usize) -> Result<(Structures, Vec<Place>)> {
    let starts = match set.image_shape() {
        Some([_, rows, columns]) => covering_windows(rows, columns, crop),
        None => Vec::new(),
    };
    let (all, each) = (set.len() * starts.len(), starts.len().max(1));
    let count = all.min(limit);
    let places: Vec<Place> = (0..count).map(|k| k * all / count).map(|k| Place { case: k / each, start: starts[k % each], crop }).collect();
    let images = places.iter().map(|place| place.read(set)).collect::<Result<Vec<_>>>()?;
    Ok((Structures::new(&images, BLOCKS), places))
}

/// A crop of a synthetic image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    case: usize,
    start: (usize, usize),
    crop: usize,
}

impl Place {
    pub(crate) fn read(&self, set: &CaseSet) -> Result<Array3<f32>> {
        let (top, left) = self.start;
        Ok(window(set.read(self.case)?.image.view(), top, left, self.crop).to_owned())
    }
}

/// The middle of an image.
pub(crate) fn window_of(image: &Array3<f32>, crop: usize) -> Array3<f32> {
    let (_, rows, columns) = image.dim();
    window(image.view(), (rows - crop) / 2, (columns - crop) / 2, crop).to_owned()
}

fn centre(mask: &Array2<u8>, crop: usize) -> Array2<u8> {
    let (rows, columns) = mask.dim();
    window(mask.view(), (rows - crop) / 2, (columns - crop) / 2, crop).to_owned()
}

#[cfg(test)]
pub(crate) mod tests {
    use asyndgan_data::Case;
    use asyndgan_protocol::{Role, stream};
    use rand::RngExt;

    use super::*;

    /// Patients with a mask and an image each, whose texture is their own.
    pub(crate) fn patients(count: u64, first: u64, site: Option<u32>) -> Vec<Subject> {
        let one = |number: u64| {
            let mut rng = stream(5, Role::Phantom, 0, number);
            let waves: Vec<[f32; 4]> = (0..6).map(|_| std::array::from_fn(|_| rng.random_range(-0.6..0.6))).collect();
            let [row, column] = std::array::from_fn(|_| rng.random_range(12.0..28.0_f32));
            let [high, wide] = std::array::from_fn(|_| rng.random_range(5.0..11.0_f32));
            let is_inside = |r: usize, c: usize| ((r as f32 - row) / high).powi(2) + ((c as f32 - column) / wide).powi(2) < 1.0;
            let condition = Array2::from_shape_fn((40, 40), |(r, c)| u8::from(is_inside(r, c)));
            let image = Array3::from_shape_fn((1, 40, 40), |(_, r, c)| {
                let texture: f32 = waves.iter().map(|[a, b, phase, scale]| scale * (a * r as f32 + b * c as f32 + 9.0 * phase).sin()).sum();
                0.25 * texture + 0.5 * f32::from(condition[[r, c]])
            });
            Subject { site, cases: vec![Case { id: number.to_string(), image, condition }] }
        };
        (first..first + count).map(one).collect()
    }

    /// A generator that has learnt training images by heart, up to a share of noise; without, one that knows masks
    /// alone.
    fn generator(training: Vec<(Array2<u8>, Array3<f32>)>) -> impl Fn(ArrayView2<u8>, u32, u64) -> Result<Vec<Array3<f32>>> {
        move |mask, count, seed| {
            let known = training.iter().find(|(other, _)| other == mask).map(|(_, image)| image);
            let one = |k: u32| {
                let mut rng = stream(seed, Role::Synthesis, k, 0);
                Array3::from_shape_fn((1, mask.nrows(), mask.ncols()), |(_, r, c)| {
                    let noise = rng.random_range(-0.1..0.1_f32);
                    noise + known.map_or(0.5 * f32::from(mask[[r, c]]), |image| image[[0, r, c]])
                })
            };
            Ok((0..count).map(one).collect())
        }
    }

    #[test]
    fn a_generator_that_copies_is_caught_and_one_that_does_not_is_not() {
        let (members, others) = (patients(20, 0, Some(0)), patients(20, 100, None));
        let crop = 32;
        let known = members.iter().map(|s| (centre(&s.cases[0].condition, crop), window_of(&s.cases[0].image, crop))).collect();
        let copying = with_generator(&members, &others, crop, 0, &generator(known), |_| ()).expect("made").expect("scores");
        assert!(copying.auc > 0.9 && copying.auc_interval[0] > 0.7, "{copying:?}");
        let honest = with_generator(&members, &others, crop, 0, &generator(Vec::new()), |_| ()).expect("made").expect("scores");
        assert!(honest.auc_interval[0] < 0.5 && honest.auc_interval[1] > 0.5, "{honest:?}");
    }

    #[test]
    fn a_set_with_copies_is_caught_and_one_without_is_not() {
        let (members, others) = (patients(20, 0, Some(0)), patients(20, 100, None));
        let crop = 32;
        let set = |of: &[Subject]| {
            let mut images: Vec<Array3<f32>> = of.iter().map(|s| window(s.cases[0].image.view(), 4, 8, crop).to_owned()).collect();
            for image in &mut images {
                image.invert_axis(ndarray::Axis(2));
            }
            Structures::new(&images, BLOCKS)
        };
        let copying = with_synthetic_set(&members, &others, crop, &set(&members)).expect("scores");
        assert!(copying.auc > 0.95 && copying.true_positive_rate > 0.5, "{copying:?}");
        let honest = with_synthetic_set(&members, &others, crop, &set(&patients(20, 200, None))).expect("scores");
        assert!(honest.auc_interval[0] < 0.5 && honest.auc_interval[1] > 0.5, "{honest:?}");
    }
}

//! Random deformation of conditions.

use asyndgan_task::{IGNORED, Task, UNMARKED};
use ndarray::{Array2, ArrayView2};
use rand::{Rng, RngExt, seq::IndexedRandom as _};

use crate::{
    mask,
    preparation::{background_code, foreground},
};

/// Control points per side of the elastic displacement.
const POINTS: usize = 5;
/// Maximum displacement of a control point, as a share of the side.
const ELASTIC_MAX: f64 = 0.03;
/// Maximum rotation in radians, change of size, and shift as a share of the side.
const ROTATION_MAX: f64 = 0.2;
const SCALE_MAX: f64 = 0.1;
const SHIFT_MAX: f64 = 0.05;

/// What happens to the boundary of a class.
#[derive(Clone, Copy)]
enum Morphology {
    Keep,
    Erode,
    Dilate,
}

/// A new condition from that of a patient: rotated by up to 11 degrees, scaled by up to 10 %, shifted by up to 5 % of
/// the side, bent by up to 3 % of it, and with each class eroded by a pixel, dilated by a pixel, or kept. The outline
/// is that of the deformed foreground.
///
/// The result is a condition without an image, for synthesis only. It is similar to the original: anyone who has the
/// patient's mask can recognise it.
///
/// # Shapes
/// `[rows, columns]` with the codes of the task, to the same.
///
/// # Reference
/// Simard et al., ICDAR 2003.
pub fn deform_condition(task: &Task, condition: ArrayView2<u8>, rng: &mut impl Rng) -> Array2<u8> {
    let (rows, columns) = condition.dim();
    let field = Field::draw(rng);
    let source = |(r, c): (usize, usize)| field.source([(r as f64 + 0.5) / rows as f64, (c as f64 + 0.5) / columns as f64]);
    let taken = |at: (usize, usize)| {
        let [y, x] = source(at);
        let inside = (0.0..1.0).contains(&y) && (0.0..1.0).contains(&x);
        inside.then_some(((y * rows as f64) as usize, (x * columns as f64) as usize))
    };
    let foreground = foreground(task, condition);
    let fill = background_code(condition, foreground.view());
    let foreground = Array2::from_shape_fn((rows, columns), |at| taken(at).is_some_and(|from| foreground[from]));
    let outline_code = task.outline_code();
    let background = |at: (usize, usize)| if foreground[at] || !task.outline { fill } else { 0 };
    let code_at = |at: (usize, usize)| taken(at).map(|from| condition[from]).filter(|code| Some(*code) != outline_code);
    let mut made = Array2::from_shape_fn((rows, columns), |at| code_at(at).unwrap_or_else(|| background(at)));
    for code in (1..=task.condition_classes()).filter(|&code| task.is_class(code)) {
        change(&mut made, code, fill, *[Morphology::Keep, Morphology::Erode, Morphology::Dilate].choose(rng).unwrap_or(&Morphology::Keep));
    }
    if let Some(code) = outline_code {
        let outline = mask::contour(mask::fill_holes(foreground.view()).view());
        for (found, (&inside, &on)) in made.iter_mut().zip(foreground.iter().zip(&outline)) {
            match *found {
                0 | IGNORED | UNMARKED if on => *found = code,
                // A dilated class does not leave the body.
                class if task.is_class(class) && !inside => *found = 0,
                _ => {}
            }
        }
    }
    made
}

/// Erodes or dilates a class by a pixel; it grows into background only.
fn change(condition: &mut Array2<u8>, code: u8, background: u8, morphology: Morphology) {
    let marked = condition.mapv(|found| found == code);
    match morphology {
        Morphology::Keep => {}
        Morphology::Erode => {
            let inside = mask::erode(marked.view());
            // A structure of a pixel or two stays.
            if inside.iter().any(|&inside| inside) {
                condition.zip_mut_with(&inside, |found, &inside| {
                    if *found == code && !inside {
                        *found = background;
                    }
                });
            }
        }
        Morphology::Dilate => {
            let grown = mask::erode(marked.mapv(|marked| !marked).view());
            condition.zip_mut_with(&grown, |found, &outside| {
                if matches!(*found, 0 | IGNORED | UNMARKED) && !outside {
                    *found = code;
                }
            });
        }
    }
}

/// A smooth map of the unit square.
struct Field {
    rotation: f64,
    scale: f64,
    shift: [f64; 2],
    bends: [[[f64; 2]; POINTS]; POINTS],
}

impl Field {
    fn draw(rng: &mut impl Rng) -> Self {
        let mut up_to = |max: f64| rng.random_range(-max..=max);
        Self {
            rotation: up_to(ROTATION_MAX),
            scale: 1.0 + up_to(SCALE_MAX),
            shift: [up_to(SHIFT_MAX), up_to(SHIFT_MAX)],
            bends: std::array::from_fn(|_| std::array::from_fn(|_| [up_to(ELASTIC_MAX), up_to(ELASTIC_MAX)])),
        }
    }

    /// Where a point of the result comes from.
    fn source(&self, [y, x]: [f64; 2]) -> [f64; 2] {
        let bend = self.bend([y, x]);
        let (dy, dx) = ((y - 0.5) / self.scale, (x - 0.5) / self.scale);
        let (sin, cos) = self.rotation.sin_cos();
        [0.5 + cos * dy - sin * dx + self.shift[0] + bend[0], 0.5 + sin * dy + cos * dx + self.shift[1] + bend[1]]
    }

    /// The displacement between the control points, without edges: linear in a smooth parameter.
    fn bend(&self, point: [f64; 2]) -> [f64; 2] {
        let last = (POINTS - 1) as f64;
        let [(i, u), (j, v)] = point.map(|p| {
            let p = (p * last).clamp(0.0, last - 1e-9);
            let t = p.fract();
            (p as usize, t * t * (3.0 - 2.0 * t))
        });
        std::array::from_fn(|k| {
            let at = |i: usize, j: usize| self.bends[i][j][k];
            let across = |i: usize| at(i, j) * (1.0 - v) + at(i, j + 1) * v;
            across(i) * (1.0 - u) + across(i + 1) * u
        })
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn task(outline: bool) -> Task {
        let classes = "classes = [{ name = 'a', labels = [1] }, { name = 'b', labels = [2] }]";
        let text = format!(
            "name = 't'\nimages = 'volumes'\noutline = {outline}\nchannels = [{{ name = 'c', normalisation = 'foreground_percentile' }}]\n{classes}"
        );
        Task::parse(&text).expect("a task")
    }

    /// A disc with an outline, and two classes inside.
    fn condition(outline: bool) -> Array2<u8> {
        let far = |r: usize, c: usize, centre: (f64, f64)| (r as f64 - centre.0).hypot(c as f64 - centre.1);
        let body = Array2::from_shape_fn((64, 64), |(r, c)| far(r, c, (32.0, 32.0)) < 25.0);
        let edge = mask::contour(body.view());
        Array2::from_shape_fn((64, 64), |(r, c)| match () {
            () if far(r, c, (28.0, 28.0)) < 6.0 => 1,
            () if far(r, c, (38.0, 36.0)) < 5.0 => 2,
            () if outline && edge[[r, c]] => 3,
            () => 0,
        })
    }

    #[test]
    fn a_deformed_condition_has_the_same_classes_elsewhere() {
        for outline in [false, true] {
            let (task, original) = (task(outline), condition(outline));
            let count = |of: &Array2<u8>, code: u8| of.iter().filter(|&&found| found == code).count() as f64;
            let mut made = Vec::new();
            for seed in 0..40 {
                let new = deform_condition(&task, original.view(), &mut ChaCha8Rng::seed_from_u64(seed));
                assert_eq!(new, deform_condition(&task, original.view(), &mut ChaCha8Rng::seed_from_u64(seed)));
                for code in [1, 2] {
                    let ratio = count(&new, code) / count(&original, code);
                    assert!((0.3..2.5).contains(&ratio), "seed {seed}: class {code} has {ratio} times its size");
                }
                assert!(new != original && new.iter().all(|&code| code <= task.condition_classes()));
                if outline {
                    // The outline is closed, and every class is inside.
                    let line = new.mapv(|code| code == 3);
                    let inside = mask::fill_holes(new.mapv(|code| code > 0).view());
                    assert_eq!(
                        mask::contour(inside.view()).iter().zip(&line).filter(|(edge, line)| **edge && !**line).count(),
                        0,
                        "seed {seed}"
                    );
                }
                made.push(new);
            }
            assert!(made.windows(2).all(|pair| pair[0] != pair[1]));
        }
    }

    #[test]
    fn pixels_without_annotation_stay_without() {
        let mut original = condition(false);
        original.mapv_inplace(|code| if code == 0 { IGNORED } else { code });
        let new = deform_condition(&task(false), original.view(), &mut ChaCha8Rng::seed_from_u64(3));
        assert!(new.iter().all(|&code| code != 0));
    }
}

use asyndgan_medio::Case;
use ndarray::Axis;
use tch::{Kind, Tensor};

/// Images with their conditions, as tensors.
#[derive(Debug)]
pub struct Pairs {
    /// Images in [-1, 1], `[cases, channels, rows, columns]`, or `[cases, values]`.
    pub images: Tensor,
    /// Condition codes (bytes), `[cases, 1, rows, columns]`, or `[cases, 1]`.
    pub codes: Tensor,
}

impl Pairs {
    /// Stacks cases.
    ///
    /// # Panics
    /// If there is no case, or they differ in shape.
    pub fn of(cases: &[Case]) -> Self {
        let images = ndarray::stack(Axis(0), &cases.iter().map(|c| c.image.view()).collect::<Vec<_>>()).expect("cases of one shape");
        let codes = ndarray::stack(Axis(0), &cases.iter().map(|c| c.condition.view()).collect::<Vec<_>>()).expect("cases of one shape");
        let shape = |s: &[usize]| s.iter().map(|&d| d as i64).collect::<Vec<_>>();
        Self {
            images: Tensor::from_slice(images.as_slice().expect("stacked")).view(&shape(images.shape())[..]),
            codes: Tensor::from_slice(codes.as_slice().expect("stacked")).view(&shape(codes.shape())[..]).unsqueeze(1),
        }
    }

    /// Values with a code each, for data that are no images.
    ///
    /// # Panics
    /// If the two differ in number.
    pub fn of_values(values: &[f64], codes: &[u8]) -> Self {
        assert_eq!(values.len(), codes.len(), "a code for every value");
        Self { images: Tensor::from_slice(values).to_kind(Kind::Float).unsqueeze(1), codes: Tensor::from_slice(codes).unsqueeze(1) }
    }

    /// Number of pairs.
    pub fn count(&self) -> i64 {
        self.images.size()[0]
    }
}

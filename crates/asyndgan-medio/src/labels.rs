/// The whole number from 0 to 4,294,967,295 that a stored value stands for, if it does.
pub(crate) fn integer(value: f64) -> Option<u32> {
    (value >= 0.0 && value <= f64::from(u32::MAX) && value.fract() == 0.0).then_some(value as u32)
}

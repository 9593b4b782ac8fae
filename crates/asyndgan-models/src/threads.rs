use std::sync::Once;

use tch::{Device, Kind, Tensor};

static PROCESSOR_KNOWN: Once = Once::new();

/// How the caller's thread lets libtorch spread one operation over threads; part of a run's configuration, since sums depend on it.
pub fn set_threads(threads: u32) {
    know_processor();
    // libtorch gives every thread its default once, on first use; only after that does a setting stay.
    tch::get_num_threads();
    tch::set_num_threads(i32::try_from(threads.max(1)).unwrap_or(i32::MAX));
}

/// Has MKL find out which processor this is before two threads can ask at once.
///
/// Its vector functions, such as tanh and square root, ask on the first call of any of them in a process, and store the answer raw
/// before they store it translated. A thread that reads it in between takes kernels of low accuracy for that call, off by up to 2e-3.
pub(crate) fn know_processor() {
    PROCESSOR_KNOWN.call_once(|| {
        let _ = Tensor::zeros([1], (Kind::Float, Device::Cpu)).tanh();
    });
}

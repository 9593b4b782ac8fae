use std::sync::Once;

use tch::{Device, Kind, Tensor};

static PROCESSOR_KNOWN: Once = Once::new();

/// Sets the number of threads per libtorch operation for the calling thread. Part of a run's configuration, because
/// sums depend on it.
pub fn set_threads(threads: u32) {
    know_processor();
    // libtorch gives every thread its default once, on first use; only after that does a setting stay.
    tch::get_num_threads();
    tch::set_num_threads(i32::try_from(threads.max(1)).unwrap_or(i32::MAX));
}

/// Makes MKL detect the processor before two threads can do so at the same time.
///
/// MKL's vector functions, such as tanh and square root, detect it on the first call in a process, and store the raw
/// answer before the translated one. A thread that reads it in between uses low-accuracy kernels for that call, with
/// errors of up to 2e-3.
pub(crate) fn know_processor() {
    PROCESSOR_KNOWN.call_once(|| {
        let _ = Tensor::zeros([1], (Kind::Float, Device::Cpu)).tanh();
    });
}

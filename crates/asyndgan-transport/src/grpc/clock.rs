use std::time::Instant;

#[allow(clippy::disallowed_methods, reason = "the transport owns the clock")]
pub(in crate::grpc) fn now() -> Instant {
    Instant::now()
}

//! What `build.rs` makes of `proto/carrier.proto`.
#![allow(missing_docs, unreachable_pub, clippy::pedantic, clippy::allow_attributes_without_reason, reason = "generated code")]

tonic::include_proto!("asyndgan.carrier.v1");

#![no_main]
//! Arbitrary bytes are refused, or are a message that can be encoded and decoded again with payloads within their
//! dimensions.

use asyndgan_protocol::Message;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(message) = Message::decode(&bytes.to_vec().into()) else { return };
    let encoded = message.encode();
    assert_eq!(Message::decode(&encoded).expect("round trip").encode(), encoded);
    let payload = match message {
        Message::Accept { conditions: Some(payload), .. }
        | Message::Round { synthetic: payload, .. }
        | Message::Feedback { feedback: payload, .. } => payload,
        _ => return,
    };
    // As the machines do: dimensions are looked at before anything is unpacked.
    if payload.dims.iter().try_fold(1_u32, |n, &d| n.checked_mul(d)).is_some_and(|n| n <= 1 << 20) {
        let dims = payload.dims.clone();
        if let Ok(whole) = payload.decompressed() {
            assert_eq!(whole.dims, dims);
            assert!(whole.check().is_ok());
            let _ = whole.magnitude();
        }
    }
});

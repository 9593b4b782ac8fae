//! Messages to bytes and back: feedback for 8 colour images of 256x256 in 32-bit floats, and masks.
#![allow(missing_docs, reason = "criterion's macros")]

use std::hint::black_box;

use asyndgan_protocol::{Dtype, Losses, Message, Payload};
use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn payload(c: &mut Criterion) {
    let dims = [8, 3, 256, 256];
    let bytes: Vec<u8> = (0..dims.iter().product::<u32>()).flat_map(|i| (i as f32).sin().to_le_bytes()).collect();
    let feedback = Payload::new(dims.to_vec(), Dtype::F32, bytes);
    let losses = Losses { discriminator: 0.5, generator: 0.5 };
    let message = Message::Feedback { attempt: 0, round: 7, feedback, losses: Some(losses) };
    let (encoded, mut room) = (message.encode(), BytesMut::new());
    let mut group = c.benchmark_group("payload");
    group.throughput(Throughput::Bytes(encoded.len() as u64));
    group.bench_function("encode feedback", |b| b.iter(|| black_box(message.encode_in(&mut room))));
    let masks: Vec<u8> = (0..64 * 256 * 256).map(|i: u32| u8::from((i / 977).is_multiple_of(5))).collect();
    let masks = Payload::new(vec![64, 256, 256], Dtype::U8, masks);
    let packed = masks.clone().compressed();
    group.throughput(Throughput::Bytes(64 * 256 * 256));
    group.bench_function("pack masks", |b| b.iter(|| black_box(masks.clone().compressed())));
    group.bench_function("unpack masks", |b| b.iter(|| black_box(packed.clone().decompressed())));
    group.finish();
    // The elements stay where they are: only the head is read.
    c.bench_function("decode feedback", |b| b.iter(|| black_box(Message::decode(&encoded))));
}

criterion_group!(benches, payload);
criterion_main!(benches);

//! Writes libtorch's folder into the tests of this crate.

fn main() {
    asyndgan_libtorch::link();
}

#![doc = include_str!("../README.md")]

/// Writes libtorch's folder into every binary, example and test of the crate, so that they start without exported
/// variables. The crate must depend on `torch-sys`: cargo passes the location of libtorch only to crates that depend on
/// it directly. Without it, cargo prints a warning.
#[allow(clippy::print_stdout, reason = "build scripts speak to cargo through standard output")]
pub fn link() {
    // Naming one thing keeps cargo from running this again whenever any file of the crate changes.
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    let Some(library) = std::env::var_os("DEP_TCH_LIBTORCH_LIB").map(std::path::PathBuf::from) else {
        // Documentation is built without libtorch.
        if std::env::var_os("CARGO_FEATURE_DOC_ONLY").is_none() {
            println!("cargo:warning=libtorch was not found, so programs may not start: add torch-sys to [dependencies]");
        }
        return;
    };
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", library.display());
    if library.join("libtorch_cuda.so").exists() {
        // Nothing refers to CUDA's part by name; without this the linker would leave it out.
        println!("cargo:rustc-link-arg=-Wl,--no-as-needed,-ltorch_cuda,--as-needed");
    }
}

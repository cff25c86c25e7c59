//! Sets our cfg for this package alone: set by `RUSTFLAGS`, every dependency would be built anew.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cfg=floodgate_loom");
}

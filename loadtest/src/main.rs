//! `floodgate-loadtest`.

fn main() {}

//! The binary: allocator, arguments, exit code. Everything else is the library's.

use floodgate::cli::{self, Exit};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Exit {
    cli::run()
}

//! `cargo xtask pgo`: the program built by the profile `dist`, and by what it was seen to do under load.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use crate::{Done, cargo, is_there, run, target};

/// The load that the compiler learns from: what a gateway does in the second that counts.
const SUITES: [&str; 4] = ["sold-out", "embedded", "redis-memory", "redis-fsync"];

/// Builds the program once to watch it, puts load on it, and builds it again by what was seen.
pub fn pgo() -> Done {
    let merge = profdata()?;
    let host = rustc(&["--print", "host-tuple"])?;
    let seen = env::current_dir().map_err(|error| error.to_string())?.join(target()).join("pgo");
    let raw = seen.join("raw");
    if raw.is_dir() {
        fs::remove_dir_all(&raw).map_err(|error| error.to_string())?;
    }
    // With a target of its own the flags are not those of build scripts, which would be watched as well.
    let build = |package: &str, flags: &str| {
        let mut build = cargo();
        build.args(["build", "--profile", "dist", "--package", package, "--target", &host]);
        run(build.arg("--target-dir").arg(&seen).env("RUSTFLAGS", flags))
    };
    let built = seen.join(&host).join("dist");
    build("floodgate-loadtest", "")?;
    build("floodgate", &format!("-Cprofile-generate={}", raw.display()))?;
    run(Command::new(built.join("floodgate-loadtest")).arg("bench").args(SUITES).args([
        "--only",
        "floodgate",
        "--rounds",
        "2",
        "--seconds",
        "5",
    ]))?;
    let merged = seen.join("merged.profdata");
    run(Command::new(merge).arg("merge").arg("--output").arg(&merged).arg(&raw))?;
    build("floodgate", &format!("-Cprofile-use={}", merged.display()))?;
    println!("{}", built.join("floodgate").display());
    Ok(())
}

/// The program that merges what was seen: of the toolchain, or one of the same LLVM that was installed beside it.
fn profdata() -> Result<PathBuf, String> {
    let libraries = rustc(&["--print", "target-libdir"])?;
    let own = Path::new(&libraries).with_file_name("bin").join("llvm-profdata");
    if own.is_file() {
        return Ok(own);
    }
    let version = rustc(&["--version", "--verbose"])?;
    let llvm =
        version.lines().find_map(|line| line.strip_prefix("LLVM version: ")?.split('.').next());
    let llvm = llvm.ok_or("rustc does not say which LLVM it has")?;
    let named = format!("llvm-profdata-{llvm}");
    if is_there(&named) {
        return Ok(named.into());
    }
    Err(format!(
        "{named} is missing: `rustup component add llvm-tools`, or `apt-get install llvm-{llvm}`"
    ))
}

fn rustc(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("rustc").args(arguments).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("rustc: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

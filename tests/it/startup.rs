//! Starting the program: what it refuses to start with, and what it makes.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use crate::binary::{Serving, audit, floodgate, run_to};

const ANY: &str = "127.0.0.1:0";

/// Proves that what is wrong with the configuration is told with exit code 64 before anything is
/// bound or made: the ports that it would bind are taken, and nobody notices.
#[test]
fn bad_configuration() {
    let taken = TcpListener::bind(ANY).unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let file = dir.path().join("floodgate.toml");
    std::fs::write(&file, "lisen = \"127.0.0.1:1\"\n").unwrap();
    let file = file.to_str().unwrap();
    let anywhere = format!("0.0.0.0:{}", taken.rsplit(':').next().unwrap());
    // Arguments, a variable, and what has to be named.
    let table: [(&[&str], &str, &str); 15] = [
        (&["--config", file], "", "lisen"),
        (&["--config", "/nowhere.toml"], "", "/nowhere.toml"),
        (&["--set", "ledger.lanes=many"], "", "ledger.lanes"),
        (&["--set", "ledger.lanes=0"], "", "ledger.lanes"),
        (&["--auth", "nobody"], "", "auth"),
        (&["--auth", "insecure", "--listen", &anywhere], "", "--i-know-this-is-insecure"),
        (&[], "REDIS_URL=http://127.0.0.1", "redis_url"),
        (&[], "FLOODGATE_DURABILITY=replicated", "durability"),
        (&["--auth", "jwt"], "", "jwt.secret"),
        (&["--auth", "jwt"], "FLOODGATE_JWT__SECRET=short", "jwt.secret"),
        (&["--auth", "jwt"], "FLOODGATE_JWT__KEYS_FILE=/nowhere.json", "/nowhere.json"),
        (&["--set", "jwt.keys=x"], "", "jwt.keys"),
        (&[], "FLOODGATE_ADMIN_TOKENS_FILE=/nowhere", "admin_tokens_file"),
        (&[], "FLOODGATE_LISEN=127.0.0.1:1", "lisen"),
        (&[], "RUST_LOG=x=y=z", "log"),
    ];
    for (arguments, variable, named) in table {
        let mut command = floodgate(&["serve", "--data-dir", data.to_str().unwrap()]);
        command.env("FLOODGATE_LISTEN", &taken).env("FLOODGATE_OPS_LISTEN", &taken);
        let output = command.args(arguments).envs(variable.split_once('=')).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{arguments:?} {variable}: {told}");
        assert!(told.contains(named), "{arguments:?} {variable}: {told}");
        assert!(!data.exists(), "{arguments:?} {variable} made the data dir");
    }
}

/// Proves that a port that is taken, and a data dir that another process has, end the program with
/// 1 and a sentence that names them, and that the first process does not mind.
#[tokio::test]
async fn what_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = Serving::start(dir.path()).await;
    gateway.sell_consoles(1).await;
    let taken = gateway.public.to_string();
    let data_dir = dir.path().to_str().unwrap();
    let same_dir = ["serve", "--listen", ANY, "--ops-listen", ANY, "--data-dir", data_dir];
    let (_, told) = run_to(1, &same_dir);
    assert!(told.contains(data_dir) && told.contains("in use"), "{told}");

    let other = tempfile::tempdir().unwrap();
    let other_dir = other.path().to_str().unwrap();
    for (listen, ops) in [(taken.as_str(), ANY), (ANY, taken.as_str())] {
        let command = ["serve", "--listen", listen, "--ops-listen", ops, "--data-dir", other_dir];
        let (_, told) = run_to(1, &command);
        assert!(told.contains(&taken), "{told}");
    }
    gateway.hold("ann").await;
    gateway.stop();
    audit(dir.path());
}

/// Proves that the admin token is made once, kept for its owner's eyes, and told at the first start
/// only.
#[tokio::test]
async fn the_admin_token() {
    let dir = tempfile::tempdir().unwrap();
    let first = Serving::start(dir.path()).await;
    let token = first.token.clone();
    assert!(token.len() >= 32);
    let mode = std::fs::metadata(dir.path().join("admin.token")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(first.log().text().contains(&token), "told once");
    first.stop();
    let second = Serving::start(dir.path()).await;
    assert_eq!(second.token, token);
    assert!(!second.log().text().contains(&token), "and never again");
    second.stop();
}

/// Proves that a data dir made for another number of lanes is refused, with what to set.
#[tokio::test]
async fn another_layout() {
    let dir = tempfile::tempdir().unwrap();
    Serving::start_with(dir.path(), &["--set", "ledger.lanes=2"]).await.stop();
    let here = ["serve", "--listen", ANY, "--ops-listen", ANY, "--data-dir"];
    let here = here.iter().copied().chain(dir.path().to_str());
    for lanes in ["ledger.lanes=1", "ledger.lanes=3"] {
        let arguments: Vec<&str> = here.clone().chain(["--set", lanes]).collect();
        let (_, told) = run_to(64, &arguments);
        assert!(told.contains("ledger.lanes"), "{told}");
    }
    Serving::start_with(dir.path(), &["--set", "ledger.lanes=2"]).await.stop();
}

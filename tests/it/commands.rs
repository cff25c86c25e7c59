//! The other commands of the program, each against its promises: output, JSON, exit code.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::binary::{Serving, floodgate, run_to};
use crate::shop::{CONSOLE, SALE, sale};

fn parse(stdout: &str) -> Value {
    serde_json::from_str(stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
}

/// Proves that a command line that makes no sense ends with 2 and an explanation.
#[test]
fn usage_errors() {
    for arguments in [
        &["frobnicate"][..],
        &[],
        &["serve", "--frobnicate"],
        &["serve", "--set", "no-equals-sign"],
        &["demo", "--users", "0"],
        &["demo", "--users", "many"],
        &["sale"],
        &["sale", "restock", "bf", "console", "1"],
        &["sale", "show", "has space", "--admin-token", "x"],
        &["healthcheck", "--ops-url", "nonsense"],
    ] {
        let (_, told) = run_to(2, arguments);
        assert!(!told.is_empty(), "{arguments:?}");
    }
    let (help, _) = run_to(0, &["serve", "--help"]);
    assert!(help.contains("Examples:"), "{help}");
    let (version, _) = run_to(0, &["--version"]);
    assert_eq!(version.trim(), format!("floodgate {}", env!("CARGO_PKG_VERSION")));
}

/// Proves that every `sale` command does what the ops API does, by token of the data dir or given.
#[tokio::test]
async fn sales_by_command() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = Serving::start(&dir.path().join("data")).await;
    let file = dir.path().join("sale.json");
    std::fs::write(&file, sale(SALE, &[(CONSOLE, 9)]).to_string()).unwrap();
    let file = file.to_str().unwrap();
    let url = format!("http://{}", gateway.ops);
    let data_dir = dir.path().join("data");
    let here = ["--ops-url", &url, "--data-dir", data_dir.to_str().unwrap(), "--json"];
    let ask = |words: &[&str]| {
        let arguments: Vec<&str> = ["sale"].iter().chain(words).chain(&here).copied().collect();
        parse(&run_to(0, &arguments).0)
    };
    assert_eq!(ask(&["create", file])["state"], "scheduled");
    assert_eq!(ask(&["create", file])["state"], "scheduled", "again");
    for (step, state) in [("open", "open"), ("pause", "paused"), ("resume", "open")] {
        assert_eq!(ask(&[step, SALE])["state"], state);
    }
    let restocked = ask(&["restock", SALE, CONSOLE, "-4", "--reason", "counted again"]);
    assert_eq!(restocked["items"][0]["stock"], 5);
    let more = ["restock", SALE, CONSOLE, "+1", "--reason", "found one", "--key", "found-1"];
    let less = ["restock", SALE, CONSOLE, "-1", "--reason", "lost one", "--key", "lost-1"];
    for (change, stock) in [(more, 6), (more, 6), (less, 5), (less, 5)] {
        assert_eq!(ask(&change)["items"][0]["stock"], stock, "the same key, the same change");
    }
    assert_eq!(ask(&["list"])["sales"][0]["id"], SALE);
    assert_eq!(ask(&["show", SALE])["items"][0]["available"], 5);
    assert_eq!(ask(&["close", SALE])["state"], "closed");

    let by_token = ["sale", "list", "--ops-url", &url, "--admin-token", &gateway.token];
    let (table, _) = run_to(0, &by_token);
    assert!(table.contains(SALE) && table.contains("closed"), "{table}");
    let wrong = ["sale", "list", "--ops-url", &url, "--admin-token", "wrong"];
    let told = run_to(1, &wrong).1;
    let known =
        format!("the admin token is not known to the gateway at {url} (401 identity-required)");
    assert!(told.contains(&known), "{told}");
    let refused = |words: &[&str]| {
        let arguments: Vec<&str> = words.iter().chain(&here).copied().collect();
        run_to(1, &arguments).1
    };
    let (sale, item) = (["sale", "show", "nope"], ["sale", "restock", SALE, "nope", "1"]);
    assert!(refused(&sale).contains("there is no sale nope (404 not-found)"));
    let told = refused(&[&item[..], &["--reason", "x"]].concat());
    assert!(told.contains(&format!("there is no sale {SALE} with an item nope")), "{told}");
    let told = refused(&["deadletters", "show", "0-1-1"]);
    assert!(told.contains("there is no dead letter 0-1-1 (404"), "{told}");
    let again: Vec<&str> = ["sale", "open", SALE].iter().chain(&here).copied().collect();
    assert!(run_to(1, &again).1.contains("invalid-transition"));
    gateway.stop();
    let gone: Vec<&str> = ["sale", "list"].iter().chain(&here).copied().collect();
    assert!(run_to(4, &gone).1.contains("gateway"), "a dependency is unavailable");
    let restock: Vec<&str> = ["sale"].iter().chain(&more).chain(&here).copied().collect();
    assert!(run_to(4, &restock).1.contains("to ask again safely: --key found-1"));
}

/// Proves that a sale file with faults is refused with all of them, before anybody is asked.
#[test]
fn faulty_sale_files() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sale.json");
    let mut faulty = sale("has space", &[(CONSOLE, 9)]);
    faulty["colour"] = json!("red");
    faulty["hold_seconds"] = json!(0);
    faulty["items"][0]["price"] = json!(-1);
    faulty["items"][0]["currency"] = json!("euro");
    std::fs::write(&file, faulty.to_string()).unwrap();
    let path = file.to_str().unwrap();
    let nobody = ["--ops-url", "http://127.0.0.1:1", "--admin-token", "x"];
    let create = |file: &str| {
        let arguments: Vec<&str> =
            ["sale", "create", file].iter().chain(&nobody).copied().collect();
        run_to(1, &arguments).1
    };
    let told = create(path);
    for fault in ["colour", "id", "hold_seconds", "items[0].price", "items[0].currency"] {
        assert!(told.lines().any(|line| line.contains(&format!("{fault}: "))), "{fault}: {told}");
    }
    assert!(told.contains(path) && told.contains("5 faults"), "{told}");
    std::fs::write(&file, "{").unwrap();
    assert!(create(path).contains(path));
    assert!(create("/nowhere.json").contains("/nowhere.json"));
    assert!(create("-").contains("standard input: "), "nothing is there");
}

/// Proves that a sale can be created from standard input.
#[tokio::test]
async fn sales_from_standard_input() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = Serving::start(dir.path()).await;
    let url = format!("http://{}", gateway.ops);
    let mut command = floodgate(&["sale", "create", "-", "--ops-url", &url]);
    command.args(["--admin-token", &gateway.token]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let definition = sale(SALE, &[(CONSOLE, 9)]).to_string();
    child.stdin.take().unwrap().write_all(definition.as_bytes()).unwrap();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
    assert_eq!(gateway.state(SALE).await, "scheduled");
    gateway.stop();
}

/// Proves that a healthcheck tells life by its exit code.
#[tokio::test]
async fn healthchecks() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = Serving::start(dir.path()).await;
    let url = format!("http://{}", gateway.ops);
    let (stdout, _) = run_to(0, &["healthcheck", "--ops-url", &url, "--json"]);
    assert_eq!(parse(&stdout)["alive"], true);
    gateway.stop();
    let (stdout, _) = run_to(4, &["healthcheck", "--ops-url", &url, "--json"]);
    let answer = parse(&stdout);
    assert_eq!((&answer["ok"], &answer["alive"]), (&json!(false), &json!(false)), "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("gateway at"), "{answer}");
}

/// Names and values of an environment.
type Variables<'a> = &'a [(&'a str, &'a str)];

/// Runs the program in an environment, to this exit code: what it said.
#[track_caller]
fn run_in(code: i32, variables: Variables<'_>, arguments: &[&str]) -> (String, String) {
    let output = floodgate(arguments).envs(variables.iter().copied()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{variables:?} {arguments:?}: {stdout}{stderr}");
    (stdout, stderr)
}

/// Proves that whoever asks a gateway finds it and its token where its configuration has them: in the
/// environment, in files of secrets, in its own file; that what is empty is not set; that a flag wins.
#[tokio::test]
async fn operators_by_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let gateway = Serving::start(&data).await;
    let (ops, token) = (gateway.ops.to_string(), gateway.token.as_str());
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let secret = file("token", &format!("{token}\n"));
    let by_dir = format!("ops_listen = \"{ops}\"\ndata_dir = \"{}\"\n", data.display());
    let by_dir = file("by-dir.toml", &by_dir);
    let by_token = format!("ops_listen = \"{ops}\"\nadmin_token = \"{token}\"\n");
    let by_token = file("by-token.toml", &by_token);
    let data = data.to_str().unwrap();
    let empty = [("FLOODGATE_OPS_URL", ""), ("FLOODGATE_ADMIN_TOKEN", "")];
    let wrong = [
        ("FLOODGATE_OPS_LISTEN", "127.0.0.1:1"),
        ("FLOODGATE_ADMIN_TOKEN", "not-the-one-at-all"),
        ("FLOODGATE_CONFIG", "/nowhere.toml"),
    ];
    let url = format!("http://{ops}");
    let table: [(Variables<'_>, &[&str]); 7] = [
        (&[("FLOODGATE_OPS_LISTEN", &ops), ("FLOODGATE_ADMIN_TOKEN_FILE", &secret)], &[]),
        (&[("FLOODGATE_OPS_LISTEN", &ops), ("FLOODGATE_DATA_DIR", data)], &[]),
        (&[("FLOODGATE_CONFIG", &by_dir)], &[]),
        (&[("FLOODGATE_CONFIG", &by_token)], &[]),
        (&[], &["--config", &by_dir]),
        (&[&empty[..], &[("FLOODGATE_CONFIG", &by_dir)]].concat(), &[]),
        (&wrong, &["--ops-url", &url, "--admin-token", token]),
    ];
    for (variables, flags) in table {
        for command in [&["sale", "list"][..], &["switch", "list"], &["deadletters", "list"]] {
            run_in(0, variables, &[command, flags].concat());
        }
        run_in(0, variables, &[&["healthcheck"], flags].concat());
    }
    // What a liveness probe does not need does not hinder it.
    let unreadable = [("FLOODGATE_OPS_LISTEN", ops.as_str()), ("REDIS_URL_FILE", "/nowhere")];
    run_in(0, &unreadable, &["healthcheck"]);
    let (_, told) = run_in(64, &[("FLOODGATE_OPS_LISTEN", "nowhere")], &["healthcheck"]);
    assert!(told.contains("ops_listen"), "{told}");
    for (everywhere, here) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1")] {
        let (_, told) = run_in(4, &[("FLOODGATE_OPS_LISTEN", everywhere)], &["healthcheck"]);
        assert!(told.contains(&format!("gateway at {here}")), "{told}");
    }
    gateway.stop();
}

/// Proves that data which cannot be written is not lost in silence, and that whoever has read enough of it
/// is no fault.
#[test]
fn unwritten_output() {
    for arguments in [&["config", "print"][..], &["completions", "bash"], &["--help"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = floodgate(arguments).stdout(full).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {told}");
        assert!(told.contains("standard output: "), "{arguments:?}: {told}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = floodgate(arguments).stdout(writer).output().unwrap();
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{arguments:?}");
    }
}

/// Proves that a check of the configuration reads the files that a start reads, and tells programs of
/// every fault.
#[test]
fn configured_files_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("broken");
    std::fs::write(&broken, "neither keys nor tokens\n").unwrap();
    for file in ["/nowhere", broken.to_str().unwrap()] {
        let named = |key: &str| format!("{key}={file}");
        let keys = named("jwt.keys_file");
        let tokens = named("admin_tokens_file");
        let (cert, key) = (named("tls.cert_file"), named("tls.key_file"));
        let check = ["config", "check", "--json"];
        let certificate = ["--set", &cert, "--set", &key];
        let one = |more: &[&str], key: &str| {
            let (told, _) = run_to(64, &[&check[..], more].concat());
            let told = parse(&told);
            assert_eq!(told["ok"], false, "{told}");
            assert!(told["faults"][0].as_str().unwrap().contains(key), "{key}: {told}");
        };
        one(&["--auth", "jwt", "--set", &keys], "jwt.keys_file");
        one(&["--set", &tokens], "admin_tokens_file");
        one(&certificate, "tls.cert_file");
        let all = ["--auth", "jwt", "--set", &keys, "--set", &tokens];
        let (told, _) = run_to(64, &[&check[..], &all, &certificate].concat());
        assert_eq!(parse(&told)["faults"].as_array().unwrap().len(), 3, "{told}");
    }
    let (told, _) = run_to(64, &["config", "check", "--json", "--set", "ledger.lanes=0"]);
    assert_eq!(parse(&told)["faults"], json!(["ledger.lanes must be 1 to 256"]));
}

/// Proves that the configuration is printed with the origin of every value, and no secret.
#[test]
fn configuration_is_printed() {
    let arguments = ["config", "print", "--show-origin", "--json", "--set", "ledger.lanes=2"];
    let mut command = floodgate(&arguments);
    command.env("FLOODGATE_ADMIN_TOKEN", "canary-canary-canary").env("RUST_LOG", "warn");
    let output = command.output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(!printed.contains("canary"), "{printed}");
    let printed = parse(&printed);
    let expected = [
        ("ledger.lanes", json!(2), "command line"),
        ("log", json!("warn"), "environment (RUST_LOG)"),
        ("admin_token", json!("***"), "environment (FLOODGATE_ADMIN_TOKEN)"),
        ("auth", json!("header"), "default"),
        ("secret", Value::Null, "default"),
    ];
    for (key, value, origin) in expected {
        assert_eq!(printed[key], json!({ "value": value, "origin": origin }), "{key}");
    }
    run_to(0, &["config", "check"]);
    let (_, told) = run_to(64, &["config", "check", "--set", "ledger.lanes=0", "--auth", "header"]);
    assert!(told.contains("ledger.lanes"), "{told}");
}

/// Proves that a file that is no TOML is refused with the place of the fault, and without the line: it may
/// hold a secret.
#[test]
fn syntax_errors_show_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("floodgate.toml");
    let path = file.to_str().unwrap();
    for (text, place) in [
        ("admin_token = canary-canary-canary\n", "line 1, column 15"),
        ("log = \"info\"\nadmin_token = \"canary-canary-canary\n", "line 2, column "),
        ("[jwt]\nsecret = canary-canary-canary\n", "line 2, column 10"),
    ] {
        std::fs::write(&file, text).unwrap();
        for command in [&["config", "check"][..], &["serve"], &["audit"], &["doctor"]] {
            let (printed, told) = run_to(64, &[command, &["--config", path]].concat());
            assert!(!format!("{printed}{told}").contains("canary"), "{command:?}: {told}");
            assert!(told.contains(place) && told.contains(path), "{command:?}: {told}");
        }
    }
}

/// Proves that a dependency that is not there is named with host and port, and without its password.
#[test]
fn who_cannot_be_reached() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let free = ["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"];
    let redis = ["--data-dir", data, "--redis-url", "redis://:canary@127.0.0.1:1"];
    let books = ["--data-dir", data, "--database-url", "postgres://ann:canary@127.0.0.1:1/x"];
    for (code, command, more, said) in [
        (4, "serve", &redis, "Redis at 127.0.0.1:1: "),
        (4, "audit", &redis, "floodgate: Redis at 127.0.0.1:1: "),
        (4, "doctor", &redis, "Redis at 127.0.0.1:1: "),
        (4, "serve", &books, "PostgreSQL cannot be reached: 127.0.0.1:1: "),
        (4, "audit", &books, "PostgreSQL cannot be reached: 127.0.0.1:1: "),
        (4, "doctor", &books, "PostgreSQL cannot be reached: 127.0.0.1:1: "),
    ] {
        let (printed, told) = run_to(code, &[&[command][..], more, &free].concat());
        let all = format!("{printed}{told}");
        assert!(all.contains(said) && !all.contains("canary"), "{command}: {all}");
    }
    let (_, told) = run_to(64, &["config", "check", "--redis-url", "localhost:6379"]);
    assert!(told.contains("redis://HOST:PORT"), "{told}");
}

/// Proves that the admin token is told when it is made, though the start fails afterwards.
#[test]
fn a_token_is_told_before_the_rest_fails() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let arguments = ["serve", "--data-dir", dir.path().to_str().unwrap(), "--listen", &taken];
    let (_, told) = run_to(1, &arguments);
    let token = std::fs::read_to_string(dir.path().join("admin.token")).unwrap();
    assert!(told.contains(&format!("admin.token: {token}")), "{told}");
    assert!(!run_to(1, &arguments).1.contains(&token), "once");
}

/// Proves that a file with a secret that everybody can read is named, by a start in its log and by the doctor.
#[tokio::test]
async fn exposed_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("secret"));
    std::fs::write(&file, "canary-canary-canary").unwrap();
    let chmod = |mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&file, mode).unwrap();
    };
    chmod(0o644);
    let path = file.to_str().unwrap();
    let variables = [("FLOODGATE_SECRET_FILE", path)];
    let gateway = Serving::start_in(&data, &[], &variables).await;
    let said = gateway
        .log()
        .wait_for("everybody on this machine can read a file with a secret; chmod 600 it");
    assert_eq!((&said["file"], &said["mode"]), (&json!(path), &json!("644")));
    assert!(!gateway.log().text().contains("canary"));
    gateway.stop();
    let doctor = || {
        let mut doctor = floodgate(&["doctor", "--json", "--data-dir", data.to_str().unwrap()]);
        let output = doctor.envs(variables).output().unwrap();
        let report = parse(&String::from_utf8(output.stdout).unwrap());
        let checks = report["checks"].as_array().unwrap().clone();
        checks.into_iter().find(|check| check["name"] == "secret files").unwrap()
    };
    assert_eq!(doctor()["state"], "warning");
    assert_eq!(doctor()["found"], format!("{path} (mode 644)"));
    chmod(0o600);
    assert_eq!(doctor()["state"], "ok");
}

/// Proves that a number of threads that makes no sense is told before a port is bound.
#[test]
fn threads() {
    let dir = tempfile::tempdir().unwrap();
    for bad in ["0", "x", "", "1025"] {
        let mut serve = floodgate(&["serve", "--data-dir", dir.path().to_str().unwrap()]);
        let output = serve.env("TOKIO_WORKER_THREADS", bad).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{bad}: {told}");
        assert!(told.contains("TOKIO_WORKER_THREADS"), "{bad}: {told}");
    }
}

/// Proves that completions and the doctor's report can be read by programs.
#[test]
fn completions_and_doctor() {
    let (completions, _) = run_to(0, &["completions", "bash"]);
    assert!(completions.contains("complete -F") && completions.contains("--data-dir"));
    run_to(2, &["completions", "abacus"]);
    let dir = tempfile::tempdir().unwrap();
    let (report, _) = run_to(0, &["doctor", "--json", "--data-dir", dir.path().to_str().unwrap()]);
    let report = parse(&report);
    assert_eq!(report["ok"], true, "{report}");
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.len() >= 5 && checks.iter().all(|check| check["name"].is_string()), "{report}");
    // A dependency that is not there is one thing, surroundings that are not fit another.
    let nobody = ["doctor", "--redis-url", "redis://127.0.0.1:1"];
    run_to(4, &nobody);
    run_to(4, &["doctor", "--database-url", "postgres://127.0.0.1:1/x"]);
    run_to(1, &[&nobody[..], &["--set", "ledger.disk_reserve_bytes=1000000000000000"]].concat());
}

/// Proves that the demonstration sells exactly what there is, that its figures add up, and that its
/// books are clean.
#[test]
fn demonstration() {
    let arguments = [
        "demo",
        "--users",
        "2000",
        "--stock",
        "50",
        "--exit",
        "--json",
        "--listen",
        "127.0.0.1:0",
        "--ops-listen",
        "127.0.0.1:0",
    ];
    let (stdout, _) = run_to(0, &arguments);
    let report = parse(&stdout);
    for (figure, expected) in [("stock", 50), ("sold", 50), ("orders", 50), ("carts", 50)] {
        assert_eq!(report[figure], expected, "{figure} in {report}");
    }
    let number = |value: &Value| value.as_u64().unwrap();
    assert_eq!(number(&report["confirmed"]) + number(&report["held"]), 50);
    let outcomes = report["outcomes"].as_object().unwrap();
    let attempts: u64 = outcomes.values().map(number).sum();
    assert_eq!(attempts, number(&report["attempts"]), "{report}");
    assert!(attempts >= 2_000 && number(&report["anomalies"]) == 0, "{report}");
    let ended = number(&report["orders_cancelled"]);
    assert_eq!(number(&outcomes["reserved"]), 50 + ended, "every grant stands or was given back");
    assert_eq!(report["latency_us"]["all"]["count"], attempts);
    let clean = (&report["ok"], &report["oracle"]["ok"], &report["audit"]["ok"]);
    assert_eq!(clean, (&json!(true), &json!(true), &json!(true)), "{report}");
}

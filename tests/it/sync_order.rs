//! The order of sync and answer, as the system sees it: the program runs under `strace`, and every 201 that
//! it sends is looked for in what it had written to its journal and synced before.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use floodgate_loadtest::buyers::{self, Control, CrowdPlan, Habits};
use rustix::process::{Pid, Signal, kill_process};

use crate::binary::{Serving, audit};
use crate::patience::eventually;
use crate::shop::{CONSOLE, SALE, sale};

/// Reservations, unless `FLOODGATE_SYNC_ACKS` says otherwise.
const ACKS: u64 = 300;
/// Synced writes in which answers are looked for, the latest ones.
const SYNCED_MAX: usize = 400;

/// What the trace has told so far.
#[derive(Default)]
struct Trace {
    /// Descriptors of journals.
    journals: HashSet<String>,
    /// What was written to a descriptor since its last sync.
    written: HashMap<String, Vec<String>>,
    /// The descriptor that a thread is syncing, and how many writes that covers.
    syncing: HashMap<String, (String, usize)>,
    /// Opens that wait for their answer.
    opening: HashSet<String>,
    synced: VecDeque<String>,
    /// Ids that were answered, and those that were answered before they were synced.
    answered: u64,
    early: Vec<String>,
}

impl Trace {
    /// Takes a line of `strace -f -xx -o`: a thread and its call.
    fn line(&mut self, line: &str) {
        let Some((thread, call)) = line.split_once(char::is_whitespace) else { return };
        let (thread, call) = (thread.to_owned(), call.trim_start());
        if let Some(rest) = call.strip_prefix("<... ") {
            if rest.starts_with("fdatasync") || rest.starts_with("fsync") {
                self.synced(&thread, rest.ends_with("= 0"));
            } else if rest.starts_with("openat") && self.opening.remove(&thread) {
                self.opened(rest);
            }
            return;
        }
        let Some((name, arguments)) = call.split_once('(') else { return };
        let over = !call.ends_with("<unfinished ...>");
        match name {
            "openat" if arguments.contains(&hex("ledger-")) && arguments.contains(&hex("-wal")) => {
                if over {
                    self.opened(call);
                } else {
                    self.opening.insert(thread);
                }
            }
            "pwrite64" => {
                let descriptor = arguments.split(',').next().unwrap_or_default();
                if self.journals.contains(descriptor) {
                    let bytes = quoted(arguments);
                    self.written.entry(descriptor.to_owned()).or_default().push(bytes);
                }
            }
            "fdatasync" | "fsync" => {
                let descriptor: String =
                    arguments.chars().take_while(char::is_ascii_digit).collect();
                let covers = self.written.get(&descriptor).map_or(0, Vec::len);
                self.syncing.insert(thread.clone(), (descriptor, covers));
                if over {
                    self.synced(&thread, call.ends_with("= 0"));
                }
            }
            "sendto" | "write" | "writev" => self.sent(arguments),
            _ => {}
        }
    }

    fn opened(&mut self, call: &str) {
        let descriptor = call.rsplit("= ").next().unwrap_or_default().trim();
        self.journals.insert(descriptor.to_owned());
    }

    fn synced(&mut self, thread: &str, well: bool) {
        let Some((descriptor, covers)) = self.syncing.remove(thread) else { return };
        let Some(written) = self.written.get_mut(&descriptor) else { return };
        if well {
            self.synced.extend(written.drain(..covers));
            while self.synced.len() > SYNCED_MAX {
                self.synced.pop_front();
            }
        }
    }

    fn sent(&mut self, arguments: &str) {
        // One write may carry several answers.
        let (status, field) = (hex("HTTP/1.1 201"), hex("\"reservation_id\":\""));
        let sent: String = quoted(arguments);
        if !sent.contains(&status) {
            return;
        }
        for answer in sent.split(&field).skip(1) {
            let text: String = answer.split("\\x").skip(1).take(36).collect();
            let id: String = text
                .as_bytes()
                .chunks(2)
                .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
                .map(char::from)
                .filter(|character| *character != '-')
                .collect();
            let bytes: String = id
                .as_bytes()
                .chunks(2)
                .map(|pair| format!("\\x{}", String::from_utf8_lossy(pair)))
                .collect();
            self.answered += 1;
            if !self.synced.iter().rev().any(|write| write.contains(&bytes)) {
                self.early.push(id);
            }
        }
    }
}

/// As `strace -xx` writes it.
fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("\\x{byte:02x}")).collect()
}

/// All strings of a call, one after the other.
fn quoted(arguments: &str) -> String {
    arguments.split('"').skip(1).step_by(2).collect()
}

/// A write of a row, a sync of its file and the answer with its id, as strace tells them.
fn calls(id: &str) -> [String; 3] {
    let bytes: String = id
        .replace('-', "")
        .as_bytes()
        .chunks(2)
        .map(|pair| format!("\\x{}", str::from_utf8(pair).unwrap()))
        .collect();
    let answer = hex(&format!("HTTP/1.1 201 Created\r\n\r\n{{\"reservation_id\":\"{id}\"}}"));
    [
        format!("12 pwrite64(7, \"\\x00{bytes}\\x00\", 18, 32) = 18"),
        "12 fdatasync(7) = 0".to_owned(),
        format!("14 sendto(9, \"{answer}\", 90, MSG_NOSIGNAL, NULL, 0) = 90"),
    ]
}

/// A trace of these calls, behind the opening of a journal.
fn traced<'a>(calls: impl IntoIterator<Item = &'a String>) -> Trace {
    let mut trace = Trace::default();
    trace.line(&format!("12 openat(AT_FDCWD, \"{}\", O_RDWR) = 7", hex("/d/ledger-0.db-wal")));
    calls.into_iter().for_each(|call| trace.line(call));
    trace
}

/// Proves that the reader of traces refuses a 201 before its sync, in whatever way it is before it, and only
/// such a one.
#[test]
fn an_early_201_is_seen() {
    let id = "019a0000-0000-7000-8000-00000000abcd";
    let [write, sync, answer] = calls(id);
    let well = traced([&write, &sync, &answer]);
    assert_eq!((well.answered, well.early.len()), (1, 0));
    let begun = "12 fdatasync(7 <unfinished ...>".to_owned();
    let done = "12 <... fdatasync resumed>) = 0".to_owned();
    let well = traced([&write, &begun, &done, &answer]);
    assert_eq!((well.answered, well.early.len()), (1, 0));
    let failed = "12 fdatasync(7) = -1 EIO (Input/output error)".to_owned();
    let elsewhere = "12 fdatasync(8) = 0".to_owned();
    let [another, ..] = calls("019a0000-0000-7000-8000-00000000ffff");
    let wrong: [&[&String]; 8] = [
        &[&write, &answer, &sync],
        &[&write, &answer],
        &[&answer],
        &[&sync, &write, &answer],
        &[&write, &begun, &answer, &done],
        &[&begun, &write, &done, &answer],
        &[&write, &failed, &answer],
        &[&another, &sync, &answer],
    ];
    for calls in wrong.into_iter().chain([&[&write, &elsewhere, &answer][..]]) {
        let trace = traced(calls.iter().copied());
        assert_eq!((trace.answered, trace.early), (1, vec![id.replace('-', "")]), "{calls:?}");
    }
}

/// Proves that no 201 leaves the program before the journal's row that has its reservation was written and
/// synced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_201_is_after_its_sync() {
    let acks = std::env::var("FLOODGATE_SYNC_ACKS").map_or(ACKS, |acks| acks.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let gateway = Serving::start(dir.path()).await;
    gateway.sell(&sale(SALE, &[(CONSOLE, 1_000_000)])).await;
    gateway.stop();
    let free = || {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap()
    };
    let (public, ops): (SocketAddr, SocketAddr) = (free(), free());
    let mut strace = Command::new("strace");
    // Into a file of its own: what the program says would stand in the middle of its lines.
    let told = dir.path().join("strace");
    strace.args(["-f", "-xx", "-s", "100000", "-o"]).arg(&told);
    strace.args(["-e", "trace=openat,pwrite64,fdatasync,fsync,sendto,write,writev"]);
    strace.arg(env!("CARGO_BIN_EXE_floodgate")).args(["serve", "--data-dir"]).arg(dir.path());
    strace.args(["--listen", &public.to_string(), "--ops-listen", &ops.to_string()]);
    for (name, _) in std::env::vars_os() {
        // What is said to the tests is no configuration.
        if name.to_string_lossy().starts_with("FLOODGATE_") {
            strace.env_remove(name);
        }
    }
    strace.env("FLOODGATE_ADMISSION__PER_USER__RATE", "0");
    strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut traced = strace.spawn().unwrap();
    eventually("it listens", async || tokio::net::TcpStream::connect(public).await.ok()).await;
    // Few at once: a row that is larger than a page would have its ids cut in two.
    let plan = CrowdPlan {
        connections: 8,
        habits: Habits::PLAIN,
        ..CrowdPlan::new(public, SALE, &[CONSOLE], acks)
    };
    let report = buyers::run(&plan, Control::default()).await.unwrap();
    // The program is the child of strace, which ends with it.
    let children = format!("/proc/{0}/task/{0}/children", traced.id());
    let child: i32 = std::fs::read_to_string(children).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(child).unwrap(), Signal::TERM).unwrap();
    traced.wait().unwrap();
    let mut trace = Trace::default();
    for line in BufReader::new(File::open(told).unwrap()).lines() {
        trace.line(&line.unwrap());
    }
    let granted = report.history.outcomes().get("reserved").copied().unwrap_or(0);
    println!(
        "{} of {granted} answers seen, {} before their sync",
        trace.answered,
        trace.early.len()
    );
    assert_eq!((granted, trace.answered), (acks, acks));
    assert!(trace.early.is_empty(), "answered before they were synced: {:?}", trace.early);
    audit(dir.path());
}

//! Histories as files: one JSON object a line, once when a request is invoked and again, with the
//! same number, when it has ended.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use super::entry::Entry;

/// A file that grows by a line at a time. Each line reaches the kernel before the call returns,
/// so it survives the death of this process; with `sync`, that of the machine.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    line: Vec<u8>,
    sync: bool,
}

impl Log {
    pub(super) fn append_to(path: &Path, sync: bool) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { file, line: Vec::new(), sync })
    }

    pub(super) fn write(&mut self, entry: &Entry) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, entry)?;
        self.line.push(b'\n');
        self.file.write_all(&self.line)?;
        if self.sync { self.file.sync_data() } else { Ok(()) }
    }
}

/// Reads a file; for each number the last line counts.
pub(super) fn load(path: &Path) -> io::Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut lines = BufReader::new(File::open(path)?).lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        let line = line?;
        let entry: Entry = match serde_json::from_str(&line) {
            Ok(entry) => entry,
            // The writer died within its last line.
            Err(bad) if lines.peek().is_none() && bad.is_eof() => break,
            Err(bad) => return Err(invalid(&format!("line {}: {bad}", number + 1))),
        };
        let at = usize::try_from(entry.seq).map_err(|_| invalid("a number out of range"))?;
        match at.cmp(&entries.len()) {
            std::cmp::Ordering::Less => entries[at] = entry,
            std::cmp::Ordering::Equal => entries.push(entry),
            std::cmp::Ordering::Greater => {
                return Err(invalid(&format!(
                    "line {}: entry {at} without those before",
                    number + 1
                )));
            }
        }
    }
    Ok(entries)
}

/// Writes a file anew.
pub(super) fn save(path: &Path, entries: &[Entry]) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for entry in entries {
        serde_json::to_writer(&mut file, entry)?;
        file.write_all(b"\n")?;
    }
    file.flush()
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

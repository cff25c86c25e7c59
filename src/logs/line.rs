//! One event, one line: of bounded length, and without characters that do something to whoever looks
//! at it.

use std::io::{self, Write};

use tracing_appender::non_blocking::NonBlocking;
use tracing_subscriber::fmt::MakeWriter;

use crate::limits;

/// What lines look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Plain,
    /// Plain, with colours of our own, which begin with an escape character.
    Coloured,
}

/// Passes lines on to the thread that writes them.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    writer: NonBlocking,
    form: Form,
}

impl Lines {
    pub(super) fn new(writer: NonBlocking, form: Form) -> Self {
        Self { writer, form }
    }
}

impl<'w> MakeWriter<'w> for Lines {
    type Writer = Lines;

    fn make_writer(&'w self) -> Lines {
        self.clone()
    }
}

impl Write for Lines {
    /// An event comes in one piece.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        match mended(event, self.form) {
            None => self.writer.write_all(event)?,
            Some(line) => self.writer.write_all(&line)?,
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The line that an event becomes; `None` where it is one already.
fn mended(event: &[u8], form: Form) -> Option<Vec<u8>> {
    let text = String::from_utf8_lossy(event);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let fits = event.len() <= limits::LOG_LINE_BYTES_MAX;
    if fits && !text.contains(|character| does_something(character, form)) {
        return None;
    }
    if form == Form::Json && !fits {
        // Half an object is none.
        let note = serde_json::json!({
            "level": "WARN",
            "message": "a line was too long for the log",
            "bytes": event.len(),
        });
        return Some(format!("{note}\n").into_bytes());
    }
    let mut line = String::with_capacity(event.len());
    for character in text.chars() {
        if line.len() >= limits::LOG_LINE_BYTES_MAX {
            line.push('…');
            break;
        }
        if does_something(character, form) {
            // All of them have four digits at most.
            line.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            line.push(character);
        }
    }
    line.push('\n');
    Some(line.into_bytes())
}

/// Controls of both sets, and what turns the direction of writing or ends a line elsewhere.
fn does_something(character: char, form: Form) -> bool {
    let ours = form == Form::Coloured && character == '\u{1b}';
    let turns = matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    !ours && (character.is_control() || turns)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that a line that is fine stays as it is, that one that would do something is one
    /// harmless line afterwards, in JSON still the same value, and that none is too long.
    #[test]
    fn lines() {
        for form in [Form::Json, Form::Plain, Form::Coloured] {
            assert_eq!(mended("level=info möchte «gern»\n".as_bytes(), form), None);
        }
        assert_eq!(mended(b"\x1b[32mINFO\x1b[0m x\n", Form::Coloured), None);
        let bad = "a\nlevel=error forged\r\u{1b}[2J\u{202e}\u{9b}b\n";
        let line = String::from_utf8(mended(bad.as_bytes(), Form::Plain).unwrap()).unwrap();
        assert_eq!(line, "a\\u000alevel=error forged\\u000d\\u001b[2J\\u202e\\u009bb\n");
        let value = serde_json::json!({ "path": "a\u{202e}b\u{9b}\n" });
        let line = mended(format!("{value}\n").as_bytes(), Form::Json).unwrap();
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&line).unwrap(), value);
        assert!(!String::from_utf8(line).unwrap().contains('\u{202e}'));
        let long = "x".repeat(limits::LOG_LINE_BYTES_MAX * 2);
        let cut = mended(long.as_bytes(), Form::Plain).unwrap();
        assert!(cut.len() < limits::LOG_LINE_BYTES_MAX + 8 && cut.ends_with("…\n".as_bytes()));
        let note = mended(long.as_bytes(), Form::Json).unwrap();
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&note).unwrap()["bytes"],
            long.len()
        );
    }
}

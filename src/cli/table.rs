//! Tables for people.

use super::say;
use comfy_table::{CellAlignment, Table, presets};

/// Prints rows under headings. Columns named in `right` are set to the right.
pub(super) fn print(headings: &[&str], right: &[usize], rows: Vec<Vec<String>>) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headings);
    table.add_rows(rows);
    for column in right {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    say!("{}", table.trim_fmt());
}

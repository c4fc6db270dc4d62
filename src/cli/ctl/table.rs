//! Tables for people: aligned, and no wider than their content. Also how times, sizes and counts are written.
//!
//! All commands that print for people use these functions, so that the same number looks the same everywhere. Programs
//! should ask with `--json`, because tables can change with any version.

use crate::base::text::printable;
use crate::cli::paint::{Paint, Tone};

/// One cell of a table.
#[derive(Clone, Debug)]
pub(super) struct TableCell {
    /// What stands in it, printable.
    text: String,
    /// Its colour.
    tone: Option<Tone>,
    /// Aligned right.
    right: bool,
}

/// A cell with text, aligned left. Control characters in it are escaped, because names and reasons come from outside.
pub(super) fn text(text: impl Into<String>) -> TableCell {
    TableCell { text: printable(&text.into()).into_owned(), tone: None, right: false }
}

/// A cell with a number or an amount, aligned right.
pub(super) fn number(number: impl ToString) -> TableCell {
    TableCell { text: number.to_string(), tone: None, right: true }
}

impl TableCell {
    /// The same cell, coloured.
    pub(super) fn tone(self, tone: Tone) -> TableCell {
        TableCell { tone: Some(tone), ..self }
    }

    /// Its text, printable.
    pub(super) fn into_text(self) -> String {
        self.text
    }

    /// The same cell, dim if `is_so`: there is nothing to see.
    pub(super) fn dim_if(self, is_so: bool) -> TableCell {
        if is_so { self.tone(Tone::Dim) } else { self }
    }
}

/// A table: a heading, and rows with as many cells. A column is aligned as the cell in its first row.
pub(super) fn table(heading: &[&str], rows: &[Vec<TableCell>], paint: Paint) -> String {
    let width = |column: usize, name: &str| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.text.chars().count());
        cells.chain([name.chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = heading.iter().enumerate().map(|(column, name)| width(column, name)).collect();
    let is_right = |column: usize| rows.first().and_then(|row| row.get(column)).is_some_and(|cell| cell.right);
    let names = heading.iter().enumerate();
    let first =
        names.map(|(column, name)| TableCell { right: is_right(column), ..text(*name).tone(Tone::Dim) }).collect();
    let line = |row: &Vec<TableCell>| {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let blanks = " ".repeat(width - cell.text.chars().count());
            let shown = cell.tone.map_or(cell.text.clone(), |tone| paint.tone(tone, &cell.text));
            line += if column > 0 { "  " } else { "" };
            line += &if cell.right { blanks + &shown } else { shown + &blanks };
        }
        line.trim_end().to_string() + "\n"
    };
    std::iter::once(&first).chain(rows).map(line).collect()
}

/// A span of time as people say it: at most two units, such as `2h 5m`.
pub(in crate::cli) fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    let pair = |big: u64, unit: &str, small: u64, smaller: &str| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit} {small}{smaller}"),
    };
    match seconds {
        0 => format!("{ms}ms"),
        1..10 => format!("{}.{}s", seconds, ms % 1000 / 100),
        10..60 => format!("{seconds}s"),
        60..3600 => pair(seconds / 60, "m", seconds % 60, "s"),
        3600..86400 => pair(seconds / 3600, "h", seconds % 3600 / 60, "m"),
        _ => pair(seconds / 86400, "d", seconds % 86400 / 3600, "h"),
    }
}

/// A number of bytes with three digits and a binary unit, such as `1.50 MiB`.
pub(in crate::cli) fn bytes(bytes: u64) -> String {
    /// Each is 1024 of the one before.
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut amount, mut unit) = (bytes as f64, 0);
    while amount >= 999.5 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ if amount < 9.995 => format!("{amount:.2} {}", UNITS[unit]),
        _ if amount < 99.95 => format!("{amount:.1} {}", UNITS[unit]),
        _ => format!("{amount:.0} {}", UNITS[unit]),
    }
}

/// A number with its noun: `1 session`, `2 sessions`.
pub(in crate::cli) fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// The tone of a backend's state.
pub(in crate::cli) fn tone_of(state: &str) -> Tone {
    match state {
        "up" => Tone::Good,
        "down" => Tone::Bad,
        "ejected" | "draining" => Tone::Warn,
        _ => Tone::Dim,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_whatever_is_in_them() {
        let rows = [
            vec![text("db/a").tone(Tone::Good), number(5), text("up")],
            vec![text("größer"), number(12_345), text("")],
        ];
        assert_eq!(
            table(&["NAME", "N", "STATE"], &rows, Paint::Plain),
            "NAME        N  STATE\ndb/a        5  up\ngrößer  12345\n"
        );
        assert_eq!(table(&["NAME", "N"], &[], Paint::Plain), "NAME  N\n");
        let painted = table(&["NAME"], &[vec![text("db/a").tone(Tone::Good)]], Paint::Ansi);
        assert!(painted.contains("\x1b[32mdb/a\x1b[0m"), "{painted:?}");
    }

    #[test]
    fn spans_are_short() {
        let shown =
            [0, 340, 1_000, 9_949, 12_345, 60_000, 3_599_000, 3_600_000, 90_000_000, 400 * 86_400_000].map(span);
        assert_eq!(shown, ["0ms", "340ms", "1.0s", "9.9s", "12s", "1m", "59m 59s", "1h", "1d 1h", "400d"]);
    }

    #[test]
    fn amounts_have_three_digits_and_stay_in_order() {
        let shown = [0, 999, 1_000, 1 << 20, 25 << 20, 300 << 30, u64::MAX].map(bytes);
        assert_eq!(shown, ["0 B", "999 B", "0.98 KiB", "1.00 MiB", "25.0 MiB", "300 GiB", "16384 PiB"]);
    }
}

//! Columns aligned by spaces, laid out as podman's.

use std::io::{self, Write};

use super::escape;

/// The least width of a column, its two spaces of distance included; podman's figure.
const LEAST_WIDTH: usize = 12;
/// Spaces between the widest cell of a column and the next column.
const DISTANCE: usize = 2;

/// Rows of text under a header. Cells are escaped when they are added.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table whose header is printed even when no row follows.
    pub fn with_header<T: AsRef<str>>(header: impl IntoIterator<Item = T>) -> Self {
        let mut table = Self::default();
        table.row(header);
        table
    }

    /// Adds a row; it may be shorter than the header.
    pub fn row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(|cell| escape(cell.as_ref()).into_owned()).collect());
    }

    /// Writes the rows, each ended by a line feed. The last cell of a row is not padded, so no line ends in spaces.
    pub fn write(&self, writer: &mut impl Write) -> io::Result<()> {
        let widths = self.widths();
        for row in &self.rows {
            let Some((last, padded)) = row.split_last() else {
                writeln!(writer)?;
                continue;
            };
            for (cell, width) in padded.iter().zip(&widths) {
                write!(writer, "{cell:width$}")?;
            }
            writeln!(writer, "{last}")?;
        }
        Ok(())
    }

    /// The width of each column in characters; a row's last cell does not count, nothing stands to its right.
    fn widths(&self) -> Vec<usize> {
        let mut widths = Vec::new();
        for row in &self.rows {
            for (column, cell) in row.iter().rev().skip(1).rev().enumerate() {
                if column == widths.len() {
                    widths.push(LEAST_WIDTH);
                }
                widths[column] = widths[column].max(cell.chars().count() + DISTANCE);
            }
        }
        widths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(table: &Table) -> String {
        let mut text = Vec::new();
        table.write(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn columns_are_laid_out_as_podman_does() {
        let mut table = Table::with_header(["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
        assert_eq!(written(&table), "REPOSITORY  TAG         IMAGE ID    CREATED     SIZE\n");
        table.row(["<none>", "<none>", "b87a3e398281", "Less than a second ago", "11.3 kB"]);
        table.row(["localhost:5000/some/long/name", "latest", "db9d92251e6a", "1 second ago", "11.5 kB"]);
        // Printed by podman 4.3.1 images.
        assert_eq!(
            written(&table),
            "REPOSITORY                     TAG         IMAGE ID      CREATED                 SIZE\n\
             <none>                         <none>      b87a3e398281  Less than a second ago  11.3 kB\n\
             localhost:5000/some/long/name  latest      db9d92251e6a  1 second ago            11.5 kB\n"
        );
    }

    #[test]
    fn a_cell_cannot_break_out_of_its_row() {
        let mut table = Table::with_header(["NAME", "SIZE"]);
        table.row(["a\nfake", "\u{1b}[2J"]);
        assert_eq!(written(&table), "NAME        SIZE\na\\nfake     \\x1b[2J\n");
    }

    #[test]
    fn wide_letters_count_once_and_short_rows_are_allowed() {
        let mut table = Table::with_header(["NAME", "SIZE"]);
        table.row(["ééééééééééé", "1 B"]);
        table.row(["only"]);
        table.row(Vec::<String>::new());
        assert_eq!(written(&table), "NAME         SIZE\nééééééééééé  1 B\nonly\n\n");
    }
}

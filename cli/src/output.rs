//! What the commands print on standard output: tables as podman prints them, JSON, or the user's own template.
//!
//! Names, tags, labels and paths come from images, so from strangers: [`escape`] keeps their control characters off
//! the terminal.

mod escape;
mod human;
mod table;

use std::io::{self, Write};

use serde_json::Value;

pub use escape::{escape, escape_bytes, escape_value};
pub use human::{ago, duration, parse_rfc3339, rfc3339, short_id, size, timestamp};
pub use table::Table;

use crate::template::{Template, TemplateError};

/// What a `--format` argument asks for.
#[derive(Debug)]
pub enum Format {
    /// `json`: everything known, as one JSON array or object.
    Json,
    /// `table TEMPLATE`: aligned columns under a header line.
    Table(Template),
    /// Any other text: the template once for each item, each on a line of its own.
    Template(Template),
}

impl Format {
    /// Reads the argument of `--format`. As for podman `\t` and `\n` stand for a tab and a line feed.
    ///
    /// Errors: the template has a mistake; the error is one line and says where.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.trim() == "json" {
            return Ok(Self::Json);
        }
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        match text.strip_prefix("table ") {
            Some(columns) => Ok(Self::Table(Template::parse(columns.trim_start())?)),
            None => Ok(Self::Template(Template::parse(&text)?)),
        }
    }
}

/// Failure to print.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The template does not fit the data.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// Standard output cannot be written.
    #[error("cannot write the output")]
    Write(#[source] io::Error),
}

impl From<io::Error> for OutputError {
    fn from(source: io::Error) -> Self {
        Self::Write(source)
    }
}

/// A writer for standard output that knows whether a terminal shows it.
#[derive(Debug)]
pub struct Output<W> {
    writer: W,
    is_terminal: bool,
}

impl<W: Write> Output<W> {
    /// Writes to `writer`. On a terminal (`is_terminal`) templates print escaped data; a script that reads a pipe gets
    /// the exact bytes.
    pub fn new(writer: W, is_terminal: bool) -> Self {
        Self { writer, is_terminal }
    }

    /// One line, escaped: an id, a name, a path.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.writer, "{}", escape(text))
    }

    /// A finished table.
    pub fn table(&mut self, table: &Table) -> io::Result<()> {
        table.write(&mut self.writer)
    }

    /// `value` as indented JSON. Control characters in strings are written as JSON escapes, so the text is safe on a
    /// terminal and still the same value.
    pub fn json(&mut self, value: &Value) -> io::Result<()> {
        escape::write_json(value, &mut self.writer)?;
        writeln!(self.writer)
    }

    /// `items` as `format` asks: an array for JSON, else a line for each.
    ///
    /// `headers` are the titles of `table` columns that are not just the name of the field: pairs of field and title.
    pub fn list(&mut self, items: &[Value], format: &Format, headers: &[(&str, &str)]) -> Result<(), OutputError> {
        match format {
            Format::Json => Ok(self.json(&Value::Array(items.to_vec()))?),
            Format::Table(template) => {
                let mut table = Table::with_header(template.header(headers).split('\t'));
                for item in items {
                    table.row(template.render(item)?.split('\t'));
                }
                Ok(self.table(&table)?)
            }
            Format::Template(template) => {
                for item in items {
                    self.rendered(template, item)?;
                }
                Ok(())
            }
        }
    }

    /// One `item` as `format` asks: an object for JSON.
    pub fn item(&mut self, item: &Value, format: &Format) -> Result<(), OutputError> {
        match format {
            Format::Json => Ok(self.json(item)?),
            Format::Table(_) | Format::Template(_) => self.list(std::slice::from_ref(item), format, &[]),
        }
    }

    /// Passes buffered output on.
    pub fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }

    fn rendered(&mut self, template: &Template, item: &Value) -> Result<(), OutputError> {
        let text = if self.is_terminal { template.render(&escape_value(item))? } else { template.render(item)? };
        self.writer.write_all(text.as_bytes())?;
        if !text.ends_with('\n') {
            self.writer.write_all(b"\n")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn printed(format: &str, items: &[Value], is_terminal: bool) -> String {
        let mut output = Output::new(Vec::new(), is_terminal);
        output.list(items, &Format::parse(format).unwrap(), &[("ID", "IMAGE ID")]).unwrap();
        String::from_utf8(output.writer).unwrap()
    }

    fn images() -> Vec<Value> {
        vec![
            json!({"ID": "db9d92251e6a", "Tag": "1", "Repository": "localhost/foo"}),
            json!({"ID": "b87a3e398281", "Tag": "<none>", "Repository": "<none>"}),
        ]
    }

    #[test]
    fn a_template_prints_a_line_for_each_item() {
        assert_eq!(printed("{{.ID}}\\t{{.Tag}}", &images(), false), "db9d92251e6a\t1\nb87a3e398281\t<none>\n");
        assert_eq!(printed("{{.Tag}}\\n", &images()[..1], false), "1\n");
    }

    #[test]
    fn a_table_template_prints_podmans_header_and_columns() {
        assert_eq!(
            printed("table {{.ID}}\\t{{.Tag}} {{.Repository}}", &images(), false),
            "IMAGE ID      TAG REPOSITORY\n\
             db9d92251e6a  1 localhost/foo\n\
             b87a3e398281  <none> <none>\n"
        );
    }

    #[test]
    fn json_is_an_array_of_the_items() {
        let text = printed(" json ", &images(), false);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), Value::Array(images()));
        assert!(text.starts_with("[\n    {\n        \"ID\""));
        assert_eq!(printed("json", &[], false), "[]\n");
    }

    #[test]
    fn escape_codes_in_a_label_reach_a_pipe_but_no_terminal() {
        let item = [json!({"Label": "\u{1b}[2Jx"})];
        assert_eq!(printed("{{.Label}}", &item, false), "\u{1b}[2Jx\n");
        assert_eq!(printed("{{.Label}}", &item, true), "\\x1b[2Jx\n");
        assert_eq!(printed("table {{.Label}}", &item, false), "LABEL\n\\x1b[2Jx\n");
        assert_eq!(printed("json", &item, false), "[\n    {\n        \"Label\": \"\\u001b[2Jx\"\n    }\n]\n");
    }

    #[test]
    fn a_template_that_does_not_fit_is_an_error() {
        let mut output = Output::new(Vec::new(), false);
        let format = Format::parse("{{.Bogus}}").unwrap();
        let error = output.list(&images(), &format, &[]).unwrap_err();
        assert_eq!(error.to_string(), "template: <.Bogus>: there is no field Bogus; fields are ID, Repository, Tag");
    }
}

//! The part of Go's text/template language that `--format` arguments use, over JSON values.
//!
//! ```text
//! text -> lexer -> parser -> Template (checked: functions and variables exist) -> evaluate (with a value) -> text
//! ```
//!
//! Supported: fields, variables, pipelines, parentheses, `if`, `range`, `with`, `break`, `continue`, comments, trim
//! markers, the comparison and logic functions, `index`, `slice`, `len`, `print`, `printf`, `println`, and of podman's
//! additions `json`, `join`, `split`, `lower`, `upper`, `title`, `pad`, `truncate`. Not supported: `define`,
//! `template`, `block`, and methods, which JSON values do not have.
//!
//! Go tells structs, whose unknown fields are errors, from maps, whose unknown keys are not. JSON has objects only; one
//! whose names all begin with an upper-case letter counts as a struct here, so that a misspelt field is an error and a
//! missing label is not.

mod evaluate;
mod format;
mod functions;
mod lexer;
mod parser;

use serde_json::Value;

use parser::{Node, Operand, Pipeline};

/// A template that was read and checked, to be rendered any number of times.
#[derive(Clone, Debug)]
pub struct Template {
    nodes: Vec<Node>,
}

/// Why a template cannot be used. The text is one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The text is no template.
    #[error("template: {problem} at column {column}")]
    Syntax {
        /// The place, in characters from 1.
        column: usize,
        /// What is wrong there.
        problem: String,
    },
    /// The template does not fit the value it is rendered with.
    #[error("template: <{action}>: {problem}")]
    Evaluation {
        /// The text of the part that failed.
        action: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Template {
    /// Reads a template. Errors: the text is not well formed, or uses an unknown function or variable.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        Ok(Self { nodes: parser::parse(text)? })
    }

    /// The text that the template makes of `value`, which is its `.`. Errors: a field that does not exist, or an
    /// argument that a function cannot take.
    pub fn render(&self, value: &Value) -> Result<String, TemplateError> {
        evaluate::render(&self.nodes, value)
    }

    /// The header of the columns that the template prints: each action replaced by the name of its field in capitals,
    /// `{{.CreatedAt}}` by `CREATED AT`. `names` overrides: pairs of a field and its header.
    pub fn header(&self, names: &[(&str, &str)]) -> String {
        let mut header = String::new();
        for node in &self.nodes {
            match node {
                Node::Text(text) => header.push_str(text),
                Node::Action(pipeline) => {
                    if let Some(field) = first_field(pipeline) {
                        header.push_str(&column_name(field, names));
                    }
                }
                _ => {}
            }
        }
        header
    }
}

/// The last name of the first field that a pipeline looks up.
fn first_field(pipeline: &Pipeline) -> Option<&str> {
    let mut operands = pipeline.commands.iter().flat_map(|command| &command.operands);
    operands.find_map(|operand| match operand {
        Operand::Field(names) => names.last().map(String::as_str),
        Operand::Group(group, names) => names.last().map(String::as_str).or_else(|| first_field(group)),
        _ => None,
    })
}

fn column_name(field: &str, names: &[(&str, &str)]) -> String {
    if let Some((_, header)) = names.iter().find(|(name, _)| *name == field) {
        return (*header).to_owned();
    }
    let mut header = String::new();
    let mut after_lower = false;
    for character in field.chars() {
        if after_lower && character.is_uppercase() {
            header.push(' ');
        }
        after_lower = character.is_lowercase();
        header.extend(character.to_uppercase());
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn container() -> Value {
        json!({
            "ID": "4c0b0a5a1e59",
            "Image": "docker.io/library/debian:12",
            "Names": "box",
            "Status": "Up 2 hours",
            "Labels": "manager=distrobox",
            "Mounts": "/tmp",
            "State": {"Status": "running"},
            "Config": {
                "Labels": {"distrobox.unshare_groups": "0", "manager": "distrobox"},
                "Env": ["HOMELESS=1", "PATH=/usr/bin:/bin", "HOME=/home/u \"q\"", "A=1"],
            },
        })
    }

    fn rendered(template: &str) -> String {
        Template::parse(template).unwrap().render(&container()).unwrap()
    }

    #[test]
    fn distrobox_asks_for_status_and_id() {
        assert_eq!(rendered("{{.State.Status}}"), "running");
        assert_eq!(rendered("{{.ID}}"), "4c0b0a5a1e59");
    }

    #[test]
    fn distrobox_asks_for_a_label_that_may_be_missing() {
        let template = Template::parse("{{ index .Config.Labels \"distrobox.unshare_groups\" }}").unwrap();
        assert_eq!(template.render(&container()).unwrap(), "0");
        for labels in [json!({}), json!({"other": "x"}), Value::Null] {
            let other = json!({"Config": {"Labels": labels}});
            assert_eq!(template.render(&other).unwrap(), "");
        }
    }

    #[test]
    fn distrobox_finds_the_home_directory_in_the_environment() {
        assert_eq!(
            rendered(
                r#"{{range .Config.Env}}{{if and (ge (len .) 5) (eq (slice . 0 5) "HOME=")}}{{slice . 5}}{{end}}{{end}}"#
            ),
            "/home/u \"q\""
        );
    }

    #[test]
    fn distrobox_enter_evaluates_four_lines_in_a_shell() {
        let template = r#"container_status={{.State.Status}};
unshare_groups={{ index .Config.Labels "distrobox.unshare_groups" }};
{{range .Config.Env}}{{if and (ge (len .) 5) (eq (slice . 0 5) "HOME=")}}container_home={{slice . 5 | printf "%q"}}{{end}}{{end}};
{{range .Config.Env}}{{if and (ge (len .) 5) (eq (slice . 0 5) "PATH=")}}container_path={{slice . 5 | printf "%q"}}{{end}}{{end}}"#;
        assert_eq!(
            rendered(template),
            "container_status=running;\n\
             unshare_groups=0;\n\
             container_home=\"/home/u \\\"q\\\"\";\n\
             container_path=\"/usr/bin:/bin\""
        );
    }

    #[test]
    fn distrobox_lists_containers() {
        assert_eq!(
            rendered("{{.ID}}|{{.Image}}|{{.Names}}|{{.Status}}|{{.Labels}}{{.Mounts}}"),
            "4c0b0a5a1e59|docker.io/library/debian:12|box|Up 2 hours|manager=distrobox/tmp"
        );
        let line = rendered("{{json .}}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), container());
        assert!(!line.contains('\n'));
    }

    #[test]
    fn headers_are_the_names_of_the_fields() {
        let header = |text| Template::parse(text).unwrap().header(&[("ID", "IMAGE ID")]);
        assert_eq!(
            header("{{.ID}}\t{{.CreatedAt}} {{.Repository | upper}}\t{{(index .A.Layers 0)}}{{json .}}"),
            "IMAGE ID\tCREATED AT REPOSITORY\tLAYERS"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(words in proptest::collection::vec(
            proptest::sample::select(vec![
                "{{", "}}", "{{-", "-}}", " ", ".", ".Config", ".Env", "$", "$x", ":=", "=", "|", ",", "(", ")", "if ",
                "range ", "with ", "else", "end", "index ", "slice ", "printf ", "\"%[1]d\"", "\"%q é\"", "é", "'", "`",
                "1", "-9223372036854775808", "1e308", "0x", "nil", "break", "and ", "eq ", "/*", "*/", "\\", "pad ",
            ]), 0..24,
        )) {
            if let Ok(template) = Template::parse(&words.concat()) {
                let _ = template.render(&container());
                let _ = template.header(&[]);
            }
        }
    }
}

//! Nodes + value -> text.

use serde_json::{Map, Value};

use super::TemplateError;
use super::format::display;
use super::functions::Function;
use super::parser::{Branch, Command, Node, Operand, Pipeline};

/// Renders `nodes` with `root` as `.` and `$`.
pub(super) fn render(nodes: &[Node], root: &Value) -> Result<String, TemplateError> {
    let mut evaluator = Evaluator { output: String::new(), variables: vec![(String::new(), root.clone())] };
    evaluator.nodes(nodes, root)?;
    Ok(evaluator.output)
}

/// What a block wants of the loop around it.
#[derive(PartialEq)]
enum Flow {
    Next,
    Break,
    Continue,
}

struct Evaluator {
    output: String,
    /// Variables in scope, innermost last.
    variables: Vec<(String, Value)>,
}

impl Evaluator {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, TemplateError> {
        for node in nodes {
            let flow = match node {
                Node::Text(text) => {
                    self.output.push_str(text);
                    Flow::Next
                }
                Node::Action(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    if pipeline.variables.is_empty() {
                        self.print(&value);
                    }
                    Flow::Next
                }
                Node::If(branch) => self.scoped(|evaluator| {
                    let value = evaluator.pipeline(&branch.pipeline, dot)?;
                    evaluator.nodes(branch.chosen(&value), dot)
                })?,
                Node::With(branch) => self.scoped(|evaluator| {
                    let value = evaluator.pipeline(&branch.pipeline, dot)?;
                    let chosen = branch.chosen(&value);
                    let dot = if is_true(&value) { &value } else { dot };
                    evaluator.nodes(chosen, dot)
                })?,
                Node::Range(branch) => self.scoped(|evaluator| evaluator.range(branch, dot))?,
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
            };
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn range(&mut self, branch: &Branch, dot: &Value) -> Result<Flow, TemplateError> {
        // The variables of a range take the elements, not the collection.
        let collection = self.commands(&branch.pipeline, dot)?;
        let elements: Vec<(Value, &Value)> = match &collection {
            Value::Array(items) => (0_u64..).map(Value::from).zip(items).collect(),
            Value::Object(fields) => {
                sorted(fields).into_iter().map(|(name, value)| (Value::from(name), value)).collect()
            }
            Value::Null => Vec::new(),
            other => {
                return Err(failure(
                    &branch.pipeline.commands[0].text,
                    format!("range can't iterate over {}", display(other)),
                ));
            }
        };
        if elements.is_empty() {
            return self.nodes(&branch.otherwise, dot);
        }
        for (key, element) in elements {
            let flow = self.scoped(|evaluator| {
                match branch.pipeline.variables.as_slice() {
                    [] => {}
                    [one] => evaluator.set(one, element.clone(), branch.pipeline.declares),
                    [index, one, ..] => {
                        evaluator.set(index, key, branch.pipeline.declares);
                        evaluator.set(one, element.clone(), branch.pipeline.declares);
                    }
                }
                evaluator.nodes(&branch.body, element)
            })?;
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::Next)
    }

    /// Runs `block`, after which the variables it declared are gone.
    fn scoped(&mut self, block: impl FnOnce(&mut Self) -> Result<Flow, TemplateError>) -> Result<Flow, TemplateError> {
        let outer = self.variables.len();
        let flow = block(self);
        self.variables.truncate(outer);
        flow
    }

    /// The value of a pipeline, which its variable, if any, has then too.
    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let value = self.commands(pipeline, dot)?;
        if let Some(name) = pipeline.variables.first() {
            self.set(name, value.clone(), pipeline.declares);
        }
        Ok(value)
    }

    fn commands(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let mut value = None;
        for command in &pipeline.commands {
            value = Some(self.command(command, value, dot)?);
        }
        Ok(value.unwrap_or_default())
    }

    /// The value of a command that is given that of the command before it.
    fn command(&mut self, command: &Command, piped: Option<Value>, dot: &Value) -> Result<Value, TemplateError> {
        let Some((first, arguments)) = command.operands.split_first() else {
            return Ok(Value::Null);
        };
        match first {
            Operand::Function(function @ (Function::And | Function::Or)) => self.logic(*function, command, piped, dot),
            Operand::Function(function) => {
                let mut values = Vec::with_capacity(arguments.len() + 1);
                for argument in arguments {
                    values.push(self.operand(argument, &command.text, dot)?);
                }
                values.extend(piped);
                function.call(&values).map_err(|problem| failure(&command.text, problem))
            }
            Operand::Nil => Err(failure(&command.text, "nil is not a command")),
            _ if !arguments.is_empty() || piped.is_some() => {
                Err(failure(&command.text, "can't give an argument to what is no function"))
            }
            operand => self.operand(operand, &command.text, dot),
        }
    }

    /// `and` and `or` evaluate only as many arguments as decide; the last one looked at is their value.
    fn logic(
        &mut self,
        function: Function,
        command: &Command,
        piped: Option<Value>,
        dot: &Value,
    ) -> Result<Value, TemplateError> {
        let mut last = None;
        for argument in &command.operands[1..] {
            let value = self.operand(argument, &command.text, dot)?;
            if is_true(&value) == (function == Function::Or) {
                return Ok(value);
            }
            last = Some(value);
        }
        piped.or(last).ok_or_else(|| {
            failure(&command.text, format!("wrong number of args for {}: want at least 1 got 0", function.name()))
        })
    }

    fn operand(&mut self, operand: &Operand, text: &str, dot: &Value) -> Result<Value, TemplateError> {
        match operand {
            Operand::Literal(value) => Ok(value.clone()),
            Operand::Nil => Ok(Value::Null),
            Operand::Field(names) => follow(dot, names, text),
            Operand::Variable(name, names) => match self.variable(name) {
                Some(index) => follow(&self.variables[index].1, names, text),
                None => Ok(Value::Null),
            },
            Operand::Function(function) => function.call(&[]).map_err(|problem| failure(text, problem)),
            Operand::Group(pipeline, names) => {
                let value = self.pipeline(pipeline, dot)?;
                follow(&value, names, text)
            }
        }
    }

    fn variable(&self, name: &str) -> Option<usize> {
        self.variables.iter().rposition(|(known, _)| known == name)
    }

    fn set(&mut self, name: &str, value: Value, declares: bool) {
        match self.variable(name) {
            Some(index) if !declares => self.variables[index].1 = value,
            _ => self.variables.push((name.to_owned(), value)),
        }
    }

    fn print(&mut self, value: &Value) {
        match value {
            Value::Null => self.output.push_str("<no value>"),
            other => self.output.push_str(&display(other)),
        }
    }
}

impl Branch {
    fn chosen(&self, value: &Value) -> &[Node] {
        if is_true(value) { &self.body } else { &self.otherwise }
    }
}

/// The value that `names` lead to from `value`.
fn follow(value: &Value, names: &[String], text: &str) -> Result<Value, TemplateError> {
    let mut value = value;
    for name in names {
        value = match value {
            Value::Object(fields) => match fields.get(name) {
                Some(field) => field,
                None if is_struct(fields) => {
                    let known: Vec<_> = sorted(fields).into_iter().map(|(name, _)| name).collect();
                    return Err(failure(text, format!("there is no field {name}; fields are {}", known.join(", "))));
                }
                None => return Ok(Value::Null),
            },
            Value::Null => return Ok(Value::Null),
            other => {
                return Err(failure(
                    text,
                    format!("can't evaluate field {name} in type {}", super::format::type_name(other)),
                ));
            }
        };
    }
    Ok(value.clone())
}

/// Whether an object stands for a Go struct: all its names begin with a capital.
fn is_struct(fields: &Map<String, Value>) -> bool {
    !fields.is_empty() && fields.keys().all(|name| name.starts_with(|first: char| first.is_ascii_uppercase()))
}

/// The fields of an object by name, which is the order in which Go walks through a map.
pub(super) fn sorted(fields: &Map<String, Value>) -> Vec<(&str, &Value)> {
    let mut sorted: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value)).collect();
    sorted.sort_by_key(|(name, _)| *name);
    sorted
}

/// Go's truth: everything but false, zero, nil and the empty string, list or map.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

fn failure(action: &str, problem: impl Into<String>) -> TemplateError {
    TemplateError::Evaluation {
        action: action.split_whitespace().collect::<Vec<_>>().join(" "),
        problem: problem.into(),
    }
}

#[cfg(test)]
mod tests {
    use crate::template::Template;
    use serde_json::{Value, json};

    fn data() -> Value {
        json!({
            "ID": "db9d92251e6a",
            "Size": 11472,
            "Config": {"Env": ["A=b c", "Q="], "Labels": {"blue": "image", "a": "z"}, "Cmd": null},
            "RootFS": {"Type": "layers", "Layers": ["sha256:9fee"]},
        })
    }

    fn rendered(text: &str) -> Result<String, String> {
        Template::parse(text).and_then(|template| template.render(&data())).map_err(|error| error.to_string())
    }

    fn check(cases: &[(&str, &str)]) {
        for (text, expected) in cases {
            assert_eq!(rendered(text).as_deref(), Ok(*expected), "{text}");
        }
    }

    // The expected texts of this file and of functions.rs were printed by podman 4.3.1 (Go 1.19).

    #[test]
    fn values_print_as_in_go() {
        check(&[
            ("{{.ID}}", "db9d92251e6a"),
            ("{{.Size}}", "11472"),
            ("{{.Config.Labels}}", "map[a:z blue:image]"),
            ("{{.Config.Env}}", "[A=b c Q=]"),
            ("{{.Config.Labels.nope}}", "<no value>"),
            ("{{.Config.Cmd.x}}", "<no value>"),
            ("{{1.5}} {{100000000}} {{1e30}} {{1e20}} {{0.00001}}", "1.5 100000000 1e+30 1e+20 1e-05"),
            ("{{1.0}} {{1e3}} {{1e21}} {{123456789.5}} {{-0.5}}", "1 1000 1e+21 1.234567895e+08 -0.5"),
            ("{{'a'}} {{0x1F}} {{1_000}} {{true}}", "97 31 1000 true"),
            ("x{{/*c*/}}", "x"),
        ]);
    }

    #[test]
    fn blocks_choose_and_repeat() {
        check(&[
            ("{{if eq \"a\" \"b\"}}x{{else if 1}}y{{end}}", "y"),
            ("{{if .Config.Cmd}}x{{else}}y{{end}}", "y"),
            ("{{if 0}}a{{else if \"\"}}b{{else}}c{{end}}", "c"),
            ("{{if not (eq 1 2)}}x{{end}}", "x"),
            ("{{with $x := 5}}{{$x}}{{.}}{{end}}", "55"),
            ("{{with .Config}}{{.Env}}{{$.ID}}{{end}}", "[A=b c Q=]db9d92251e6a"),
            ("{{with .Config.Cmd}}x{{else}}{{.ID}}{{end}}", "db9d92251e6a"),
            ("{{range .Config.Env}}<{{.}}>{{end}}", "<A=b c><Q=>"),
            ("{{range $i, $e := .Config.Env}}{{$i}}={{$e}};{{end}}", "0=A=b c;1=Q=;"),
            ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}", "a=z;blue=image;"),
            ("{{range $e := .Config.Labels}}{{$e}};{{end}}", "z;image;"),
            ("{{range .Config.Cmd}}x{{else}}none{{end}}", "none"),
            ("{{range split \"a b c\" \" \"}}{{if eq . \"b\"}}{{continue}}{{end}}{{.}}{{end}}", "ac"),
            ("{{range split \"a b c\" \" \"}}{{if eq . \"b\"}}{{break}}{{end}}{{.}}{{end}}", "a"),
        ]);
    }

    #[test]
    fn variables_belong_to_their_block() {
        check(&[
            ("{{$a := 1}}{{if true}}{{$a = 2}}{{end}}{{$a}}", "2"),
            ("{{$a := 1}}{{if true}}{{$a := 2}}{{$a}}{{end}}{{$a}}", "21"),
            ("{{$a := 0}}{{range .Config.Env}}{{$a = .}}{{end}}{{$a}}", "Q="),
            ("{{$.Config.Env}}", "[A=b c Q=]"),
        ]);
    }

    #[test]
    fn pipelines_hand_values_on() {
        check(&[
            ("{{.ID | upper}}", "DB9D92251E6A"),
            ("{{(index .RootFS.Layers 0) | len}}", "11"),
            ("{{\"a\" | printf \"%s-%s\" \"b\"}}", "b-a"),
            ("{{split \"a\" \"\" | len}}", "1"),
            ("{{(printf \"%s\" .ID) | printf \"%q\"}}", "\"db9d92251e6a\""),
        ]);
    }

    #[test]
    fn and_and_or_look_no_further_than_they_must() {
        check(&[
            ("{{and 1 0 2}} {{or 0 \"\"}} {{not 1}}", "0  false"),
            ("{{and false (index .Config.Env 9)}}", "false"),
            ("{{or .ID (index .Config.Env 9)}}", "db9d92251e6a"),
            ("{{1 | and 2}}", "1"),
        ]);
        assert!(rendered("{{and true (index .Config.Env 9)}}").is_err());
    }

    #[test]
    fn what_does_not_fit_is_one_line_of_error() {
        for (text, expected) in [
            ("{{.id}}", "<.id>: there is no field id; fields are Config, ID, RootFS, Size"),
            ("{{.ID.X}}", "<.ID.X>: can't evaluate field X in type string"),
            ("{{range 3}}{{end}}", "<3>: range can't iterate over 3"),
            ("{{nil}}", "<nil>: nil is not a command"),
            ("{{\"x\" \"y\"}}", "<\"x\" \"y\">: can't give an argument to what is no function"),
            ("{{and}}", "<and>: wrong number of args for and: want at least 1 got 0"),
            ("{{index\n .Config.Env 5}}", "<index .Config.Env 5>: error calling index: index out of range: 5"),
        ] {
            assert_eq!(rendered(text), Err(format!("template: {expected}")), "{text}");
        }
    }
}

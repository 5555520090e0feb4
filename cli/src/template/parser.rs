//! Tokens -> a tree of nodes, in which every function and variable is known to exist.

use serde_json::Value;

use super::TemplateError;
use super::functions::Function;
use super::lexer::{Action, Piece, Token, TokenKind, split};

/// Parentheses within parentheses, and blocks within blocks, that a template may have: each costs stack.
const MAX_DEPTH: usize = 64;

/// A step of a template.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Text(String),
    Action(Pipeline),
    If(Branch),
    With(Branch),
    Range(Branch),
    Break,
    Continue,
}

/// A block that depends on the value of a pipeline.
#[derive(Clone, Debug)]
pub(super) struct Branch {
    pub(super) pipeline: Pipeline,
    pub(super) body: Vec<Node>,
    pub(super) otherwise: Vec<Node>,
}

/// Commands, each of which gets the value of the one before as its last argument.
#[derive(Clone, Debug)]
pub(super) struct Pipeline {
    /// Variables that take the value: one, or two for `range`.
    pub(super) variables: Vec<String>,
    /// Whether the variables are new (`:=`) or set (`=`).
    pub(super) declares: bool,
    /// At least one.
    pub(super) commands: Vec<Command>,
}

/// An operand, or a function and its arguments.
#[derive(Clone, Debug)]
pub(super) struct Command {
    /// Its text, for error messages.
    pub(super) text: String,
    /// At least one.
    pub(super) operands: Vec<Operand>,
}

/// Something with a value.
#[derive(Clone, Debug)]
pub(super) enum Operand {
    Literal(Value),
    Nil,
    /// Names to follow from `.`; none for `.` itself.
    Field(Vec<String>),
    /// A variable and names to follow from its value; the empty name is `$`.
    Variable(String, Vec<String>),
    Function(Function),
    /// A pipeline in parentheses and names to follow from its value.
    Group(Box<Pipeline>, Vec<String>),
}

/// Reads a whole template.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, TemplateError> {
    let mut parser =
        Parser { pieces: split(text)?.into_iter(), variables: vec![String::new()], range_depth: 0, depth: 0 };
    match parser.block()? {
        (nodes, None) => Ok(nodes),
        (_, Some(terminator)) => Err(terminator.misplaced()),
    }
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    /// Names of the variables in scope.
    variables: Vec<String>,
    range_depth: usize,
    depth: usize,
}

/// `{{end}}` or `{{else …}}`.
struct Terminator {
    is_else: bool,
    action: Action,
}

impl Terminator {
    fn misplaced(&self) -> TemplateError {
        syntax(self.action.column, format!("unexpected {{{{{}}}}}", self.action.text))
    }
}

impl Parser {
    /// Nodes up to the end of the text (`None`) or of the block.
    fn block(&mut self) -> Result<(Vec<Node>, Option<Terminator>), TemplateError> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let action = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(action) => action,
            };
            let keyword = match action.tokens.first().map(|token| &token.kind) {
                Some(TokenKind::Word(word)) => word.clone(),
                _ => String::new(),
            };
            match keyword.as_str() {
                "end" | "else" => {
                    let is_else = keyword == "else";
                    if !is_else && action.tokens.len() > 1 {
                        return Err(syntax(action.column, "unexpected text in {{end}}"));
                    }
                    return Ok((nodes, Some(Terminator { is_else, action })));
                }
                "if" => nodes.push(Node::If(self.branch(&action, 1)?)),
                "with" => nodes.push(Node::With(self.branch(&action, 1)?)),
                "range" => {
                    self.range_depth += 1;
                    nodes.push(Node::Range(self.branch(&action, 1)?));
                    self.range_depth -= 1;
                }
                "break" | "continue" if action.tokens.len() == 1 => {
                    if self.range_depth == 0 {
                        return Err(syntax(action.column, format!("{{{{{keyword}}}}} outside {{{{range}}}}")));
                    }
                    nodes.push(if keyword == "break" { Node::Break } else { Node::Continue });
                }
                "define" | "template" | "block" => {
                    return Err(syntax(action.column, format!("{{{{{keyword}}}}} is not supported")));
                }
                _ => nodes.push(Node::Action(self.action(&action, 0, "command")?)),
            }
        }
        Ok((nodes, None))
    }

    /// The rest of `{{if}}`, `{{with}}`, `{{range}}` or `{{else if}}`, whose pipeline begins at token `first`, up to
    /// its `{{end}}`. Variables declared inside end with it.
    fn branch(&mut self, action: &Action, first: usize) -> Result<Branch, TemplateError> {
        self.descend(action.column)?;
        let scope = self.variables.len();
        let keyword = match action.tokens.get(first - 1).map(|token| &token.kind) {
            Some(TokenKind::Word(word)) => word.clone(),
            _ => String::new(),
        };
        let pipeline = self.action(action, first, &keyword)?;
        if pipeline.variables.len() > 1 && keyword != "range" {
            return Err(syntax(action.column, format!("too many variables for {keyword}")));
        }
        let outer = self.variables.len();
        let (body, terminator) = self.block()?;
        self.variables.truncate(outer);
        let terminator =
            terminator.ok_or_else(|| syntax(action.column, format!("{{{{{keyword}}}}} has no {{{{end}}}}")))?;
        let otherwise = if !terminator.is_else {
            Vec::new()
        } else if terminator.action.tokens.len() == 1 {
            // What follows {{else}} is outside of the loop that {{range}} makes.
            let in_range = usize::from(keyword == "range");
            self.range_depth -= in_range;
            let (nodes, end) = self.block()?;
            self.range_depth += in_range;
            match end {
                Some(end) if !end.is_else => nodes,
                Some(end) => return Err(end.misplaced()),
                None => {
                    return Err(syntax(terminator.action.column, "{{else}} has no {{end}}"));
                }
            }
        } else {
            let follows = match &terminator.action.tokens[1].kind {
                TokenKind::Word(word) => word.as_str(),
                _ => "",
            };
            // {{else if}} and {{else with}} share the {{end}} of the block they continue.
            let branch = match (keyword.as_str(), follows) {
                ("if", "if") => Node::If(self.branch(&terminator.action, 2)?),
                ("with", "with") => Node::With(self.branch(&terminator.action, 2)?),
                _ => return Err(terminator.misplaced()),
            };
            vec![branch]
        };
        self.variables.truncate(scope);
        self.depth -= 1;
        Ok(Branch { pipeline, body, otherwise })
    }

    /// The pipeline that the tokens of `action` from `first` on are.
    fn action(&mut self, action: &Action, first: usize, context: &str) -> Result<Pipeline, TemplateError> {
        let mut tokens = Unread {
            text: &action.text,
            tokens: &action.tokens[first.min(action.tokens.len())..],
            column: action.column,
        };
        let pipeline = self.pipeline(&mut tokens, context)?;
        match tokens.tokens.first() {
            None => Ok(pipeline),
            Some(token) => Err(syntax(token.column, "unexpected ')'")),
        }
    }

    /// A pipeline that ends with the tokens or before a closing parenthesis.
    fn pipeline(&mut self, tokens: &mut Unread<'_>, context: &str) -> Result<Pipeline, TemplateError> {
        let (variables, declares) = self.assignment(tokens, context)?;
        let mut commands = Vec::new();
        loop {
            let command = self.command(tokens, context)?;
            if !commands.is_empty() && !matches!(command.operands[0], Operand::Function(_)) {
                return Err(syntax(tokens.column, format!("non executable command <{}> in a pipeline", command.text)));
            }
            commands.push(command);
            if !tokens.take(&TokenKind::Pipe) {
                break;
            }
        }
        // Only now: $x := $x refers to the outer one.
        if declares {
            self.variables.extend(variables.iter().cloned());
        }
        Ok(Pipeline { variables, declares, commands })
    }

    /// `$x :=`, `$x =` or `$i, $x :=` at the start of a pipeline.
    fn assignment(&mut self, tokens: &mut Unread<'_>, context: &str) -> Result<(Vec<String>, bool), TemplateError> {
        let kinds: Vec<_> = tokens.tokens.iter().take(4).map(|token| &token.kind).collect();
        let (names, sign, length) = match kinds.as_slice() {
            [TokenKind::Variable(one), TokenKind::Comma, TokenKind::Variable(two), sign] => {
                (vec![one.clone(), two.clone()], *sign, 4)
            }
            [TokenKind::Variable(one), sign, ..] => (vec![one.clone()], *sign, 2),
            _ => return Ok((Vec::new(), false)),
        };
        let declares = match sign {
            TokenKind::Declare => true,
            TokenKind::Assign => false,
            _ => return Ok((Vec::new(), false)),
        };
        if names.len() == 2 && context != "range" {
            return Err(syntax(tokens.column, "only range declares two variables"));
        }
        if !declares {
            for name in &names {
                self.known(name, tokens.column)?;
            }
        }
        tokens.tokens = &tokens.tokens[length..];
        Ok((names, declares))
    }

    fn command(&mut self, tokens: &mut Unread<'_>, context: &str) -> Result<Command, TemplateError> {
        let text = tokens.text;
        let before = tokens.tokens;
        let mut operands = Vec::new();
        while let Some(token) = tokens.tokens.first() {
            if matches!(token.kind, TokenKind::Pipe | TokenKind::Close) {
                break;
            }
            if !operands.is_empty() && !token.spaced {
                return Err(syntax(token.column, "operands must be separated by white space"));
            }
            operands.push(self.operand(tokens)?);
        }
        let taken = &before[..before.len() - tokens.tokens.len()];
        let (Some(first), Some(last)) = (taken.first(), taken.last()) else {
            return Err(syntax(tokens.column, format!("missing value for {context}")));
        };
        Ok(Command { text: text[first.range.start..last.range.end].to_owned(), operands })
    }

    /// One operand with the fields that follow it without white space.
    fn operand(&mut self, tokens: &mut Unread<'_>) -> Result<Operand, TemplateError> {
        let Some((token, rest)) = tokens.tokens.split_first() else {
            return Err(syntax(tokens.column, "missing value"));
        };
        tokens.tokens = rest;
        let column = token.column;
        let operand = match &token.kind {
            TokenKind::Text(text) => Operand::Literal(Value::from(text.as_str())),
            TokenKind::Integer(number) => Operand::Literal(Value::from(*number)),
            TokenKind::Float(number) => Operand::Literal(Value::from(*number)),
            TokenKind::Word(word) => match word.as_str() {
                "true" => Operand::Literal(Value::Bool(true)),
                "false" => Operand::Literal(Value::Bool(false)),
                "nil" => Operand::Nil,
                _ => Operand::Function(
                    Function::named(word).ok_or_else(|| syntax(column, format!("function {word:?} not defined")))?,
                ),
            },
            TokenKind::Dot => Operand::Field(Vec::new()),
            TokenKind::Field(name) => Operand::Field(tokens.fields(vec![name.clone()])),
            TokenKind::Variable(name) => {
                self.known(name, column)?;
                Operand::Variable(name.clone(), tokens.fields(Vec::new()))
            }
            TokenKind::Open => {
                self.descend(column)?;
                let pipeline = self.pipeline(tokens, "parenthesized pipeline")?;
                if !tokens.take(&TokenKind::Close) {
                    return Err(syntax(column, "unclosed left paren"));
                }
                self.depth -= 1;
                Operand::Group(Box::new(pipeline), tokens.fields(Vec::new()))
            }
            TokenKind::Pipe | TokenKind::Comma | TokenKind::Declare | TokenKind::Assign | TokenKind::Close => {
                return Err(syntax(column, format!("unexpected {:?}", &tokens.text[token.range.clone()])));
            }
        };
        Ok(operand)
    }

    fn known(&self, variable: &str, column: usize) -> Result<(), TemplateError> {
        if self.variables.iter().any(|name| name == variable) {
            return Ok(());
        }
        Err(syntax(column, format!("undefined variable \"${variable}\"")))
    }

    fn descend(&mut self, column: usize) -> Result<(), TemplateError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(syntax(column, "nested too deeply"));
        }
        Ok(())
    }
}

/// The tokens of an action that are still to be read.
struct Unread<'a> {
    text: &'a str,
    tokens: &'a [Token],
    column: usize,
}

impl Unread<'_> {
    fn take(&mut self, kind: &TokenKind) -> bool {
        match self.tokens.split_first() {
            Some((token, rest)) if token.kind == *kind => {
                self.tokens = rest;
                true
            }
            _ => false,
        }
    }

    fn fields(&mut self, mut names: Vec<String>) -> Vec<String> {
        while let Some((token, rest)) = self.tokens.split_first() {
            match &token.kind {
                TokenKind::Field(name) if !token.spaced => names.push(name.clone()),
                _ => break,
            }
            self.tokens = rest;
        }
        names
    }
}

fn syntax(column: usize, problem: impl Into<String>) -> TemplateError {
    TemplateError::Syntax { column, problem: problem.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn what_go_refuses_to_parse_is_refused() {
        for (text, expected) in [
            ("{{if}}", "missing value for if at column 3"),
            ("{{}}", "missing value for command at column 3"),
            ("{{foo}}", "function \"foo\" not defined at column 3"),
            ("{{$x}}", "undefined variable \"$x\" at column 3"),
            ("{{$x = 1}}", "undefined variable \"$x\" at column 3"),
            ("{{end}}", "unexpected {{end}} at column 3"),
            ("{{else}}", "unexpected {{else}} at column 3"),
            ("{{if 1}}", "{{if}} has no {{end}} at column 3"),
            ("{{if 1}}{{else}}", "{{else}} has no {{end}} at column 11"),
            ("{{break}}", "{{break}} outside {{range}} at column 3"),
            ("{{range .}}{{else}}{{break}}{{end}}", "{{break}} outside {{range}} at column 22"),
            ("{{template \"x\"}}", "{{template}} is not supported at column 3"),
            ("{{(1}}", "unclosed left paren at column 3"),
            ("{{1)}}", "unexpected ')' at column 4"),
            ("{{1 | 2}}", "non executable command <2> in a pipeline at column 3"),
            ("{{1 | }}", "missing value for command at column 3"),
            ("{{\"a\"\"b\"}}", "operands must be separated by white space at column 6"),
            ("{{if 1}}{{$y := 1}}{{end}}{{$y}}", "undefined variable \"$y\" at column 29"),
            ("{{$i, $e := .}}", "only range declares two variables at column 3"),
        ] {
            assert_eq!(problem(text), format!("template: {expected}"), "{text}");
        }
    }

    #[test]
    fn depth_is_limited() {
        let text = format!("{{{{{}1{}}}}}", "(".repeat(1000), ")".repeat(1000));
        assert!(problem(&text).contains("nested too deeply"));
        let text = "{{if 1}}".repeat(1000);
        assert!(problem(&text).contains("nested too deeply"));
    }
}

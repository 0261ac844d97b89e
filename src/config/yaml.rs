//! YAML as far as a configuration file needs it: mappings, lists and texts. Aliases and tags are refused: no such file uses them, and aliases can make a small
//! file enormous.

use saphyr_parser::{Event, Parser, ScalarStyle};

/// How deep a file may go.
const DEPTH: usize = 16;

/// A value with the line where it begins. It shows itself to nobody, for it may be a secret.
pub(super) struct Value {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) node: Node,
}

/// What a value is.
pub(super) enum Node {
    /// Nothing: an empty value, `~` or `null`.
    Null,
    /// A text; whether it stood without quotes does not matter to any key.
    Text(String),
    List(Vec<Value>),
    /// Keys in the order of the file, none of them twice.
    Map(Vec<(String, Value)>),
}

/// What is under way.
enum Open {
    List(usize, Vec<Value>),
    Map { line: usize, entries: Vec<(String, Value)>, key: Option<String> },
}

/// Reads one document; `None` for a file without any.
///
/// # Errors
/// A sentence that begins with the line.
pub(super) fn parse(text: &str) -> Result<Option<Value>, String> {
    let (mut stack, mut root) = (Vec::new(), None);
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| format!("line {}: this is not YAML: {}", error.marker().line(), error.info()))?;
        let line = span.start.line();
        let tagged = matches!(&event, Event::Scalar(_, _, _, Some(_)) | Event::SequenceStart(_, Some(_)) | Event::MappingStart(_, Some(_)));
        if tagged {
            return Err(format!("line {line}: tags (!...) are not understood here"));
        }
        let done = match event {
            Event::Alias(_) => return Err(format!("line {line}: aliases (*...) are not understood here")),
            Event::DocumentStart(_) if root.is_some() => return Err(format!("line {line}: a second document begins, where one would do")),
            Event::Scalar(text, style, ..) => {
                let is_null = style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                Value { line, node: if is_null { Node::Null } else { Node::Text(text.into_owned()) } }
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if stack.len() >= DEPTH => {
                return Err(format!("line {line}: nothing goes so deep here"));
            }
            Event::SequenceStart(..) => {
                stack.push(Open::List(line, Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                stack.push(Open::Map { line, entries: Vec::new(), key: None });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match stack.pop() {
                Some(Open::List(line, values)) => Value { line, node: Node::List(values) },
                Some(Open::Map { line, entries, .. }) => Value { line, node: Node::Map(entries) },
                None => continue,
            },
            _ => continue,
        };
        match stack.last_mut() {
            None => root = Some(done),
            Some(Open::List(_, values)) => values.push(done),
            Some(Open::Map { entries, key, .. }) => match (key.take(), done.node) {
                (Some(name), node) => entries.push((name, Value { line: done.line, node })),
                (None, Node::Text(name)) if entries.iter().any(|(known, _)| *known == name) => {
                    return Err(format!("line {line}: the key '{name}' stands twice"));
                }
                (None, Node::Text(name)) => *key = Some(name),
                (None, _) => return Err(format!("line {line}: a key is no text")),
            },
        }
    }
    Ok(root)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(value: &Value) -> String {
        match &value.node {
            Node::Null => "null".to_owned(),
            Node::Text(text) => format!("{text:?}"),
            Node::List(values) => format!("[{}]", values.iter().map(shown).collect::<Vec<_>>().join(",")),
            Node::Map(entries) => {
                format!("{{{}}}", entries.iter().map(|(key, value)| format!("{key}:{}", shown(value))).collect::<Vec<_>>().join(","))
            }
        }
    }

    fn read(text: &str) -> String {
        parse(text).map_or_else(|why| why, |value| value.as_ref().map_or_else(|| "nothing".to_owned(), shown))
    }

    #[test]
    fn what_such_files_hold() {
        assert_eq!(read(""), "nothing");
        assert_eq!(read("# a comment\n"), "nothing");
        assert_eq!(
            read("a:\n  b: x # c\n  d:\n  - \"1\"\n  - '2'\ne: [y, z]\nf: {g: h}\n"),
            "{a:{b:\"x\",d:[\"1\",\"2\"]},e:[\"y\",\"z\"],f:{g:\"h\"}}"
        );
        assert_eq!(read("a: |\n  one\n  two\nb: ~\nc:\nd: ''\n"), "{a:\"one\\ntwo\\n\",b:null,c:null,d:\"\"}");
    }

    #[test]
    fn what_is_refused() {
        assert_eq!(read("a: 1\na: 2\n"), "line 2: the key 'a' stands twice");
        assert_eq!(read("a: &x 1\nb: *x\n"), "line 2: aliases (*...) are not understood here");
        assert_eq!(read("a: !!int 1\n"), "line 1: tags (!...) are not understood here");
        assert_eq!(read("a: 1\n---\nb: 2\n"), "line 2: a second document begins, where one would do");
        assert_eq!(read("[a]: 1\n"), "line 1: a key is no text");
        assert!(read(&"[".repeat(100)).contains("deep"));
        assert!(read("a: [").starts_with("line "));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-c:\\-\\[\\]{}#&*!|>'\" \n?%@,~\t]{0,200}|\\PC{0,80}") {
            drop(parse(&text));
        }
    }
}

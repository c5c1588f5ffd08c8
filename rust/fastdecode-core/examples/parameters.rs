//! Prints the table of parameters as JSON: what `tools/generate_signatures.py` reads.

use fastdecode_core::parameter::{Field, Kind, Value};
use fastdecode_core::{Stage, parameters};

fn main() {
    let rows = parameters().into_iter().map(|(stage, parameter)| {
        let mut row = vec![
            ("name", text(parameter.name)),
            ("stage", text(if stage == Stage::Processor { "processor" } else { "truncation" })),
        ];
        row.extend(kind(parameter.kind));
        row.push(("default", value(&parameter.default)));
        row.push(("off", value(&parameter.off)));
        row.push(("range", text(parameter.range)));
        row.push(("help", text(parameter.help)));
        object(row)
    });
    println!("{}", list(rows));
}

fn kind(kind: Kind) -> Vec<(&'static str, String)> {
    let named = |name| vec![("kind", text(name))];
    match kind {
        Kind::Flag => named("flag"),
        Kind::Integer => named("integer"),
        Kind::Number => named("number"),
        Kind::Numbers { names, required } => vec![
            ("kind", text("numbers")),
            ("names", list(names.iter().map(|name| text(name)))),
            ("required", required.to_string()),
        ],
        Kind::Tokens => named("tokens"),
        Kind::Sequences => named("sequences"),
        Kind::Biases => named("biases"),
        Kind::Record(fields) => {
            vec![("kind", text("record")), ("fields", list(fields.iter().map(field)))]
        }
    }
}

fn field(field: &Field) -> String {
    let mut row = vec![("name", text(field.name))];
    row.extend(kind(field.kind));
    row.push(("default", value(&field.default)));
    object(row)
}

/// Of a default: they are nothing, a flag or a single number.
fn value(value: &Value) -> String {
    match value {
        Value::Nothing => "null".to_owned(),
        Value::Flag(flag) => flag.to_string(),
        Value::Integer(integer) => integer.to_string(),
        Value::Number(number) => format!("{number:?}"),
        other => unreachable!("{other:?} is no default"),
    }
}

fn text(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

fn object(fields: Vec<(&str, String)>) -> String {
    let fields = fields.into_iter().map(|(name, value)| format!("\"{name}\": {value}"));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
}

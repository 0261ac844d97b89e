//! node_exporter's command lines of before 0.15 (2017), which books and stack files still use: one dash, a list of collectors, trees named otherwise.
//! They are put into today's words before they are taken apart.

use std::ffi::OsString;

use super::{Flag, FlagKind, Usage};

/// What a flag of those days has become.
#[derive(Debug, Clone, Copy)]
enum Today {
    /// A flag that takes a value.
    Value(&'static str),
    /// `-collectors.enabled=a,b`: these and no others.
    Collectors,
    /// `-collectors.print`: show the names and end.
    Print,
    /// `-log.format=logger:stderr?json=true`.
    LogFormat,
    /// `-log.level=fatal`: of its levels some are called otherwise today.
    LogLevel,
}

/// The flags whose names or values are others today. All the rest of 0.14 have their names still, or as an alias.
const CHANGED: [(&str, Today); 8] = [
    ("collector.procfs", Today::Value("path.procfs")),
    ("collector.sysfs", Today::Value("path.sysfs")),
    ("collector.netdev.ignored-devices", Today::Value("collector.netdev.device-exclude")),
    // Today it switches the collector on; then it was the test's directory.
    ("collector.wifi", Today::Value("collector.wifi.fixtures")),
    ("collectors.enabled", Today::Collectors),
    ("collectors.print", Today::Print),
    ("log.format", Today::LogFormat),
    ("log.level", Today::LogLevel),
];

/// What an old command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// To run with these arguments.
    Arguments(Vec<OsString>),
    /// To print the collectors' names.
    Names,
}

/// `arguments` in today's words. What is written with two dashes is left as it is, but for the names that only old versions had.
///
/// # Errors
/// [`Usage`] for a flag with one dash that neither old nor new versions have, and for one that lacks its value.
pub(super) fn modern(arguments: Vec<OsString>, all: &[Flag]) -> Result<Line, Usage> {
    let mut modern: Vec<OsString> = Vec::with_capacity(arguments.len());
    let mut arguments = arguments.into_iter().peekable();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            modern.push(argument);
            modern.extend(arguments);
            break;
        }
        let Some((name, joined)) = argument.to_str().and_then(|text| old_flag(text, all)) else {
            // The value behind a flag of today is nobody's flag, whatever it looks like.
            let takes_next = argument.to_str().and_then(|text| text.strip_prefix("--")).is_some_and(|name| {
                all.iter().any(|flag| flag.kind != FlagKind::Switch && (flag.name == name || flag.aliases.contains(&name)))
            });
            modern.push(argument);
            if takes_next {
                modern.extend(arguments.next());
            }
            continue;
        };
        let changed = CHANGED.iter().find(|(old, _)| *old == name).map(|(_, today)| *today);
        let known = all.iter().find(|flag| flag.name == name || flag.aliases.contains(&&*name));
        match (changed, known) {
            (None, None) => {
                return Err(Usage(format!(
                    "'-{name}' is not a flag of skep, nor of a node_exporter before 0.15; skep --help lists those with two dashes"
                )));
            }
            (None, Some(flag)) if flag.kind == FlagKind::Switch => match joined.as_deref() {
                None | Some("true" | "t" | "T" | "1" | "TRUE" | "True") => modern.push(format!("--{name}").into()),
                Some("false" | "f" | "F" | "0" | "FALSE" | "False") => modern.push(format!("--no-{}", flag.name).into()),
                Some(other) => return Err(Usage(format!("'-{name}={other}' is a switch: true and false are its values"))),
            },
            (Some(Today::Print), _) => return Ok(Line::Names),
            (changed, _) => {
                let Some(value) = joined.or_else(|| arguments.next().and_then(|value| value.into_string().ok())) else {
                    return Err(Usage(format!("'-{name}' stands without its value: -{name}=VALUE would do")));
                };
                put(&name, changed, &value, all, &mut modern)?;
            }
        }
    }
    Ok(Line::Arguments(modern))
}

/// The name and the joined value of a flag that is written with one dash, or that only old versions had. `-h`, `-V` and numbers are none.
fn old_flag(text: &str, all: &[Flag]) -> Option<(String, Option<String>)> {
    let dashed = text.strip_prefix('-')?;
    let (name, value) = match dashed.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (dashed, None),
    };
    if let Some(name) = name.strip_prefix('-') {
        let is_gone = CHANGED.iter().any(|(old, _)| *old == name) && !all.iter().any(|flag| flag.name == name);
        return is_gone.then(|| (name.to_owned(), value));
    }
    let is_word = name.len() > 1 && name.starts_with(|first: char| first.is_ascii_alphabetic());
    (is_word && !matches!(name, "help" | "version")).then(|| (name.to_owned(), value))
}

fn put(name: &str, changed: Option<Today>, value: &str, all: &[Flag], modern: &mut Vec<OsString>) -> Result<(), Usage> {
    match changed {
        Some(Today::Collectors) => {
            modern.push("--collector.disable-defaults".into());
            // A list in a YAML file may bring its quotes along.
            for collector in value.trim_matches(['"', '\'']).split(',').map(str::trim).filter(|collector| !collector.is_empty()) {
                let switch = format!("collector.{collector}");
                if !all.iter().any(|flag| flag.name == switch && flag.kind == FlagKind::Switch) {
                    return Err(Usage(format!("-{name}={value}: there is no collector '{collector}'; skep --collectors.print lists them")));
                }
                modern.push(format!("--{switch}").into());
            }
        }
        Some(Today::LogFormat) => {
            let format = match value {
                "logfmt" | "json" => value,
                old if old.contains("json=true") => "json",
                _ => "logfmt",
            };
            modern.push(format!("--log.format={format}").into());
        }
        Some(Today::LogLevel) => {
            let level = match value.trim_matches('"') {
                "fatal" | "panic" => "error",
                "warning" => "warn",
                other => other,
            };
            modern.push(format!("--log.level={level}").into());
        }
        Some(Today::Value(today)) => modern.push(format!("--{today}={value}").into()),
        Some(Today::Print) | None => modern.push(format!("--{name}={value}").into()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::flags;

    fn line(arguments: &[&str]) -> Result<Line, String> {
        let all: Vec<Flag> = flags::all().collect();
        modern(arguments.iter().map(OsString::from).collect(), &all).map_err(|why| why.0)
    }

    fn words(arguments: &[&str]) -> Vec<String> {
        match line(arguments).unwrap() {
            Line::Arguments(words) => words.into_iter().map(|word| word.into_string().unwrap()).collect(),
            Line::Names => panic!("no arguments"),
        }
    }

    #[test]
    fn a_command_line_of_0_14() {
        let found = words(&[
            "-collector.procfs",
            "/host/proc",
            "-collector.sysfs=/host/sys",
            "-collector.filesystem.ignored-mount-points",
            "^/(sys|proc|dev|host|etc)($|/)",
            "-collectors.enabled=cpu, loadavg,gmond",
            "-log.level=fatal",
            "-log.format=logger:syslog?appname=node&json=true",
        ]);
        assert_eq!(
            found,
            [
                "--path.procfs=/host/proc",
                "--path.sysfs=/host/sys",
                "--collector.filesystem.ignored-mount-points=^/(sys|proc|dev|host|etc)($|/)",
                "--collector.disable-defaults",
                "--collector.cpu",
                "--collector.loadavg",
                "--collector.gmond",
                "--log.level=error",
                "--log.format=json",
            ]
        );
        assert_eq!(words(&["--collectors.enabled", "cpu"]), ["--collector.disable-defaults", "--collector.cpu"]);
    }

    #[test]
    fn todays_words_are_left_alone() {
        for same in [
            &["--log.level", "-x", "-V", "-h", "--collector.cpu", "stdout:"][..],
            &["check", "--", "-collector.procfs", "/x"],
            &["--log.format", "json", "-1"],
        ] {
            assert_eq!(words(same), same);
        }
    }

    #[test]
    fn switches_are_true_or_false() {
        assert_eq!(words(&["-web.disable-exporter-metrics", "-json=false"]), ["--web.disable-exporter-metrics", "--no-json"]);
        assert!(line(&["-json=maybe"]).unwrap_err().contains("'-json=maybe' is a switch"));
    }

    #[test]
    fn what_nobody_knows_is_refused_by_name() {
        assert!(line(&["-collector.nothing", "x"]).unwrap_err().contains("'-collector.nothing' is not a flag"));
        assert!(line(&["-collectors.enabled=cpu,nothing"]).unwrap_err().contains("no collector 'nothing'"));
        assert!(line(&["-collector.procfs"]).unwrap_err().contains("without its value"));
        assert_eq!(line(&["-collectors.print"]).unwrap(), Line::Names);
        assert_eq!(line(&["--collectors.print"]).unwrap(), Line::Names);
    }
}

//! What the user typed: the command, the flags and the routes behind them.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{Flag, FlagKind, Usage, flags, old};

/// What skep is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Work as the agent, until it is told to stop.
    Run,
    /// Show what can be read here and which routes answer.
    Check,
    /// Ask the running agent whether it works.
    Healthcheck,
    /// Show the effective configuration, secrets masked.
    Config,
    /// Show the version.
    Version,
    /// Show the help text.
    Help,
}

/// A command line, taken apart and not yet understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The command; `run` where none is given.
    pub action: Action,
    /// The values of each flag that was given, in order.
    pub values: Vec<(String, Vec<String>)>,
    /// Help text, when it was asked for.
    pub help: Option<String>,
}

const COMMANDS: [(&str, Action); 4] =
    [("run", Action::Run), ("check", Action::Check), ("healthcheck", Action::Healthcheck), ("config", Action::Config)];

const ABOUT: &str = "skep: host and container metrics for Prometheus and container logs, each line once, from every node of a Docker Swarm.

Usage: skep [run] [FLAGS] [ROUTE...]    work as the agent
       skep check [FLAGS] [ROUTE...]    what can be read here, and which routes answer; exit 1 if something asked for cannot work
       skep healthcheck                 ask the running agent; exit 1 if it does not answer
       skep config [FLAGS] [ROUTE...]   the effective configuration, secrets masked
       skep --version

Every flag has an environment variable (--web.listen-address is SKEP_WEB_LISTEN_ADDRESS; with _FILE behind its name, it names a file with the value,
such as a Swarm secret) and a key in the file of --config.
Flag beats environment, environment beats file. A switch is turned off by --no-NAME. Exit codes: 64 wrong usage, 78 wrong configuration.";

/// Takes a command line apart. `arguments` begins behind the program's name.
///
/// # Errors
/// [`Usage`] for an unknown flag, a missing value and the like.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Line, Usage> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let mut action = Action::Run;
    if let Some(first) = arguments.first().and_then(|first| first.to_str()) {
        if let Some((_, found)) = COMMANDS.iter().find(|(name, _)| *name == first) {
            action = *found;
            arguments.remove(0);
        } else if first == "help" {
            arguments = vec!["--help".into()];
        } else if !first.starts_with('-') && !first.contains(':') {
            return Err(Usage(format!(
                "'{first}' is neither a command nor a route: the commands are run, check, healthcheck and config, and a route looks like \
                 elasticsearch://host:9200"
            )));
        }
    }
    let all: Vec<Flag> = flags::all().collect();
    let arguments = match old::modern(arguments, &all)? {
        old::Line::Arguments(arguments) => arguments,
        old::Line::Names => return Ok(Line { action: Action::Help, values: Vec::new(), help: Some(names()) }),
    };
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            return Ok(Line { action: Action::Help, values: Vec::new(), help: Some(error.render().to_string()) });
        }
        Err(error) => return Err(Usage(sentence(&error))),
    };
    if let Some(word) = matches.get_many::<String>("ROUTE").into_iter().flatten().find(|word| !word.contains(':')) {
        return Err(Usage(match COMMANDS.iter().find(|(name, _)| name == word) {
            Some(_) => format!("'{word}' is a command, and a command stands before the flags: skep {word} ..."),
            None => format!("'{word}' is not a route: a route looks like elasticsearch://host:9200"),
        }));
    }
    let both =
        |flag: &&Flag| flag.kind == FlagKind::Switch && matches.get_flag(flag.name) && matches.get_flag(&format!("no-{}", flag.name));
    if let Some(flag) = all.iter().find(both) {
        return Err(Usage(format!("--{0} and --no-{0} contradict each other: give one of them", flag.name)));
    }
    if matches.get_flag("version") {
        action = Action::Version;
    }
    Ok(Line { action, values: given(&all, &matches), help: None })
}

/// The names of all collectors of the host, for who asks for them as of old.
fn names() -> String {
    let mut text = String::from("Available collectors:\n");
    for entry in crate::collect::ENTRIES {
        text.push_str(&format!(" - {}{}\n", entry.name, if entry.on_by_default { "" } else { " (off by default)" }));
    }
    text
}

fn command() -> Command {
    let mut command = Command::new("skep").no_binary_name(true).about(ABOUT).help_template("{about}\n\n{all-args}");
    command = command
        .args_override_self(true)
        .arg(Arg::new("version").long("version").short('V').action(ArgAction::SetTrue).help("Show the version."));
    for (subject, flag) in flags::by_subject() {
        let mut help = flag.help.to_owned();
        if let Some(default) = flag.default.filter(|default| !default.is_empty()) {
            help.push_str(&format!(" [default: {default}]"));
        }
        let mut argument = Arg::new(flag.name).long(flag.name).help(help).help_heading(subject).hide(subject.is_none());
        for alias in flag.aliases {
            argument = argument.alias(*alias);
        }
        match flag.kind {
            FlagKind::Switch => {
                let off = format!("no-{}", flag.name);
                argument = argument.action(ArgAction::SetTrue);
                command = command.arg(Arg::new(off.clone()).long(off).action(ArgAction::SetTrue).hide(true));
            }
            FlagKind::One(value) => argument = argument.action(ArgAction::Set).value_name(value),
            FlagKind::Many(value) => argument = argument.action(ArgAction::Append).value_name(value),
        }
        command = command.arg(argument);
    }
    command.arg(Arg::new("ROUTE").action(ArgAction::Append).help("Where logs go, as with --route."))
}

fn given(all: &[Flag], matches: &ArgMatches) -> Vec<(String, Vec<String>)> {
    let mut values: Vec<(String, Vec<String>)> = Vec::new();
    let of = |name: &str| -> Option<Vec<String>> { matches.get_many::<String>(name).map(|found| found.cloned().collect()) };
    for flag in all {
        let found = match flag.kind {
            FlagKind::Switch if matches.get_flag(flag.name) => Some(vec!["true".to_owned()]),
            FlagKind::Switch if matches.get_flag(&format!("no-{}", flag.name)) => Some(vec!["false".to_owned()]),
            FlagKind::Switch => None,
            FlagKind::One(_) | FlagKind::Many(_) => of(flag.name),
        };
        if let Some(found) = found {
            values.push((flag.name.to_owned(), found));
        }
    }
    if let Some(routes) = of("ROUTE") {
        match values.iter_mut().find(|(name, _)| name == "route") {
            Some((_, known)) => known.extend(routes),
            None => values.push(("route".to_owned(), routes)),
        }
    }
    values
}

/// A clap error as one sentence: what was given, why it is refused, what would do.
fn sentence(error: &clap::Error) -> String {
    let context = |kind: ContextKind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    };
    let given = context(ContextKind::InvalidArg).unwrap_or_default();
    let near = context(ContextKind::SuggestedArg).map(|near| format!(" (did you mean '{near}'?)")).unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument => format!("'{given}' is not a flag of skep{near}; skep --help lists them"),
        ErrorKind::TooManyValues | ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues | ErrorKind::InvalidValue => {
            format!("'{given}' stands without its value, or is a switch that takes none (--no-NAME turns it off); skep --help tells which")
        }
        ErrorKind::NoEquals | ErrorKind::ArgumentConflict => format!("'{given}' cannot stand here; skep --help tells how it is used"),
        _ => error.render().to_string().lines().next().unwrap_or("wrong usage").trim_start_matches("error: ").to_owned(),
    }
}

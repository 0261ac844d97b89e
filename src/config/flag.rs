//! What a flag is. The flags themselves stand where their subject is: a collector's beside the collector.

/// One setting. Its name is its flag (`--name`), its key in the file (`"name" = ...`) and, in capitals with `_` for `.` and `-` and `SKEP_`
/// before it, its environment variable; with `_FILE` behind that, the variable that names a file with the value.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// The name, without dashes before it: `web.listen-address`.
    pub name: &'static str,
    /// What it takes.
    pub kind: FlagKind,
    /// What it is without being given, as a user would write it; `None` where nothing is the default.
    pub default: Option<&'static str>,
    /// One sentence for `--help`.
    pub help: &'static str,
    /// Older names that are still understood, and hidden: node_exporter's of former days.
    pub aliases: &'static [&'static str],
}

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagKind {
    /// `--name` switches on, `--no-name` switches off; in the file and the environment `true` or `false`.
    Switch,
    /// `--name VALUE`, once.
    One(&'static str),
    /// `--name VALUE`, any number of times; an array in the file, split at commas in the environment.
    Many(&'static str),
}

impl Flag {
    /// A flag without older names.
    #[must_use]
    pub const fn new(name: &'static str, kind: FlagKind, default: Option<&'static str>, help: &'static str) -> Self {
        Self { name, kind, default, help, aliases: &[] }
    }

    /// The same flag, also understood under older names.
    #[must_use]
    pub const fn or(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }
}

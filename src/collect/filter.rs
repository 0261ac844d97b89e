//! Include and exclude filters, as node_exporter's collectors have them.

use regex::bytes::Regex;

use crate::config::{Flag, Settings};

/// What an include and an exclude pattern let through. Both are searched for anywhere in the name, as Go's `MatchString` does.
#[derive(Debug, Default)]
pub(super) struct Filter {
    include: Option<Regex>,
    exclude: Option<Regex>,
}

impl Filter {
    /// The filter of two flags. Where `exclude` has a default, giving `include` alone switches that default off, as in node_exporter.
    ///
    /// # Errors
    /// When one is no regular expression, or when both are given.
    pub(super) fn of(settings: &Settings, include: &Flag, exclude: &Flag) -> Result<Self, String> {
        let wanted = settings.one(include.name);
        let unwanted = settings.one(exclude.name).filter(|pattern| wanted.is_none() || Some(*pattern) != exclude.default);
        if let (Some(wanted), Some(unwanted)) = (wanted, unwanted) {
            return Err(format!(
                "--{}={wanted} and --{}={unwanted}: they contradict each other, for what one leaves out the other cannot bring back; give one of them",
                include.name, exclude.name
            ));
        }
        Ok(Self {
            include: wanted.map(|pattern| compile(include, pattern)).transpose()?,
            exclude: unwanted.map(|pattern| compile(exclude, pattern)).transpose()?,
        })
    }

    /// The filter of a flag that only leaves out.
    ///
    /// # Errors
    /// When it is no regular expression.
    pub(super) fn without(settings: &Settings, exclude: &Flag) -> Result<Self, String> {
        Ok(Self { include: None, exclude: pattern(settings, exclude)? })
    }

    /// Whether `name` passes.
    pub(super) fn keeps(&self, name: &[u8]) -> bool {
        !self.exclude.as_ref().is_some_and(|pattern| pattern.is_match(name))
            && self.include.as_ref().is_none_or(|pattern| pattern.is_match(name))
    }

    /// Whether names were asked for by an include pattern.
    pub(super) const fn is_asked(&self) -> bool {
        self.include.is_some()
    }
}

/// The pattern of one flag, `None` when it is not given.
///
/// # Errors
/// When it is no regular expression.
pub(super) fn pattern(settings: &Settings, flag: &Flag) -> Result<Option<Regex>, String> {
    settings.one(flag.name).map(|pattern| compile(flag, pattern)).transpose()
}

fn compile(flag: &Flag, pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|error| {
        // The error draws the pattern with a mark below it; its last line says what is wrong.
        let drawn = error.to_string();
        let why = drawn.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("--{}={pattern}: no regular expression ({why}); give one without lookaround and back-references, as ^(a|b)", flag.name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FlagKind;

    const INCLUDE: Flag = Flag::new("x.include", FlagKind::One("REGEX"), None, "");
    const EXCLUDE: Flag = Flag::new("x.exclude", FlagKind::One("REGEX"), Some("^b"), "");

    fn filter(include: Option<&str>, exclude: Option<&str>) -> Result<Filter, String> {
        let mut settings = Settings::default();
        for (flag, value) in [(INCLUDE, include), (EXCLUDE, exclude)] {
            if let Some(value) = value {
                settings.set(flag.name, vec![value.to_owned()]);
            }
        }
        Filter::of(&settings, &INCLUDE, &EXCLUDE)
    }

    #[test]
    fn patterns_are_searched_anywhere() {
        let excluding = filter(None, Some("a$")).unwrap();
        assert!(excluding.keeps(b"ab") && !excluding.keeps(b"ba"));
        let including = filter(Some("th"), None).unwrap();
        assert!(including.keeps(b"eth0") && !including.keeps(b"lo"));
        assert!(filter(None, None).unwrap().keeps(b"\xff"));
    }

    #[test]
    fn include_alone_outweighs_the_default_exclude() {
        assert!(filter(Some("b"), Some("^b")).unwrap().keeps(b"b1"));
        assert!(!filter(None, Some("^b")).unwrap().keeps(b"b1"));
    }

    #[test]
    fn a_refusal_names_flag_value_and_reason() {
        let both = filter(Some("b"), Some("c")).unwrap_err();
        assert!(both.contains("--x.include=b and --x.exclude=c"), "{both}");
        let bad = filter(None, Some("(")).unwrap_err();
        assert!(bad.starts_with("--x.exclude=(: no regular expression (unclosed group)"), "{bad}");
        assert_eq!(bad.lines().count(), 1);
    }
}

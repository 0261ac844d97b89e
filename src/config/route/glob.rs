//! Patterns of names as logspout's filters take them: those of Go's `path.Match`.

use std::iter::Peekable;
use std::str::Chars;

const OPEN: &str = "has a [ without its ]";

/// A pattern for a whole text: `*` is any number of signs but `/`, `?` one sign but `/`, `[a-z]` and `[^a-z]` one sign of a class or outside of it, `\`
/// takes the meaning from the sign behind it, and every other sign is itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Sign(char),
    /// `?`
    One,
    /// `*`
    Any,
    /// Ranges, both ends included, and whether the sign must be outside of them.
    Class(Vec<(char, char)>, bool),
}

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let mut pieces = Vec::new();
        let mut signs = text.chars().peekable();
        while let Some(sign) = signs.next() {
            pieces.push(match sign {
                '*' => Piece::Any,
                '?' => Piece::One,
                '[' => class(&mut signs)?,
                '\\' => Piece::Sign(signs.next().ok_or("ends in a backslash; two of them stand for one")?),
                sign => Piece::Sign(sign),
            });
        }
        // Two in a row are one, and would only be tried twice.
        pieces.dedup_by(|next, before| *next == Piece::Any && *before == Piece::Any);
        Ok(Self { text: text.to_owned(), pieces })
    }

    /// The pattern as it was written.
    #[must_use]
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the whole of `text` fits. Takes at most the product of both lengths in steps.
    #[must_use]
    pub(super) fn is_match(&self, text: &str) -> bool {
        let (mut pieces, mut rest) = (self.pieces.as_slice(), text);
        // Behind the last `*`: the pieces there, and where in the text they were tried last. What stands before it is never tried again, for an earlier `*`
        // that took more could not help this one.
        let mut star: Option<(&[Piece], &str)> = None;
        loop {
            let mut signs = rest.chars();
            match pieces.split_first() {
                Some((Piece::Any, behind)) => {
                    star = Some((behind, rest));
                    pieces = behind;
                    continue;
                }
                Some((piece, behind)) if signs.next().is_some_and(|sign| piece.takes(sign)) => {
                    (pieces, rest) = (behind, signs.as_str());
                    continue;
                }
                None if rest.is_empty() => return true,
                _ => {}
            }
            let Some((behind, tried)) = star else { return false };
            let mut signs = tried.chars();
            if signs.next().is_none_or(|sign| sign == '/') {
                return false;
            }
            star = Some((behind, signs.as_str()));
            (pieces, rest) = (behind, signs.as_str());
        }
    }
}

impl Piece {
    fn takes(&self, sign: char) -> bool {
        match self {
            Self::Sign(own) => *own == sign,
            Self::One => sign != '/',
            Self::Class(ranges, is_outside) => ranges.iter().any(|(low, high)| (*low..=*high).contains(&sign)) != *is_outside,
            Self::Any => false,
        }
    }
}

/// What stands behind a `[`, up to its `]`.
fn class(signs: &mut Peekable<Chars<'_>>) -> Result<Piece, &'static str> {
    let is_outside = signs.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && signs.next_if_eq(&']').is_some() {
            return Ok(Piece::Class(ranges, is_outside));
        }
        let low = end_of_range(signs)?;
        let high = if signs.next_if_eq(&'-').is_some() { end_of_range(signs)? } else { low };
        ranges.push((low, high));
        signs.peek().ok_or(OPEN)?;
    }
}

fn end_of_range(signs: &mut Peekable<Chars<'_>>) -> Result<char, &'static str> {
    match signs.next() {
        Some('-' | ']') => Err("has a class with a sign missing; in one, - and ] are written with a backslash before them"),
        Some('\\') => signs.next().ok_or(OPEN),
        Some(sign) => Ok(sign),
        None => Err(OPEN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fits(pattern: &str, text: &str) -> bool {
        Glob::parse(pattern).unwrap().is_match(text)
    }

    #[test]
    fn what_fits() {
        for (pattern, text) in [
            ("", ""),
            ("*", ""),
            ("*", "web.1.k9"),
            ("web*", "web"),
            ("*_db", "shop_db"),
            ("*web*1*", "a_web.10"),
            ("w?b", "wüb"),
            ("[a-c]x[^0-9]", "bxü"),
            ("[^/]*", "a"),
            ("a/*/c", "a/b/c"),
            (r"\*\[", "*["),
            (r"[\]\-]", "-"),
            ("**x", "aax"),
        ] {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("web", "web1"),
            ("*", "a/b"),
            ("?", "/"),
            ("?", ""),
            ("a*", "ba"),
            ("[a-c]", "d"),
            ("[^a-c]", "b"),
            ("[z-a]", "m"),
            ("*a*b", "b-a"),
        ] {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_no_pattern() {
        for pattern in ["[", "[a", "[]", "[]a]", "[a-", "[a-]", "[-a]", "[^", "[^]", "a\\", "[\\", "[a\\", "[a-\\"] {
            assert!(Glob::parse(pattern).is_err(), "{pattern}");
        }
    }

    /// The same pattern for the regex crate.
    fn reference(glob: &Glob) -> regex::Regex {
        let mut text = "^(?s:".to_owned();
        let sign = |sign: char| format!("\\x{{{:x}}}", u32::from(sign));
        for piece in &glob.pieces {
            match piece {
                Piece::Sign(own) => text.push_str(&sign(*own)),
                Piece::One => text.push_str("[^/]"),
                Piece::Any => text.push_str("[^/]*"),
                Piece::Class(ranges, is_outside) => {
                    let whole: Vec<String> = ranges
                        .iter()
                        .filter(|(low, high)| low <= high)
                        .map(|(low, high)| format!("{}-{}", sign(*low), sign(*high)))
                        .collect();
                    match (whole.is_empty(), is_outside) {
                        (true, true) => text.push_str("(?s:.)"),
                        (true, false) => text.push_str("[^\\x00-\\x{10ffff}]"),
                        (false, outside) => {
                            text.push_str(&format!("[{}{}]", if *outside { "^" } else { "" }, whole.concat()));
                        }
                    }
                }
            }
        }
        regex::Regex::new(&format!("{text})$")).unwrap()
    }

    proptest! {
        #[test]
        fn no_pattern_makes_it_panic(pattern: String, text: String) {
            if let Ok(glob) = Glob::parse(&pattern) {
                let _is_match = glob.is_match(&text);
                prop_assert_eq!(glob.as_str(), pattern);
            }
        }

        #[test]
        fn it_takes_what_a_regular_expression_takes(
            pattern in "([ab*?ü]|\\[\\^?(a|b|ü|a-b|b-a|a-ü)\\]|\\\\[*a\\[]){0,8}",
            text in "[ab*ü\\[]{0,10}",
        ) {
            let glob = Glob::parse(&pattern).unwrap();
            prop_assert_eq!(glob.is_match(&text), reference(&glob).is_match(&text));
        }

        /// A class is the only piece that could take a slash in the place of another sign.
        #[test]
        fn a_slash_ends_what_a_star_takes(pattern in "[ab*?/]{0,8}", text in "[ab/]{0,10}") {
            let glob = Glob::parse(&pattern).unwrap();
            prop_assert_eq!(glob.is_match(&text), reference(&glob).is_match(&text));
        }
    }
}

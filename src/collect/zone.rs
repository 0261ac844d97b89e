//! The host's time zone, from its `/etc/localtime`. Source: RFC 9636 (the file) and POSIX.1-2024, section 8.3 (the rule at its end).

use super::Oddities;
use crate::host::Reader;
use crate::model::time::{civil_from_days, days_from_civil, is_leap};

/// The file as it was read last.
#[derive(Debug, Default)]
pub(super) struct Zone {
    file: Vec<u8>,
}

impl Zone {
    /// Abbreviation and offset to UTC in seconds (positive to the east) at a time in seconds since 1970. A host without the file keeps UTC; of a file that cannot
    /// be read nothing is known.
    pub(super) fn at(&mut self, host: &mut Reader, now: i64, odd: &mut Oddities) -> Option<(&str, i32)> {
        self.file.clear();
        if let Err(error) = host.needs_host_rootfs() {
            odd.tell(&error);
            return None;
        }
        match host.rootfs_linked("etc/localtime") {
            Ok(bytes) => self.file.extend_from_slice(bytes),
            Err(error) if error.is_absent() => return Some(("UTC", 0)),
            Err(error) => {
                odd.tell(&error);
                return None;
            }
        }
        let found = look_up(&self.file, now);
        if found.is_none() {
            odd.tell(&"etc/localtime: no file of a time zone");
        }
        found
    }
}

const HEADER: usize = 44;

/// One of the two blocks of the file: the first has times of four bytes and is there for old readers only.
struct Block<'a> {
    times: &'a [u8],
    indices: &'a [u8],
    types: &'a [u8],
    names: &'a [u8],
    time_size: usize,
}

impl<'a> Block<'a> {
    /// The block at the beginning of `bytes` and what follows it.
    fn of(bytes: &'a [u8], time_size: usize) -> Option<(Self, &'a [u8])> {
        let count = |index: usize| -> Option<usize> {
            let from = 20 + index * 4;
            let bytes = bytes.get(from..from + 4)?.try_into().ok()?;
            usize::try_from(u32::from_be_bytes(bytes)).ok()
        };
        if !bytes.starts_with(b"TZif") {
            return None;
        }
        let (ut, standard, leaps, times, types, names) = (count(0)?, count(1)?, count(2)?, count(3)?, count(4)?, count(5)?);
        let mut rest = bytes.get(HEADER..)?;
        let mut take = |length: Option<usize>| {
            let (taken, behind) = rest.split_at_checked(length?)?;
            rest = behind;
            Some(taken)
        };
        let block = Self {
            times: take(times.checked_mul(time_size))?,
            indices: take(Some(times))?,
            types: take(types.checked_mul(6))?,
            names: take(Some(names))?,
            time_size,
        };
        take(leaps.checked_mul(time_size + 4))?;
        take(Some(standard))?;
        take(Some(ut))?;
        Some((block, rest))
    }

    /// How many changes lie at or before `now`.
    fn passed(&self, now: i64) -> usize {
        let time = |bytes: &[u8]| match bytes {
            [a, b, c, d] => i64::from(i32::from_be_bytes([*a, *b, *c, *d])),
            _ => bytes.try_into().map_or(i64::MAX, i64::from_be_bytes),
        };
        self.times.chunks_exact(self.time_size).take_while(|bytes| time(bytes) <= now).count()
    }

    fn kind(&self, index: u8) -> Option<(&'a str, i32)> {
        let from = usize::from(index) * 6;
        let [a, b, c, d, _, name] = *self.types.get(from..from + 6)? else { return None };
        let name = self.names.get(usize::from(name)..)?.split(|byte| *byte == 0).next()?;
        Some((std::str::from_utf8(name).ok()?, i32::from_be_bytes([a, b, c, d])))
    }
}

fn look_up(file: &[u8], now: i64) -> Option<(&str, i32)> {
    let (first, rest) = Block::of(file, 4)?;
    let (block, rule) = match file.get(4)? {
        0 => (first, None),
        _ => {
            let (second, footer) = Block::of(rest, 8)?;
            let rule = footer.strip_prefix(b"\n").and_then(|footer| footer.split(|byte| *byte == b'\n').next());
            (second, rule.and_then(|rule| std::str::from_utf8(rule).ok()).filter(|rule| !rule.is_empty()))
        }
    };
    let passed = block.passed(now);
    if let Some(rule) = rule.filter(|_| passed == block.indices.len()) {
        return Rule::of(rule).map(|rule| rule.at(now));
    }
    // Before the first change the first type holds.
    let index = passed.checked_sub(1).map_or(Some(0), |last| block.indices.get(last).copied())?;
    block.kind(index)
}

/// `CET-1CEST,M3.5.0,M10.5.0/3`: what holds behind the last change of the file.
#[derive(Debug)]
struct Rule<'a> {
    standard: (&'a str, i32),
    summer: Option<(&'a str, i32, Change, Change)>,
}

/// A moment in every year: a day, and seconds of local time from its beginning.
#[derive(Debug, Clone, Copy)]
struct Change {
    day: Day,
    time: i64,
}

#[derive(Debug, Clone, Copy)]
enum Day {
    /// `Jn`: 1 to 365, the 29th of February never counted.
    Julian(i64),
    /// `n`: 0 to 365.
    OfYear(i64),
    /// `Mm.w.d`: the w-th (5: last) day d (0: Sunday) of month m.
    OfMonth(i64, i64, i64),
}

impl<'a> Rule<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let (name, rest) = name(text)?;
        let (offset, rest) = clock(rest)?;
        let standard = (name, i32::try_from(-offset).ok()?);
        if rest.is_empty() {
            return Some(Self { standard, summer: None });
        }
        let (name, rest) = self::name(rest)?;
        let (offset, rest) = if rest.starts_with(',') { (-i64::from(standard.1) - 3600, rest) } else { clock(rest)? };
        let mut changes = rest.strip_prefix(',')?.splitn(2, ',').map(Change::of);
        Some(Self { standard, summer: Some((name, i32::try_from(-offset).ok()?, changes.next()??, changes.next()??)) })
    }

    fn at(&self, now: i64) -> (&'a str, i32) {
        let Some((name, offset, begin, end)) = self.summer else { return self.standard };
        let year = civil_from_days(now.saturating_add(i64::from(self.standard.1)).div_euclid(86_400)).0;
        let begin = begin.seconds(year).saturating_sub(i64::from(self.standard.1));
        let end = end.seconds(year).saturating_sub(i64::from(offset));
        // South of the equator summer lasts over the end of the year.
        let summer = if begin < end { begin <= now && now < end } else { now < end || begin <= now };
        if summer { (name, offset) } else { self.standard }
    }
}

impl Change {
    fn of(text: &str) -> Option<Self> {
        let (day, time) = text.split_once('/').map_or((text, None), |(day, time)| (day, Some(time)));
        let time = match time {
            None => 7200,
            Some(time) => clock(time).filter(|(_, rest)| rest.is_empty())?.0,
        };
        let number = |text: &str, from: i64, to: i64| text.parse().ok().filter(|number| (from..=to).contains(number));
        let day = if let Some(month) = day.strip_prefix('M') {
            let mut parts = month.split('.');
            Day::OfMonth(number(parts.next()?, 1, 12)?, number(parts.next()?, 1, 5)?, number(parts.next()?, 0, 6)?)
        } else if let Some(day) = day.strip_prefix('J') {
            Day::Julian(number(day, 1, 365)?)
        } else {
            Day::OfYear(number(day, 0, 365)?)
        };
        Some(Self { day, time })
    }

    /// Local seconds since 1970.
    fn seconds(self, year: i64) -> i64 {
        let day = match self.day {
            Day::Julian(day) => days_from_civil(year, 1, 1) + day - 1 + i64::from(is_leap(year) && day >= 60),
            Day::OfYear(day) => days_from_civil(year, 1, 1) + day,
            Day::OfMonth(month, week, weekday) => {
                let first = days_from_civil(year, month, 1);
                // The first of January 1970 was a Thursday.
                let day = first + (weekday - (first + 4)).rem_euclid(7) + (week - 1) * 7;
                let next = if month == 12 { days_from_civil(year + 1, 1, 1) } else { days_from_civil(year, month + 1, 1) };
                if day >= next { day - 7 } else { day }
            }
        };
        day * 86_400 + self.time
    }
}

/// A name of letters, or of anything between `<` and `>`.
fn name(text: &str) -> Option<(&str, &str)> {
    if let Some(quoted) = text.strip_prefix('<') {
        return quoted.split_once('>');
    }
    let end = text.find(|character: char| !character.is_ascii_alphabetic()).unwrap_or(text.len());
    text.split_at_checked(end).filter(|(name, _)| name.len() >= 3)
}

/// `[+-]h[:m[:s]]` in seconds, and what follows.
fn clock(text: &str) -> Option<(i64, &str)> {
    let end = text.find(|character: char| !matches!(character, '0'..='9' | ':' | '+' | '-')).unwrap_or(text.len());
    let (clock, rest) = text.split_at_checked(end)?;
    let (sign, clock) = match clock.strip_prefix('-') {
        Some(clock) => (-1, clock),
        None => (1, clock.strip_prefix('+').unwrap_or(clock)),
    };
    let mut seconds = 0;
    for (part, unit) in clock.splitn(3, ':').zip([3600, 60, 1]) {
        let part: i64 = part.parse().ok().filter(|part| (0..=167).contains(part))?;
        seconds += part * unit;
    }
    Some((sign * seconds, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(rule: &str, now: i64) -> (String, i32) {
        let (name, offset) = Rule::of(rule).unwrap().at(now);
        (name.to_owned(), offset)
    }

    /// The moments are those that `date --date=@N` gives, in each of the zones.
    #[test]
    fn rules() {
        let berlin = "CET-1CEST,M3.5.0,M10.5.0/3";
        assert_eq!(at(berlin, 1_774_745_999), ("CET".into(), 3600));
        assert_eq!(at(berlin, 1_774_746_000), ("CEST".into(), 7200));
        assert_eq!(at(berlin, 1_792_889_999), ("CEST".into(), 7200));
        assert_eq!(at(berlin, 1_792_890_000), ("CET".into(), 3600));
        let sydney = "AEST-10AEDT,M10.1.0,M4.1.0/3";
        assert_eq!(at(sydney, 1_767_225_600), ("AEDT".into(), 39_600));
        assert_eq!(at(sydney, 1_782_864_000), ("AEST".into(), 36_000));
        assert_eq!(at("<+0545>-5:45", 0), ("+0545".into(), 20_700));
        assert_eq!(at("EST5EDT,M3.2.0,M11.1.0", 1_782_864_000), ("EDT".into(), -14_400));
        assert_eq!(at("UTC0", 0), ("UTC".into(), 0));
    }

    /// A file of version 2 with one change: `A` (UTC+1) until 100, `B` (UTC+2) until 200, then the rule.
    fn file(rule: &str) -> Vec<u8> {
        let mut file = Vec::new();
        for time_size in [4, 8] {
            file.extend_from_slice(b"TZif2");
            file.extend_from_slice(&[0; 15]);
            for count in [0u32, 0, 0, 2, 2, 4] {
                file.extend_from_slice(&count.to_be_bytes());
            }
            for time in [100i64, 200] {
                file.extend_from_slice(&time.to_be_bytes()[8 - time_size..]);
            }
            file.extend_from_slice(&[1, 0]);
            for (offset, name) in [(3600i32, 0u8), (7200, 2)] {
                file.extend_from_slice(&offset.to_be_bytes());
                file.extend_from_slice(&[0, name]);
            }
            file.extend_from_slice(b"A\0B\0");
        }
        file.extend_from_slice(format!("\n{rule}\n").as_bytes());
        file
    }

    #[test]
    fn files() {
        let with_rule = file("XYZ-3");
        assert_eq!(look_up(&with_rule, 99), Some(("A", 3600)));
        assert_eq!(look_up(&with_rule, 100), Some(("B", 7200)));
        assert_eq!(look_up(&with_rule, 200), Some(("XYZ", 10_800)));
        assert_eq!(look_up(&file(""), 300), Some(("A", 3600)));
        assert_eq!(look_up(b"no zone", 0), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, cut in 0usize..200, flip in 0usize..200, text in "[A-Z<>0-9,./:+-]{0,40}", now: i64) {
            let mut mutated = file("CET-1CEST,M3.5.0,M10.5.0/3");
            if let Some(byte) = mutated.get_mut(flip) {
                *byte ^= 0xff;
            }
            mutated.truncate(cut.max(20));
            let now = now >> 16;
            let _ = (look_up(&bytes, now), look_up(&mutated, now), look_up(&file(&text), now));
        }
    }
}

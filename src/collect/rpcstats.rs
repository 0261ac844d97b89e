//! What `net/rpc/nfs` and `net/rpc/nfsd` have in common: lines of a word and numbers. Sources: the kernel's `net/sunrpc/stats.c`, `fs/nfsd/stats.c`.

use super::Oddities;
use crate::exposition::Writer;
use crate::host::parse;
use crate::model::Kind;

/// A family, and where its samples stand.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
    pub(super) cells: &'static [Cell],
}

/// A number: the word of its line, how many numbers stand before it, the labels of its sample.
pub(super) type Cell = (&'static str, usize, &'static [(&'static str, &'static str)]);

/// A line that counts the calls of each procedure of a protocol. Its first number says how many follow.
pub(super) struct Procedures {
    pub(super) word: &'static str,
    pub(super) proto: &'static str,
    /// In the order of the protocol; one without a name is not exported.
    pub(super) names: &'static [&'static str],
}

/// The lines of a file that somebody asks for, each with its word and the numbers behind it.
pub(super) struct Lines<'a>(Vec<(&'a [u8], Vec<u64>)>);

impl<'a> Lines<'a> {
    /// Reads the file. A line with a word that nobody knows is a newer kernel's, and passed over (`wdeleg_getattr` made a whole collector fail in node_exporter
    /// 1.5.0). `more` are cells beside those of the families. A line that has fewer numbers than are asked of it, or another number of procedures than it says, is told and left out.
    pub(super) fn of(
        file: &str,
        bytes: &'a [u8],
        (families, more): (&[Family], &[Cell]),
        procedures: &[Procedures],
        odd: &mut Oddities,
    ) -> Self {
        let mut known: Vec<(&[u8], Vec<u64>)> = Vec::new();
        for line in parse::lines(bytes) {
            let mut fields = parse::fields(line);
            let Some(word) = fields.next() else { continue };
            let cells = || families.iter().flat_map(|family| family.cells).chain(more).filter(|(of, ..)| of.as_bytes() == word);
            let counts = procedures.iter().any(|procedures| procedures.word.as_bytes() == word);
            let Some(least) = cells().map(|(_, index, _)| index + 1).max().or(counts.then_some(1)) else { continue };
            // What comes behind the last whole number (the fractions of `th`) is of no use to anybody.
            let fields: Vec<&[u8]> = fields.collect();
            let numbers: Vec<u64> = fields.iter().map_while(|field| parse::unsigned(field)).collect();
            let whole =
                !counts || numbers.split_first().is_some_and(|(count, rest)| *count == rest.len() as u64 && rest.len() + 1 == fields.len());
            if numbers.len() < least || !whole || known.iter().any(|(before, _)| *before == word) {
                odd.line(file, line);
            } else {
                known.push((word, numbers));
            }
        }
        Self(known)
    }

    fn numbers(&self, word: &str) -> Option<&[u64]> {
        self.0.iter().find(|(known, _)| *known == word.as_bytes()).map(|(_, numbers)| &**numbers)
    }

    /// Writes the families whose lines are there.
    pub(super) fn write(&self, families: &[Family], out: &mut Writer) {
        for Family { name, kind, help, cells } in families {
            let mut family = out.family(name, *kind, help);
            for (word, index, labels) in *cells {
                if let Some(number) = self.numbers(word).and_then(|numbers| numbers.get(*index)) {
                    family.sample(labels, *number);
                }
            }
        }
    }

    /// Writes how often each procedure was called, and `more`, which stand in lines of their own. A procedure that an older kernel does not know was never
    /// called; a protocol whose line is missing is left out.
    pub(super) fn write_procedures(&self, name: &str, help: &str, procedures: &[Procedures], more: &[Cell], out: &mut Writer) {
        let mut family = out.family(name, Kind::Counter, help);
        for Procedures { word, proto, names } in procedures {
            let Some(numbers) = self.numbers(word) else { continue };
            let mut counts = numbers.iter().skip(1);
            for method in *names {
                let count = counts.next().copied().unwrap_or(0);
                if !method.is_empty() {
                    family.sample(&[("proto", proto), ("method", method)], count);
                }
            }
        }
        for (word, index, labels) in more {
            if let Some(number) = self.numbers(word).and_then(|numbers| numbers.get(*index)) {
                family.sample(labels, *number);
            }
        }
    }
}

/// The procedures of NFS 2 (RFC 1094), `Null` first.
pub(super) const V2: [&str; 18] = [
    "Null", "GetAttr", "SetAttr", "Root", "Lookup", "ReadLink", "Read", "WrCache", "Write", "Create", "Remove", "Rename", "Link",
    "SymLink", "MkDir", "RmDir", "ReadDir", "FsStat",
];

/// Those of NFS 3 (RFC 1813).
pub(super) const V3: [&str; 22] = [
    "Null",
    "GetAttr",
    "SetAttr",
    "Lookup",
    "Access",
    "ReadLink",
    "Read",
    "Write",
    "Create",
    "MkDir",
    "SymLink",
    "MkNod",
    "Remove",
    "RmDir",
    "Rename",
    "Link",
    "ReadDir",
    "ReadDirPlus",
    "FsStat",
    "FsInfo",
    "PathConf",
    "Commit",
];

//! What is read of a cgroup only where it was asked for: huge pages, pages by NUMA node, the settings of cpusets.
//!
//! Sources: `hugetlb`, `memory.numa_stat` and `cpuset.memory_migrate` in Documentation/admin-guide/cgroup-v1 and cgroup-v2 of the kernel.

use super::fields::{number, number_or_max};
use super::{Group, Tree};
use crate::host::parse::{fields, lines, split, unsigned};
use crate::host::{ReadError, Reader};

/// Which of them are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Huge pages.
    pub hugetlb: bool,
    /// Pages by NUMA node.
    pub numa: bool,
    /// Settings of cpusets.
    pub cpuset: bool,
}

/// What they say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extras {
    /// By size of page.
    pub hugetlb: Vec<HugePages>,
    /// By kind of page and node.
    pub numa: Vec<NumaPages>,
    /// Whether pages move along when the nodes that are allowed change; v1 only, for under v2 they always do.
    pub memory_migrate: Option<u64>,
    /// Files that could not be read or understood, and the first of them.
    pub oddities: u64,
    /// The first of them, in a sentence.
    pub example: String,
}

/// Huge pages of one size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HugePages {
    /// As the kernel names it: `2MB`, `1GB`.
    pub size: String,
    /// Bytes in use; not those that are only reserved.
    pub usage: Option<u64>,
    /// Bytes; v1 only.
    pub max_usage: Option<u64>,
    /// How often the limit was hit: v1 `failcnt`, v2 the events `max`.
    pub failures: Option<u64>,
}

/// Pages of one kind on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumaPages {
    /// `file`, `anon` or `unevictable`.
    pub kind: &'static str,
    /// Whether those of cgroups below are counted too.
    pub hierarchy: bool,
    /// The node.
    pub node: u32,
    /// Pages of the machine's size.
    pub pages: u64,
}

const KINDS: [&str; 3] = ["file", "anon", "unevictable"];

/// The sizes of huge pages that a machine has, as the names of cgroup files have them. They do not change while it runs.
#[must_use]
pub fn huge_page_sizes(host: &Reader) -> Vec<String> {
    let names = host.sys_numbered("kernel/mm/hugepages", "hugepages-").unwrap_or_default();
    names.iter().filter_map(|name| Some(size_name(unsigned(name.strip_prefix("hugepages-")?.strip_suffix("kB")?.as_bytes())?))).collect()
}

/// As the kernel's `hugetlb_cgroup.c` writes it.
fn size_name(kibibytes: u64) -> String {
    match kibibytes {
        1_048_576.. => format!("{}GB", kibibytes >> 20),
        1024.. => format!("{}MB", kibibytes >> 10),
        _ => format!("{kibibytes}KB"),
    }
}

impl Group {
    /// Reads what is `wanted` into `extras`, replacing what was there. What a kernel has not got stays empty.
    pub fn read_extras(&self, host: &mut Reader, wanted: Wanted, huge_pages: &[String], extras: &mut Extras) {
        *extras = Extras::default();
        let is_v2 = self.is_v2;
        if wanted.hugetlb {
            for size in huge_pages {
                let name = |rest: &str| format!("hugetlb.{size}.{rest}");
                let pages = if is_v2 {
                    HugePages {
                        size: size.clone(),
                        usage: self.extra(host, Tree::Hugetlb, &name("current"), extras, number),
                        max_usage: None,
                        failures: self.extra(host, Tree::Hugetlb, &name("events"), extras, events_max),
                    }
                } else {
                    HugePages {
                        size: size.clone(),
                        usage: self.extra(host, Tree::Hugetlb, &name("usage_in_bytes"), extras, number),
                        max_usage: self.extra(host, Tree::Hugetlb, &name("max_usage_in_bytes"), extras, number),
                        failures: self.extra(host, Tree::Hugetlb, &name("failcnt"), extras, number),
                    }
                };
                extras.hugetlb.push(pages);
            }
        }
        if wanted.numa {
            let tree = if is_v2 { Tree::Unified } else { Tree::Memory };
            let parse = if is_v2 { numa_v2 } else { numa_v1 };
            extras.numa = self.extra(host, tree, "memory.numa_stat", extras, parse).unwrap_or_default();
        }
        if wanted.cpuset && !is_v2 {
            extras.memory_migrate = self.extra(host, Tree::Cpuset, "cpuset.memory_migrate", extras, number);
        }
    }

    fn extra<T>(&self, host: &mut Reader, tree: Tree, name: &str, extras: &mut Extras, parse: fn(&[u8]) -> Option<T>) -> Option<T> {
        let trees = self.layout.trees();
        let tree = trees.get(tree as usize).copied().flatten()?;
        let mut odd = |what: &dyn std::fmt::Display| {
            extras.oddities += 1;
            if extras.oddities == 1 {
                extras.example = what.to_string();
            }
        };
        match host.within(tree, &self.relative, name) {
            Ok(bytes) => {
                let found = parse(bytes);
                if found.is_none() {
                    odd(&format_args!("{}: nothing in it can be understood", tree.join(&self.relative).join(name).display()));
                }
                found
            }
            Err(error) => {
                if !ReadError::is_absent(&error) {
                    odd(&error);
                }
                None
            }
        }
    }
}

/// `max 3`.
fn events_max(bytes: &[u8]) -> Option<u64> {
    lines(bytes).find_map(|line| {
        let mut fields = fields(line);
        fields.next().filter(|key| *key == b"max").and(fields.next()).and_then(number_or_max)
    })
}

/// `file=664 N0=600 N1=64`, and `hierarchical_file=...` where those below are counted too. In pages.
fn numa_v1(bytes: &[u8]) -> Option<Vec<NumaPages>> {
    let mut found = Vec::new();
    for line in lines(bytes) {
        let mut fields = fields(line);
        let Some((name, _)) = fields.next().and_then(|field| split(field, b'=')) else { continue };
        let (own, hierarchy) = name.strip_prefix(b"hierarchical_").map_or((name, false), |rest| (rest, true));
        let Some(kind) = kind_of(own) else { continue };
        nodes(fields, |node, pages| push(&mut found, NumaPages { kind, hierarchy, node, pages }));
    }
    (!found.is_empty()).then_some(found)
}

/// `file N0=2457600 N1=0`, in bytes, always with those below: of a container there are none, so both scopes are the same.
fn numa_v2(bytes: &[u8]) -> Option<Vec<NumaPages>> {
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    let mut found = Vec::new();
    for line in lines(bytes) {
        let mut fields = fields(line);
        let Some(kind) = fields.next().and_then(kind_of) else { continue };
        nodes(fields, |node, bytes| {
            for hierarchy in [false, true] {
                push(&mut found, NumaPages { kind, hierarchy, node, pages: bytes.checked_div(page).unwrap_or_default() });
            }
        });
    }
    (!found.is_empty()).then_some(found)
}

fn kind_of(name: &[u8]) -> Option<&'static str> {
    KINDS.into_iter().find(|kind| kind.as_bytes() == name)
}

/// `N0=600`; what is none of these is passed over.
fn nodes<'a>(fields: impl Iterator<Item = &'a [u8]>, mut take: impl FnMut(u32, u64)) {
    for field in fields {
        let Some((node, value)) = field.strip_prefix(b"N").and_then(|rest| split(rest, b'=')) else { continue };
        if let (Some(node), Some(value)) = (unsigned(node).and_then(|node| u32::try_from(node).ok()), unsigned(value)) {
            take(node, value);
        }
    }
}

/// A node that a line names twice is taken once: two samples of one identity would cost the whole answer.
fn push(found: &mut Vec<NumaPages>, new: NumaPages) {
    if !found.iter().any(|known| (known.kind, known.hierarchy, known.node) == (new.kind, new.hierarchy, new.node)) {
        found.push(new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_named_as_the_files() {
        let names: Vec<String> = [64, 2048, 32_768, 1_048_576, 16_777_216].into_iter().map(size_name).collect();
        assert_eq!(names, ["64KB", "2MB", "32MB", "1GB", "16GB"]);
    }

    #[test]
    fn nodes_of_v1() {
        let text = b"total=9 N0=9\nfile=5 N0=4 N1=1\nanon=2 N0=2 Nx=1 N1=\nunevictable=0 N0=0 N0=7\nhierarchical_file=6 N0=6\nodd\n=\n";
        let pages = |kind, hierarchy, node, pages| NumaPages { kind, hierarchy, node, pages };
        let expected = [
            pages("file", false, 0, 4),
            pages("file", false, 1, 1),
            pages("anon", false, 0, 2),
            pages("unevictable", false, 0, 0),
            pages("file", true, 0, 6),
        ];
        assert_eq!(numa_v1(text).unwrap(), expected);
        assert_eq!((numa_v1(b""), numa_v1(b"total=1 N0=1\n")), (None, None));
    }

    #[test]
    fn nodes_of_v2() {
        let page = u64::try_from(rustix::param::page_size()).unwrap();
        let text = format!("anon N0={} N1=0\nfile N0\nkernel_stack N0=16384\nunevictable N0=x\n", page * 3);
        let found = numa_v2(text.as_bytes()).unwrap();
        let shown: Vec<(&str, bool, u32, u64)> = found.iter().map(|of| (of.kind, of.hierarchy, of.node, of.pages)).collect();
        assert_eq!(shown, [("anon", false, 0, 3), ("anon", true, 0, 3), ("anon", false, 1, 0), ("anon", true, 1, 0)]);
    }

    #[test]
    fn events() {
        assert_eq!(
            (events_max(b"max 3\n"), events_max(b"min 1\nmax 2\n"), events_max(b"max\n"), events_max(b"")),
            (Some(3), Some(2), None, None)
        );
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_are_a_fault(bytes: Vec<u8>, text in "(file|anon|hierarchical_anon)?[ =N0-9x\n]{0,60}") {
            for bytes in [&*bytes, text.as_bytes()] {
                for parse in [numa_v1, numa_v2] {
                    for found in parse(bytes).into_iter().flatten() {
                        proptest::prop_assert!(KINDS.contains(&found.kind));
                    }
                }
                events_max(bytes);
            }
        }

        #[test]
        fn pages_are_read_back(pages in proptest::collection::vec(0u64..1 << 40, 1..8)) {
            let line: String = pages.iter().enumerate().map(|(node, pages)| format!(" N{node}={pages}")).collect();
            let found = numa_v1(format!("anon=1{line}\n").as_bytes()).unwrap();
            proptest::prop_assert_eq!(found.iter().map(|of| of.pages).collect::<Vec<_>>(), pages);
        }
    }
}

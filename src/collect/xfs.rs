//! `node_xfs_*` from `/sys/fs/xfs/<device>/stats/stats`. Sources: the kernel's `fs/xfs/xfs_stats.c`, which writes the lines, and `xfs_stats.h`, which has their order.

use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::host::parse;
use crate::model::{Kind, LabelSet};
use crate::present;

pub(super) const ENTRY: Entry = entry!("xfs", on, &[], |_| Ok(Box::new(Xfs { rows: Vec::new() })));

/// A line of the file: its first word, and the name and help of its numbers as far as they are exported.
type Line = (&'static [u8], &'static [(&'static str, &'static str)]);

/// The lines that are exported. The kernel writes more numbers at the ends of some, and more lines.
const LINES: &[Line] = &[
    (
        b"extent_alloc",
        &[
            ("node_xfs_extent_allocation_extents_allocated_total", "Number of extents allocated for a filesystem."),
            ("node_xfs_extent_allocation_blocks_allocated_total", "Number of blocks allocated for a filesystem."),
            ("node_xfs_extent_allocation_extents_freed_total", "Number of extents freed for a filesystem."),
            ("node_xfs_extent_allocation_blocks_freed_total", "Number of blocks freed for a filesystem."),
        ],
    ),
    (
        b"abt",
        &[
            ("node_xfs_allocation_btree_lookups_total", "Number of allocation B-tree lookups for a filesystem."),
            ("node_xfs_allocation_btree_compares_total", "Number of allocation B-tree compares for a filesystem."),
            ("node_xfs_allocation_btree_records_inserted_total", "Number of allocation B-tree records inserted for a filesystem."),
            ("node_xfs_allocation_btree_records_deleted_total", "Number of allocation B-tree records deleted for a filesystem."),
        ],
    ),
    (
        b"blk_map",
        &[
            ("node_xfs_block_mapping_reads_total", "Number of block map for read operations for a filesystem."),
            ("node_xfs_block_mapping_writes_total", "Number of block map for write operations for a filesystem."),
            ("node_xfs_block_mapping_unmaps_total", "Number of block unmaps (deletes) for a filesystem."),
            ("node_xfs_block_mapping_extent_list_insertions_total", "Number of extent list insertions for a filesystem."),
            ("node_xfs_block_mapping_extent_list_deletions_total", "Number of extent list deletions for a filesystem."),
            ("node_xfs_block_mapping_extent_list_lookups_total", "Number of extent list lookups for a filesystem."),
            ("node_xfs_block_mapping_extent_list_compares_total", "Number of extent list compares for a filesystem."),
        ],
    ),
    (
        b"bmbt",
        &[
            ("node_xfs_block_map_btree_lookups_total", "Number of block map B-tree lookups for a filesystem."),
            ("node_xfs_block_map_btree_compares_total", "Number of block map B-tree compares for a filesystem."),
            ("node_xfs_block_map_btree_records_inserted_total", "Number of block map B-tree records inserted for a filesystem."),
            ("node_xfs_block_map_btree_records_deleted_total", "Number of block map B-tree records deleted for a filesystem."),
        ],
    ),
    (
        b"dir",
        &[
            (
                "node_xfs_directory_operation_lookup_total",
                "Number of file name directory lookups which miss the operating systems directory name lookup cache.",
            ),
            ("node_xfs_directory_operation_create_total", "Number of times a new directory entry was created for a filesystem."),
            ("node_xfs_directory_operation_remove_total", "Number of times an existing directory entry was created for a filesystem."),
            (
                "node_xfs_directory_operation_getdents_total",
                "Number of times the directory getdents operation was performed for a filesystem.",
            ),
        ],
    ),
    (
        b"ig",
        &[
            ("node_xfs_inode_operation_attempts_total", "Number of times the OS looked for an XFS inode in the inode cache."),
            ("node_xfs_inode_operation_found_total", "Number of times the OS looked for and found an XFS inode in the inode cache."),
            (
                "node_xfs_inode_operation_recycled_total",
                "Number of times the OS found an XFS inode in the cache, but could not use it as it was being recycled.",
            ),
            ("node_xfs_inode_operation_missed_total", "Number of times the OS looked for an XFS inode in the cache, but did not find it."),
            (
                "node_xfs_inode_operation_duplicates_total",
                "Number of times the OS tried to add a missing XFS inode to the inode cache, but found it had already been added by another process.",
            ),
            (
                "node_xfs_inode_operation_reclaims_total",
                "Number of times the OS reclaimed an XFS inode from the inode cache to free memory for another purpose.",
            ),
            (
                "node_xfs_inode_operation_attribute_changes_total",
                "Number of times the OS explicitly changed the attributes of an XFS inode.",
            ),
        ],
    ),
    // What is written stands before what is read.
    (
        b"rw",
        &[
            ("node_xfs_write_calls_total", "Number of write(2) system calls made to files in a filesystem."),
            ("node_xfs_read_calls_total", "Number of read(2) system calls made to files in a filesystem."),
        ],
    ),
    (
        b"vnodes",
        &[
            ("node_xfs_vnode_active_total", "Number of vnodes not on free lists for a filesystem."),
            ("node_xfs_vnode_allocate_total", "Number of times vn_alloc called for a filesystem."),
            ("node_xfs_vnode_get_total", "Number of times vn_get called for a filesystem."),
            ("node_xfs_vnode_hold_total", "Number of times vn_hold called for a filesystem."),
            ("node_xfs_vnode_release_total", "Number of times vn_rele called for a filesystem."),
            ("node_xfs_vnode_reclaim_total", "Number of times vn_reclaim called for a filesystem."),
            ("node_xfs_vnode_remove_total", "Number of times vn_remove called for a filesystem."),
        ],
    ),
];

/// More numbers than any line of [`LINES`] exports.
const MOST: usize = 7;

type Numbers = [[Option<u64>; MOST]; LINES.len()];

struct Xfs {
    rows: Vec<Row>,
}

/// A mounted file system, and what was read of it last.
struct Row {
    device: String,
    file: String,
    labels: LabelSet,
    numbers: Option<Numbers>,
}

impl Collector for Xfs {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let names = present!(pass.host.sys_names("fs/xfs"));
        let (host, out, odd) = pass.split();
        if !self.rows.iter().map(|row| &row.device).eq(&names) {
            self.rows = names.into_iter().map(Row::of).collect();
        }
        for row in &mut self.rows {
            row.numbers = match host.sys(&row.file) {
                Ok(bytes) => Some(read(bytes, |line| odd.line(&row.file, line))),
                // `stats` itself, which sums over all file systems, and `debug` have no such file; nor has one that was just unmounted.
                Err(error) if error.is_absent() => None,
                Err(error) => {
                    odd.tell(&error);
                    None
                }
            };
        }
        if self.rows.iter().all(|row| row.numbers.is_none()) {
            return Ok(Presence::Absent);
        }
        for (line, (_, families)) in LINES.iter().enumerate() {
            for (column, (name, help)) in families.iter().enumerate() {
                let mut family = out.family(name, Kind::Counter, help);
                for row in &self.rows {
                    let number = row.numbers.as_ref().and_then(|lines| *lines.get(line)?.get(column)?);
                    if let Some(number) = number {
                        family.sample_of(&row.labels, &[], number);
                    }
                }
            }
        }
        Ok(Presence::Present)
    }
}

impl Row {
    fn of(device: String) -> Self {
        Self { file: format!("fs/xfs/{device}/stats/stats"), labels: LabelSet::of([("device", &*device)]), device, numbers: None }
    }
}

/// The numbers of a file. A number that is none, or that an exported line lacks, costs what is behind it in its line, and the line is told to `odd`.
fn read(bytes: &[u8], mut odd: impl FnMut(&[u8])) -> Numbers {
    let mut numbers = [[None; MOST]; LINES.len()];
    for line in parse::lines(bytes) {
        let mut fields = parse::fields(line);
        let word = fields.next();
        let Some(which) = LINES.iter().position(|(known, _)| word == Some(known)) else { continue };
        let (Some((_, families)), Some(slots)) = (LINES.get(which), numbers.get_mut(which)) else { continue };
        for slot in slots.iter_mut().take(families.len()) {
            *slot = fields.next().and_then(parse::unsigned);
            if slot.is_none() {
                odd(line);
                break;
            }
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_line_has_more_than_its_slots() {
        assert!(LINES.iter().all(|(_, families)| families.len() <= MOST));
        assert_eq!(LINES.iter().map(|(_, families)| families.len()).sum::<usize>(), 39);
    }

    #[test]
    fn a_short_line_keeps_what_it_has() {
        let mut odd = 0;
        let numbers = read(b"rw 7 9 11\ndir 1 2 x 4\nabt\nxpc 1 2 3\nnew -1\n", |_| odd += 1);
        let line = |word: &[u8]| numbers[LINES.iter().position(|(known, _)| *known == word).unwrap()];
        assert_eq!(line(b"rw")[..3], [Some(7), Some(9), None]);
        assert_eq!(line(b"dir")[..4], [Some(1), Some(2), None, None]);
        assert_eq!((odd, line(b"abt")[0]), (2, None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, text in "((rw|dir|ig|vnodes)( [0-9x]{0,22}){0,9}\n){0,5}") {
            let _ = (read(&bytes, |_| ()), read(text.as_bytes(), |_| ()));
        }
    }
}

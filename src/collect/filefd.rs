//! `node_filefd_*` from `/proc/sys/fs/file-nr`: allocated, free (always 0 since 2.6) and the most there may be.
//! Source: the kernel's `Documentation/admin-guide/sysctl/fs.rst`.

use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::host::parse;
use crate::present;

pub(super) const ENTRY: Entry = entry!("filefd", on, &[], |_| Ok(Box::new(FileDescriptors)));

struct FileDescriptors;

impl Collector for FileDescriptors {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let bytes = present!(host.proc("sys/fs/file-nr"));
        let mut fields = parse::fields(parse::trimmed(bytes));
        let allocated = fields.next().and_then(parse::unsigned);
        let maximum = fields.nth(1).and_then(parse::unsigned);
        if let Some(allocated) = allocated {
            out.gauge("node_filefd_allocated", "File descriptor statistics: allocated.", allocated);
        }
        if let Some(maximum) = maximum {
            out.gauge("node_filefd_maximum", "File descriptor statistics: maximum.", maximum);
        }
        if allocated.is_none() || maximum.is_none() {
            odd.line("sys/fs/file-nr", bytes);
        }
        Ok(Presence::Present)
    }
}
